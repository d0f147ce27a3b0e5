"""Probability and value weight of one score: the arithmetic pipeline of the softmax."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.arithmetic import shift_right_half_up
from hw.constants import (
    EXP2_FRACTION,
    MAXIMUM_BITS,
    OPERAND_BITS,
    PROBABILITY_FRACTION,
    SCORE_BITS,
    SCORE_FRACTION,
)
from hw.cores.exp2 import Exp2
from hw.cores.score_collector import EXPONENT_BITS, MANTISSA_FRACTION

#: From this distance to the unit exponent on every probability is 0: the power is below 2**15 and
#: is shifted by 15 + 2.
_FAR = 15


class Probability(wiring.Component):
    """``p = 2**(score - exponent)`` of a token and its weight ``w = p * value scale``.

    Latency: 3 cycles to ``probability``, 5 to ``weight``, counting only cycles with ``advance``
    high; one token per such cycle. Neither needs a clamp to 4095: the largest power, 32758, is
    rounded to 4095 when it is halved once, and the largest mantissa leaves ``p`` as it is.

    Members
    -------
    advance : In(1)
        Moves the pipeline by a stage; without it nothing changes.
    score : In(signed(24))
        In units of 2**-12.
    present : In(1)
        Low for an absent token, whose probability is 0.
    exponent : In(signed(13))
        Exponent of the unit and row; of a present token above the score's integer part.
    mantissa : In(12)
        Value scale, in units of 2**-11: the significand of an FP16 number, or 2**11.
    drop : In(5)
        How far the exponent of the value scale lies below the unit's largest.
    probability : Out(12), weight : Out(12)
        In units of 2**-12 times two to the ``exponent``.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "advance": In(1),
                "score": In(signed(SCORE_BITS)),
                "present": In(1),
                "exponent": In(signed(MAXIMUM_BITS)),
                "mantissa": In(MANTISSA_FRACTION + 1),
                "drop": In(EXPONENT_BITS),
                "probability": Out(OPERAND_BITS),
                "weight": Out(OPERAND_BITS),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.submodules.exp2 = exp2 = Exp2()

        def delayed(value: Signal, cycles: int) -> Signal:
            for cycle in range(cycles):
                later = Signal.like(value, name=f"{value.name}_{cycle + 1}")
                with m.If(self.advance):
                    m.d.sync += later.eq(value)
                value = later
            return value

        # A present token lies at least 1 below the unit exponent: the difference is not negative.
        distance = (self.exponent - self.score[SCORE_FRACTION:].as_signed()).as_unsigned()
        fraction = Signal(SCORE_FRACTION)
        halvings = Signal(range(_FAR + 1))
        power = Signal(EXP2_FRACTION + 1)
        shift = delayed(halvings, 1) + (EXP2_FRACTION - PROBABILITY_FRACTION)
        rounded = shift_right_half_up(power, shift)
        product = Signal(OPERAND_BITS + MANTISSA_FRACTION + 1)
        # One bit below the weight decides the rounding.
        doubled = Signal(OPERAND_BITS + 1)
        aligned = product >> (MANTISSA_FRACTION - 1)
        m.d.comb += exp2.fraction.eq(fraction)
        with m.If(self.advance):
            m.d.sync += [
                fraction.eq(self.score),
                halvings.eq(Mux(~self.present | (distance >= _FAR), _FAR, distance)),
                power.eq(exp2.power),
                self.probability.eq(rounded),
                product.eq(self.probability * delayed(self.mantissa, 3)),
                doubled.eq(aligned >> delayed(self.drop, 4)),
            ]
        m.d.comb += self.weight.eq((doubled + 1) >> 1)
        return m
