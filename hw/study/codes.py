"""Another way to divide by the scale, for the area study; it gives what `CodeDivider` gives."""

from amaranth.hdl import Module, Mux, Signal, Value, signed
from amaranth.lib.wiring import In

from hw.cores.quantiser.code_divider import DIVISOR_BITS, CodeDivider


def reciprocal_bits(bits: int) -> int:
    """Fraction bits of a reciprocal with which a quotient is at most one too large."""
    return bits + DIVISOR_BITS + 1


class ReciprocalDivider(CodeDivider):
    """Multiplication by a reciprocal, then a correction by one; otherwise as `CodeDivider`.

    Members
    -------
    reciprocal : In(bits + 5)
        ``floor(2**reciprocal_bits / (2 * mantissa)) + 1`` of the scale that was there a move
        before. The unit that makes it is not counted. A scale has a mantissa of 168 or more.
    """

    @staticmethod
    def inputs_of_division(bits: int) -> dict[str, In]:
        """The reciprocal."""
        return {"reciprocal": In(bits + 5)}

    @property
    def divide_stages(self) -> int:
        """Multiply; multiply back and correct."""
        return 2

    def divide(self, m: Module, number: Value, mantissa: Value) -> tuple[Value, Value]:
        """``number`` over twice the ``mantissa``: quotient and rest, 2 moves later."""
        bits = len(self.code)
        reciprocal = self._register(m, self.reciprocal)
        quotient = (number * reciprocal) >> reciprocal_bits(bits)
        # One bit more for a quotient that is one too large.
        quotient = self._register(m, quotient[: bits + 1])
        number = self._register(m, number)
        divisor = self._register(m, mantissa) << 1
        rest = Signal(signed(DIVISOR_BITS + 2))
        m.d.comb += rest.eq(number - quotient * divisor)
        over = rest < 0
        code = Mux(over, quotient - 1, quotient)[:bits]
        rest = Mux(over, rest + divisor, rest)[:DIVISOR_BITS]
        return self._register(m, code), self._register(m, rest)


#: The alternatives by the name that a report gives them.
DIVIDERS: dict[str, type[CodeDivider]] = {
    "restoring division": CodeDivider,
    "a reciprocal and a correction": ReciprocalDivider,
}
