"""Power of two of a fraction, the only transcendental function of the datapath."""

from amaranth.hdl import Array, Const, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.constants import EXP2_FRACTION, EXP2_OFFSET, EXP2_SEGMENTS, EXP2_SLOPE, SCORE_FRACTION

#: Low bits of the fraction, which run within one segment.
_STEP_BITS = SCORE_FRACTION - (EXP2_SEGMENTS - 1).bit_length()


class Exp2(wiring.Component):
    """``2**f`` of a fraction f in [0, 1), piecewise linear over 16 segments.

    Combinational: a latency of zero cycles, one value at any time. Two table look-ups, an 11 x 8
    bit multiplier and an adder. The largest relative error is below 6e-4; a larger f never has a
    smaller result.

    Members
    -------
    fraction : In(12)
        f, in units of 2**-12.
    power : Out(15)
        ``2**f``, in units of 2**-14: from 16384 (one) to 32758.
    """

    def __init__(self) -> None:
        super().__init__({"fraction": In(SCORE_FRACTION), "power": Out(EXP2_FRACTION + 1)})

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        segment, step = self.fraction[_STEP_BITS:], self.fraction[:_STEP_BITS]
        offset = Array(Const(value, EXP2_FRACTION + 1) for value in EXP2_OFFSET)[segment]
        slope = Array(Const(value, max(EXP2_SLOPE).bit_length()) for value in EXP2_SLOPE)[segment]
        m.d.comb += self.power.eq(offset + ((slope * step) >> _STEP_BITS))
        return m
