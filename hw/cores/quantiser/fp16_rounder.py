"""Fixed point to FP16."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.constants import FIXED_BITS
from hw.formats import FP16_BITS

#: Half units of a number's size: the smallest that a tie is made of.
SIZE_BITS = FIXED_BITS + 1
_MANTISSA_BITS = 11
_LARGEST = 0x7BFF


class Fp16Rounder(wiring.Component):
    """FP16 of a number in half units of 2**-24; latency 1 cycle, one number a cycle.

    Half to even; a size above 65504 becomes 65504, and -0 becomes 0.

    Members
    -------
    size : In(44)
        Size of the number in units of 2**-25, rounded down.
    more : In(1)
        Whether the number is a little larger than ``size`` says.
    negative : In(1)
        Its sign.
    bits : Out(16)
        The FP16 pattern of the number that was there one cycle before.
    """

    def __init__(self) -> None:
        super().__init__(
            {"size": In(SIZE_BITS), "more": In(1), "negative": In(1), "bits": Out(FP16_BITS)}
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # Subnormals drop one bit, the half unit, so at most these zeros go.
        most = SIZE_BITS - _MANTISSA_BITS - 1
        normal = self.size[-most:].any()
        shifted: Value = self.size
        zeros = []
        for step in (16, 8, 4, 2, 1):
            empty = ~shifted[-step:].any()
            after = Signal(SIZE_BITS, name=f"shifted_{step}")
            m.d.comb += after.eq(Mux(empty, shifted << step, shifted))
            zeros.append(empty)
            shifted = after
        aligned = Signal(SIZE_BITS)
        dropped = Signal(range(most + 1))
        more, negative = Signal(), Signal()
        m.d.sync += [
            aligned.eq(Mux(normal, shifted, self.size << most)),
            # Bits dropped beside the half unit, which is what the exponent field counts.
            dropped.eq(Mux(normal, most - Cat(*reversed(zeros)), 0)),
            more.eq(self.more),
            negative.eq(self.negative),
        ]
        kept, rest = aligned[-_MANTISSA_BITS:], aligned[:-_MANTISSA_BITS]
        up = rest[-1] & (rest[:-1].any() | more | kept[0])
        # The leading bit of a normal number adds one to the exponent field; a carry does, too.
        rounded = Signal(unsigned(FP16_BITS))
        m.d.comb += [
            rounded.eq(kept + up + (dropped << _MANTISSA_BITS - 1)),
            self.bits.eq(
                Mux(rounded > _LARGEST, _LARGEST, rounded) | ((negative & rounded.any()) << 15)
            ),
        ]
        return m
