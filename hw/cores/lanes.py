"""Payloads that the PE array, the scale bank and their neighbours share."""

from amaranth.hdl import ShapeLike, signed, unsigned
from amaranth.lib import data

from hw.config import ConfigError
from hw.constants import DOT_BITS, SUM_BITS

#: Independent sums of one row and step: channels of a value step, scale pairs of one beat.
LANES = 4


def lanes_layout(rows: int, lanes: int = LANES) -> data.ArrayLayout:
    """``[row][lane]``: the sums ``a`` and ``b`` of every lane of every row."""
    lane = data.StructLayout({"a": signed(DOT_BITS), "b": signed(SUM_BITS)})
    return data.ArrayLayout(data.ArrayLayout(lane, lanes), rows)


def tagged_payload(fields: dict[str, ShapeLike], tag_bits: int) -> data.StructLayout:
    """``fields``, then a ``tag`` of ``tag_bits`` bits.

    Raises
    ------
    ConfigError
        ``tag_bits`` is not an integer of at least 1.
    """
    if isinstance(tag_bits, bool) or not isinstance(tag_bits, int) or tag_bits < 1:
        raise ConfigError(f"tag_bits must be an integer of at least 1, not {tag_bits!r}")
    return data.StructLayout({**fields, "tag": unsigned(tag_bits)})
