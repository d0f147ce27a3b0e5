"""Combinational arithmetic that several units need (docs/contracts.md, section 4)."""

from amaranth.hdl import Cat, Const, Mux, Value, signed
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
    size = (number.mantissa << (number.exponent - 1)[:5])[:40]
    return Mux(number.sign, -size, size)


def shift_right_half_up(value: Value, shift: Value) -> Value:
    """``floor(value / 2**shift + 1/2)`` for an unsigned ``shift``; one bit wider than ``value``."""
    doubled = Cat(Const(0, 1), value)
    if value.shape().signed:
        doubled = doubled.as_signed()
    return ((doubled >> shift) + 1) >> 1


def saturate(value: Value, bits: int) -> Value:
    """A signed ``value`` clamped to ``bits`` signed bits."""
    if len(value) <= bits:
        return value
    top = value[bits - 1 :]
    low = Const(-(1 << (bits - 1)), signed(bits))
    high = Const((1 << (bits - 1)) - 1, signed(bits))
    clamped = Mux(value[-1], low, high)
    return Mux(top.all() | ~top.any(), value[:bits].as_signed(), clamped)
