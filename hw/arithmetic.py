"""Combinational arithmetic that several units need (docs/contracts.md, section 4)."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data

#: An FP16 number taken apart: ``sign * mantissa * 2**(exponent - 25)``, subnormals included.
FP16 = data.StructLayout({"mantissa": 11, "exponent": 5, "sign": 1})


def fp16(bits: Value) -> data.View:
    """The 16 bits of an FP16 number as an ``FP16`` view; infinities and NaNs have exponent 31."""
    fraction, exponent, sign = bits[:10], bits[10:15], bits[15]
    normal = exponent.any()
    return data.View(FP16, Cat(fraction, normal, exponent[0] | ~normal, exponent[1:], sign))


def fp16_is_finite(bits: Value) -> Value:
    """1 unless the 16 bits are an infinity or a NaN."""
    return ~bits[10:15].all()


def fixed_of_fp16(bits: Value) -> Value:
    """A finite FP16 number in units of 2**-24, without rounding: signed, 41 bits."""
    number = fp16(bits)
    size = fixed_size(number)
    return Mux(number.sign, -size, size)


def fixed_size(number: data.View) -> Value:
    """The size of a finite ``FP16`` in units of 2**-24, without rounding: 40 bits."""
    return (number.mantissa << (number.exponent - 1)[:5])[:40]


def add_by_halves(m: Module, a: Value, b: Value, carry: Value) -> Value:
    """``a + b + carry`` modulo ``2**len(a)``, of numbers of as many bits: carry select.

    The upper half is there for either carry of the lower one, so that a carry runs through half of
    the bits only. It takes half an adder and a row of multiplexers more: for long paths.
    """
    half = (len(a) + 1) // 2
    low = Signal(half + 1, name="low")
    high = [Signal(len(a) - half, name=f"high_{i}") for i in range(2)]
    # The carry comes in below the lowest bit.
    m.d.comb += [
        low.eq((Cat(carry, a[:half]) + Cat(carry, b[:half])) >> 1),
        high[0].eq(a[half:] + b[half:]),
        high[1].eq((Cat(Const(1, 1), a[half:]) + Cat(Const(1, 1), b[half:])) >> 1),
    ]
    return Cat(low[:half], Mux(low[half], high[1], high[0]))


def less_fp16(m: Module, x: Value, bits: Value) -> Value:
    """A signed ``x`` in units of 2**-24 less a finite FP16 number, exact."""
    number = fp16(bits)
    size, minus = fixed_size(number), ~number.sign
    terms = [Signal(signed(max(len(x), len(size) + 1) + 1), name=f"term_{i}") for i in range(2)]
    # ``-size`` is ``~size + 1``.
    inverted = Cat(size ^ minus.replicate(len(size)), minus).as_signed()
    m.d.comb += [terms[0].eq(x), terms[1].eq(inverted)]
    return add_by_halves(m, terms[0], terms[1], minus).as_signed()


def shift_right(value: Value, shift: Value) -> tuple[Value, Value]:
    """``floor(value / 2**shift)`` and its rounding bit, which is 1 from a half on.

    ``shift`` is unsigned.
    """
    shifted = _doubled(value) >> shift
    return shifted >> 1, shifted[0]


def shift_right_half_up(value: Value, shift: Value) -> Value:
    """``floor(value / 2**shift + 1/2)`` for an unsigned ``shift``; one bit wider than ``value``."""
    return ((_doubled(value) >> shift) + 1) >> 1


def _doubled(value: Value) -> Value:
    """``2 * value`` with its sign."""
    doubled = Cat(Const(0, 1), value)
    return doubled.as_signed() if value.shape().signed else doubled


def counts_before(m: Module, bits: Value) -> list[Value]:
    """How many of ``bits`` are set below each place, and at last in all of them.

    Halves count on their own, and the upper one adds the total of the lower: ``log2`` adders deep.
    """
    if len(bits) == 1:
        return [Const(0, 1), bits[0]]
    half = (len(bits) + 1) // 2
    low, high = counts_before(m, bits[:half]), counts_before(m, bits[half:])
    counts = list(low)
    for i, count in enumerate(high[1:], half + 1):
        total = Signal(range(i + 1), name=f"count_{i}")
        m.d.comb += total.eq(low[-1] + count)
        counts.append(total)
    return counts


def saturate(value: Value, bits: int) -> Value:
    """A signed ``value`` clamped to ``bits`` signed bits."""
    if len(value) <= bits:
        return value
    top = value[bits - 1 :]
    low = Const(-(1 << (bits - 1)), signed(bits))
    high = Const((1 << (bits - 1)) - 1, signed(bits))
    clamped = Mux(value[-1], low, high)
    return Mux(top.all() | ~top.any(), value[:bits].as_signed(), clamped)
