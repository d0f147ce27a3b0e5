"""Scale and minimum of a quantisation group from its range."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.arithmetic import add_by_halves
from hw.constants import FIXED_BITS, SCALE_FLOOR
from hw.cores.quantiser.fp16_rounder import SIZE_BITS, Fp16Rounder
from hw.formats import FP16_BITS

#: Smallest and largest number of a group, in units of 2**-24.
RANGE = data.StructLayout({"low": signed(FIXED_BITS), "high": signed(FIXED_BITS)})
PARAMETERS = data.StructLayout({"scale": FP16_BITS, "minimum": FP16_BITS})
#: Bits of the quotient that a cycle makes.
_BITS_A_CYCLE = 16
_CYCLES = -(-SIZE_BITS // _BITS_A_CYCLE)
LEGAL_BITS = (2, 4, 8)


class GroupParameters(wiring.Component):
    """``scale = max((high - low) / (2**bits - 1), 1e-5)`` and ``minimum = low`` in FP16.

    Latency 5 cycles, one group in 6 cycles; both numbers are rounded half to even. In base
    ``2**bits`` a division by ``2**bits - 1`` needs no subtractor: the remainder is the running sum
    of the digits with the carry added back, and the digit of the quotient is the remainder before,
    plus the carry.

    Parameters
    ----------
    bits : int
        Bits of a code: 2, 4 or 8.

    Members
    -------
    range : In(stream)
        ``low`` and ``high``, signed, in units of 2**-24, with ``low <= high``.
    parameters : Out(stream)
        ``scale`` and ``minimum``, FP16.

    Raises
    ------
    ValueError
        ``bits`` has an illegal value.
    """

    def __init__(self, bits: int) -> None:
        if bits not in LEGAL_BITS:
            raise ValueError(f"bits must be one of {LEGAL_BITS}, not {bits!r}")
        self._bits = bits
        super().__init__(
            {
                "range": In(stream.Signature(RANGE)),
                "parameters": Out(stream.Signature(PARAMETERS)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.rounder = rounder = Fp16Rounder()
        number = Signal(_CYCLES * _BITS_A_CYCLE)
        quotient = Signal(_CYCLES * _BITS_A_CYCLE)
        remainder = Signal(self._bits)
        minimum = Signal(FP16_BITS)
        cycle = Signal(range(_CYCLES))
        low, high = self.range.p.low, self.range.p.high
        size, negative = Signal(FIXED_BITS), low[-1]
        zero = Const(0, FIXED_BITS)
        m.d.comb += size.eq(add_by_halves(m, low ^ negative.replicate(FIXED_BITS), zero, negative))

        digits, after = self._divide(m, number[-_BITS_A_CYCLE:], remainder)
        m.d.comb += [
            self.parameters.p.scale.eq(Mux(rounder.bits < SCALE_FLOOR, SCALE_FLOOR, rounder.bits)),
            self.parameters.p.minimum.eq(minimum),
        ]
        with m.FSM():
            with m.State("RANGE"):
                m.d.comb += [
                    self.range.ready.eq(1),
                    rounder.size.eq(size << 1),
                    rounder.negative.eq(negative),
                ]
                m.d.sync += [
                    number.eq(add_by_halves(m, high, ~low, Const(1, 1)) << 1),
                    remainder.eq(0),
                    cycle.eq(0),
                ]
                with m.If(self.range.valid):
                    m.next = "DIVIDE"
            with m.State("DIVIDE"):
                m.d.sync += [
                    number.eq(number << _BITS_A_CYCLE),
                    quotient.eq(Cat(digits, quotient)),
                    remainder.eq(after),
                    cycle.eq(cycle + 1),
                ]
                with m.If(cycle == 0):
                    m.d.sync += minimum.eq(rounder.bits)
                with m.If(cycle == _CYCLES - 1):
                    m.next = "ROUND"
            with m.State("ROUND"):
                m.d.comb += [rounder.size.eq(quotient), rounder.more.eq(remainder.any())]
                m.next = "PARAMETERS"
            with m.State("PARAMETERS"):
                # The rounder keeps its answer only for a cycle: the same question again.
                m.d.comb += [
                    rounder.size.eq(quotient),
                    rounder.more.eq(remainder.any()),
                    self.parameters.valid.eq(1),
                ]
                with m.If(self.parameters.ready):
                    m.next = "RANGE"
        return m

    def _divide(self, m: Module, part: Value, remainder: Value) -> tuple[Value, Value]:
        """Digits of the quotient for the digits of ``part``, and the remainder after them."""
        digits = []
        for start in reversed(range(0, len(part), self._bits)):
            wrapped = Signal(self._bits + 1, name=f"wrapped_{start}")
            after = Signal(self._bits, name=f"remainder_{start}")
            carry = wrapped[-1]
            m.d.comb += [
                wrapped.eq(remainder + part[start : start + self._bits] + 1),
                after.eq(Mux(carry, wrapped, wrapped - 1)),
            ]
            digits.append((remainder + carry)[: self._bits])
            remainder = after
        return Cat(*reversed(digits)), remainder
