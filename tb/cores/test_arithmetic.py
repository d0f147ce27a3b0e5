"""Shared arithmetic of the RTL and of the twin, against Python integers, fractions and numpy."""

import random
from collections.abc import Sequence
from fractions import Fraction
from math import floor
from typing import Any

import numpy
import pytest
import torch
from amaranth.hdl import Module, Signal, signed, unsigned
from amaranth.sim import Simulator

from golden.twin.numbers import fp16_fields, round_half_up, saturate
from hw import arithmetic


def half_up(value: int, shift: int) -> int:
    return floor(Fraction(value) / Fraction(2) ** shift + Fraction(1, 2))


def clamp(value: int, bits: int) -> int:
    return min(max(value, -(1 << (bits - 1))), (1 << (bits - 1)) - 1)


def as_float(sign: int, mantissa: int, exponent: int) -> float:
    return float(sign * mantissa * 2.0 ** (exponent - 25))


def evaluate(
    inputs: list[Signal],
    outputs: list[Any],
    cases: Sequence[tuple[int, ...]],
    m: Module | None = None,
) -> list[Any]:
    """Values of the combinational ``outputs``, perhaps of ``m``, for every case of ``inputs``."""
    m = m or Module()
    probes = [Signal(output.shape(), name=f"output_{i}") for i, output in enumerate(outputs)]
    m.d.comb += [probe.eq(output) for probe, output in zip(probes, outputs, strict=True)]
    found = []

    async def bench(context: Any) -> None:
        for case in cases:
            for signal, value in zip(inputs, case, strict=True):
                context.set(signal, value)
            found.append(tuple(context.get(probe) for probe in probes))

    simulator = Simulator(m)
    simulator.add_testbench(bench)
    simulator.run()
    return found


def all_fp16() -> tuple[numpy.ndarray, torch.Tensor]:
    patterns = numpy.arange(1 << 16, dtype=numpy.uint16)
    return patterns.view(numpy.float16), torch.arange(1 << 16)


def test_rtl_fp16() -> None:
    fractions = (0, 1, 2, 511, 512, 1022, 1023)
    patterns = [
        sign << 15 | field << 10 | fraction
        for sign in (0, 1)
        for field in range(32)
        for fraction in fractions
    ]
    bits = Signal(16)
    number = arithmetic.fp16(bits)
    outputs = [number.sign, number.mantissa, number.exponent, arithmetic.fp16_is_finite(bits)]
    for pattern, (sign, mantissa, exponent, finite) in zip(
        patterns, evaluate([bits], outputs, [(p,) for p in patterns]), strict=True
    ):
        expected = numpy.uint16(pattern).view(numpy.float16)
        assert finite == numpy.isfinite(expected), hex(pattern)
        assert sign == pattern >> 15
        if finite:
            assert 1 <= exponent <= 30
            assert as_float(1 - 2 * sign, mantissa, exponent) == float(expected), hex(pattern)
        else:
            assert (mantissa, exponent) == (1024 + (pattern & 1023), 31)


def test_twin_fp16() -> None:
    values, patterns = all_fp16()
    sign, mantissa, exponent = fp16_fields(patterns)
    finite = numpy.isfinite(values)
    found = (sign * mantissa).double() * 2.0 ** (exponent.double() - 25)
    assert (found.numpy()[finite] == values[finite].astype(numpy.float64)).all()
    assert ((exponent.numpy() == 31) == ~finite).all()
    assert ((mantissa >= 0) & (mantissa < 2048)).all()
    assert (exponent >= 1).all()
    # Zero keeps its sign, which a product with its mantissa does not show.
    assert (sign == torch.where(patterns >= 1 << 15, -1, 1)).all()


@pytest.mark.parametrize("is_signed", [True, False])
@pytest.mark.parametrize("width", [1, 5, 12])
def test_rtl_shift_right_half_up(width: int, is_signed: bool) -> None:
    seed = 100 * width + is_signed
    print(f"seed {seed}")
    rng = random.Random(seed)
    low, high = (-(1 << width >> 1), (1 << width >> 1) - 1) if is_signed else (0, (1 << width) - 1)
    corners = {low, low + 1, -1, 0, 1, high - 1, high}
    values = sorted(v for v in corners if low <= v <= high)
    values += [rng.randint(low, high) for _ in range(20)]
    value = Signal(signed(width) if is_signed else unsigned(width))
    shift = Signal(4)
    output = arithmetic.shift_right_half_up(value, shift)
    cases = [(v, s) for v in values for s in range(16)]
    for (v, s), (found,) in zip(cases, evaluate([value, shift], [output], cases), strict=True):
        assert found == half_up(v, s), (v, s)


