"""Payloads that the PE array, the scale bank and their neighbours share."""

from amaranth.hdl import ShapeLike, signed, unsigned
from amaranth.lib import data

from hw.config import AttentionConfig, ConfigError
from hw.constants import DOT_BITS, PROBABILITY_MAX

#: Independent sums of one row and step: channels of a value step, scale pairs of one beat.
LANES = 4


#: Tokens of the longest chunk.
_MOST_TOKENS = 16


def second_sum_bits(config: AttentionConfig) -> int:
    """Signed bits of ``b``: the step ratio times the probabilities of the longest chunk."""
    return 1 + (config.value_step_ratio * _MOST_TOKENS * PROBABILITY_MAX).bit_length()


def lanes_layout(config: AttentionConfig, lanes: int = LANES) -> data.ArrayLayout:
    """``[row][lane]``: the sums ``a`` and ``b`` of every lane of every row."""
    lane = data.StructLayout({"a": signed(DOT_BITS), "b": signed(second_sum_bits(config))})
    return data.ArrayLayout(data.ArrayLayout(lane, lanes), config.rows)


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
