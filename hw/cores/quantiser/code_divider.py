"""The code of a number: its distance from the minimum in steps of the scale."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.arithmetic import fp16, less_fp16
from hw.constants import FIXED_BITS
from hw.formats import FP16_BITS

#: Quotient bits that one pipeline stage makes.
_BITS_A_STAGE = 2
#: Shift of the largest scale: exponent 30 against 1.
_MOST_SHIFT = 29
#: Bits of twice a mantissa.
DIVISOR_BITS = 12
RATIOS = (1, 5, 17)


class CodeDivider(wiring.Component):
    """``round((x - minimum) * ratio / scale)``, clamped to ``bits`` bits; half to even.

    A pipeline that moves as one: latency ``latency`` cycles, one number a cycle. Exact: the shifted
    numerator keeps its half bit and whether anything is below, then ``bits`` steps of restoring
    division by the mantissa.

    Parameters
    ----------
    bits : int
        Bits of a code, 1 to 8.
    ratio : int
        Steps of the code in a scale: 1, 5 or 17.

    Members
    -------
    move : In(1)
        The pipeline moves on.
    x : In(signed(43))
        The number, in units of 2**-24.
    minimum, scale : In(16)
        FP16; the scale is positive.
    code : Out(bits)
        Of the number ``latency`` moves before.

    Raises
    ------
    ValueError
        A parameter has an illegal value.
    """

    def __init__(self, bits: int, *, ratio: int = 1) -> None:
        if not 1 <= bits <= 8:
            raise ValueError(f"bits must be from 1 to 8, not {bits!r}")
        if ratio not in RATIOS:
            raise ValueError(f"ratio must be one of {RATIOS}, not {ratio!r}")
        self._bits = bits
        self._ratio = ratio
        super().__init__(
            {
                "move": In(1),
                "x": In(signed(FIXED_BITS)),
                "minimum": In(FP16_BITS),
                "scale": In(FP16_BITS),
                "code": Out(bits),
                **self.inputs_of_division(bits),
            }
        )

    @staticmethod
    def inputs_of_division(bits: int) -> dict[str, In]:
        """Members that `divide` needs beside the scale: none."""
        return {}

    @property
    def divide_stages(self) -> int:
        """Pipeline stages of the division itself."""
        return -(-self._bits // _BITS_A_STAGE)

    @property
    def latency(self) -> int:
        """Moves from a number to its code."""
        return 3 + self.divide_stages

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bits = self._bits
        scale = fp16(self.scale)
        # A number below the minimum, which rounding of the minimum makes, has the code 0.
        distance = less_fp16(m, self.x, self.minimum)
        distance = self._register(m, Mux(distance < 0, 0, distance)[:-1])
        mantissa = self._register(m, scale.mantissa)
        shift = self._register(m, (scale.exponent - 1)[:5])

        # Twice the number in units of the mantissa, rounded down, and whether that lost something.
        wide = Cat((distance * self._ratio) << 1)
        shifted = wide >> shift
        below = Const((1 << _MOST_SHIFT) - 1)
        lost = self._register(m, (wide & below & ~(below << shift)).any())
        number = self._register(m, shifted[: bits + DIVISOR_BITS])
        beyond = self._register(m, shifted[bits + DIVISOR_BITS :].any())
        mantissa = self._register(m, mantissa)

        # What does not fit the code at all is beyond.
        beyond |= number[bits:] >= mantissa << 1
        code, rest = self.divide(m, number, mantissa)
        for _ in range(self.divide_stages):
            mantissa, lost, beyond = (self._register(m, x) for x in (mantissa, lost, beyond))
        up = (rest > mantissa) | ((rest == mantissa) & (lost | code[0]))
        largest = beyond | code.all()
        code = self._register(m, Mux(largest, (1 << bits) - 1, code + up)[:bits])
        m.d.comb += self.code.eq(code)
        return m

    def divide(self, m: Module, number: Value, mantissa: Value) -> tuple[Value, Value]:
        """``number`` over twice the ``mantissa``: quotient and rest, `divide_stages` moves later.

        Restoring division. The quotient fits the code, or whatever comes out is not looked at.
        """
        bits = self._bits
        rest, low = number[bits:], number[:bits]
        code: Value = Cat()
        for top in range(bits, 0, -_BITS_A_STAGE):
            for i in reversed(range(max(0, top - _BITS_A_STAGE), top)):
                taken = Cat(low[i], rest)
                difference = Signal(signed(DIVISOR_BITS + 2), name=f"difference_{i}")
                after = Signal(DIVISOR_BITS, name=f"rest_{i}")
                fits = difference >= 0
                m.d.comb += [
                    difference.eq(taken - (mantissa << 1)),
                    after.eq(Mux(fits, difference, taken)),
                ]
                rest = after
                code = Cat(fits, code)
            rest, code, low, mantissa = (self._register(m, x) for x in (rest, code, low, mantissa))
        return code, rest

    def _register(self, m: Module, value: Value) -> Signal:
        """``value`` one move later."""
        held = Signal(value.shape(), name="held")
        with m.If(self.move):
            m.d.sync += held.eq(value)
        return held