@pytest.mark.parametrize(("width", "bits"), [(8, 5), (8, 7), (6, 6), (5, 8), (9, 1)])
def test_rtl_saturate(width: int, bits: int) -> None:
    value = Signal(signed(width))
    output = arithmetic.saturate(value, bits)
    assert len(output) == min(width, bits)
    cases = [(v,) for v in range(-(1 << (width - 1)), 1 << (width - 1))]
    for (v,), (found,) in zip(cases, evaluate([value], [output], cases), strict=True):
        assert found == clamp(v, bits), v


@pytest.mark.parametrize("seed", [1, 2])
def test_twin_round_half_up(seed: int) -> None:
    print(f"seed {seed}")
    rng = random.Random(seed)
    cases = [(value, shift) for value in range(-9, 10) for shift in range(-3, 6)]
    for _ in range(2000):
        size = rng.randrange(50)
        cases.append((rng.randrange(-1 << size, 1 << size), rng.randrange(-12, 70)))
    cases += [(-(1 << 60), shift) for shift in (58, 59, 60, 61, 62, 63, 100)]
    value, shift = torch.tensor(cases).T
    expected = [half_up(v, s) for v, s in cases]
    assert round_half_up(value, shift).tolist() == expected
    assert round_half_up(value, 3).tolist() == [half_up(v, 3) for v, _ in cases]


def test_twin_round_half_up_broadcasts() -> None:
    value, shift = torch.tensor([[5], [-5]]), torch.tensor([0, 1, 2])
    assert round_half_up(value, shift).tolist() == [[5, 3, 1], [-5, -2, -1]]


@pytest.mark.parametrize("bits", [1, 5, 24, 46])
def test_twin_saturate(bits: int) -> None:
    edge = 1 << (bits - 1)
    values = [v + d for v in (-edge, 0, edge - 1, 1 << 60, -(1 << 60)) for d in (-1, 0, 1)]
    assert saturate(torch.tensor(values), bits).tolist() == [clamp(v, bits) for v in values]


@pytest.mark.parametrize("width", [2, 3, 44, 57])
def test_rtl_add_by_halves(width: int, seed: int) -> None:
    rng = random.Random(seed)
    m, a, b, carry = Module(), Signal(width), Signal(width), Signal()
    top = (1 << width) - 1
    half = (1 << (width + 1) // 2) - 1
    corners = [0, 1, half, half + 1, top - half, top]
    cases = [(x & top, y & top, c) for x in corners for y in corners for c in (0, 1)]
    cases += [(rng.getrandbits(width), rng.getrandbits(width), c) for c in (0, 1) * 40]
    found = evaluate([a, b, carry], [arithmetic.add_by_halves(m, a, b, carry)], cases, m)
    assert found == [((x + y + c) & top,) for x, y, c in cases]


def test_rtl_less_fp16(seed: int) -> None:
    rng = random.Random(seed)
    m, x, bits = Module(), Signal(signed(43)), Signal(16)
    limit = (1 << 42) - 1
    sizes = [0, 1, 1023, 1024, 0x7BFF, *(rng.randrange(0x7C00) for _ in range(40))]
    cases = [
        (number, sign << 15 | size)
        for size in sizes
        for sign in (0, 1)
        for number in (-limit - 1, limit, 0, rng.randint(-limit, limit))
    ]
    found = evaluate([x, bits], [arithmetic.less_fp16(m, x, bits)], cases, m)
    halves = (numpy.uint16(pattern).view(numpy.float16) for _, pattern in cases)
    exact = [int(Fraction(float(half)) * 2**24) for half in halves]
    assert found == [(n - f,) for (n, _), f in zip(cases, exact, strict=True)]


@pytest.mark.parametrize("shape", [signed(20), unsigned(20)], ids=str)
def test_rtl_shift_right(shape: Any, seed: int) -> None:
    rng = random.Random(seed)
    value, shift = Signal(shape), Signal(5)
    low = -(1 << 19) if shape.signed else 0
    numbers = [low, low + (1 << 20) - 1, 0, 1, *(low + rng.getrandbits(20) for _ in range(12))]
    cases = [(number, by) for number in numbers for by in range(32)]
    found = evaluate([value, shift], list(arithmetic.shift_right(value, shift)), cases)
    for (number, by), (down, up) in zip(cases, found, strict=True):
        assert down == number >> by
        assert down + up == half_up(number, by)


@pytest.mark.parametrize("width", [1, 2, 3, 7, 8, 28])
def test_rtl_counts_before(width: int, seed: int) -> None:
    rng = random.Random(seed)
    m, bits = Module(), Signal(width)
    cases = [(mask,) for mask in ([*range(1 << width)] if width < 8 else [0, (1 << width) - 1])]
    cases += [(rng.getrandbits(width),) for _ in range(40)]
    found = evaluate([bits], arithmetic.counts_before(m, bits), cases, m)
    for (mask,), counts in zip(cases, found, strict=True):
        assert counts == tuple((mask & (1 << i) - 1).bit_count() for i in range(width + 1))
