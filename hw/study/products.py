"""Other ways to multiply a digit, for the area study; each gives what `PERow` gives."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed

from hw.config import DIGITS
from hw.cores.pe_row import OPERANDS, PERow


class MultiplierRow(PERow):
    """A signed multiplier per digit; synthesis finds its own form."""

    @staticmethod
    def multiply(digit: Value, operand: Value, negative: Value) -> Value:
        """The digit as a signed number of three bits."""
        return Cat(digit, digit[1] & negative).as_signed() * operand


class MultiplesRow(PERow):
    """A choice among 0, x, 2x and 3x, with 3x formed behind the operand's own choice."""

    @staticmethod
    def multiply(digit: Value, operand: Value, negative: Value) -> Value:
        """3x is formed here, behind the choice of the operand."""
        return _multiple(digit, operand, operand + (operand << 1), negative)


class SharedMultiplesRow(PERow):
    """The same choice, with 3x formed once per operand and shared by all digits that it meets."""

    def _products(self, m: Module) -> list[Signal]:
        """Each digit chooses its operand and the operand's triple, then among their multiples."""
        of_bytes, of_values, negative_top = self._decode_kind(m)
        bits = self._shapes.operand_bits
        once, thrice = [], []
        for i in range(OPERANDS):
            x = Signal(signed(bits + 1), name=f"once_{i}")
            triple = Signal(signed(bits + 3), name=f"thrice_{i}")
            m.d.comb += [
                x.eq(Cat(self.operand[i], self.operand[i][-1] & ~of_values).as_signed()),
                triple.eq(x + (x << 1)),
            ]
            once.append(x)
            thrice.append(triple)
        products = []
        for k in range(DIGITS):
            negative = negative_top if k % 4 == 3 else Const(0, 1)
            x = self._choose(once, k, of_bytes, of_values)
            triple = self._choose(thrice, k, of_bytes, of_values)
            product = Signal(self._shapes.product, name=f"product_{k}")
            m.d.comb += product.eq(_multiple(self.digits[k], x, triple, negative))
            products.append(product)
        return products


def _multiple(digit: Value, once: Value, thrice: Value, negative: Value) -> Value:
    """0, ``once``, twice that or ``thrice``; a negative 2 is -2x, a negative 3 is -x."""
    negate = digit[1] & negative
    upper = Mux(digit[0], Mux(negate, once, thrice), once << 1)
    chosen = Mux(digit[1], upper, Mux(digit[0], once, 0))
    width = len(once) + 2
    flipped = Cat(chosen, chosen[-1].replicate(width - len(chosen))) ^ negate.replicate(width)
    return (flipped.as_signed() + negate)[:width].as_signed()


#: The alternatives by the name that a report gives them.
PRODUCTS: dict[str, type[PERow]] = {
    "two gated copies and one adder": PERow,
    "a signed multiplier": MultiplierRow,
    "a choice among multiples": MultiplesRow,
    "a choice among shared multiples": SharedMultiplesRow,
}
