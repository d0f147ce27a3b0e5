"""Mask expansion: packed codes of the kept channels become one code per channel."""

from amaranth.hdl import Array, Const, Module, Mux
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.arithmetic import counts_before


class MaskExpand(wiring.Component):
    """Combinational. Channel ``i`` gets code number ``popcount(mask[:i])`` if kept, else 0.

    Channels beyond the ``keep`` first set mask bits get code 0; a well-formed record has none.

    Parameters
    ----------
    channels : int
        Bits of the mask, at least 1.
    keep : int
        Codes that are packed, 1 to ``channels``.
    code_bits : int
        Bits of one code, at least 1.

    Members
    -------
    mask, codes : in
    expanded : out, ``channels`` codes

    Raises
    ------
    ValueError
        A parameter is out of range.
    """

    def __init__(self, *, channels: int, keep: int, code_bits: int) -> None:
        if channels < 1:
            raise ValueError(f"channels must be at least 1, not {channels!r}")
        if code_bits < 1:
            raise ValueError(f"code_bits must be at least 1, not {code_bits!r}")
        if not 1 <= keep <= channels:
            raise ValueError(f"keep must be 1 to {channels}, not {keep!r}")
        self._keep = keep
        super().__init__(
            {
                "mask": In(channels),
                "codes": In(data.ArrayLayout(code_bits, keep)),
                "expanded": Out(data.ArrayLayout(code_bits, channels)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        ranks = counts_before(m, self.mask)
        # An overfull mask reads the zero behind the last code.
        codes = Array([self.codes[k] for k in range(self._keep)] + [Const(0)])
        for channel, kept in enumerate(self.mask):
            m.d.comb += self.expanded[channel].eq(Mux(kept, codes[ranks[channel]], 0))
        return m
