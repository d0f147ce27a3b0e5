"""The alternatives of the area study multiply like the PE array's own product."""

from __future__ import annotations

import random
from typing import Any

import pytest
from amaranth.hdl import Const, Module, Signal, signed
from amaranth.sim import Simulator

from hw.config import DIGITS, preset
from hw.cores.pe_row import PERow
from hw.formats import StepKind
from hw.study.products import PRODUCTS, MultiplierRow

OPERANDS = (0, 1, -1, 5, -2047, 2047, 4095, -4096)


def product_of(row: type[PERow], digit: int, operand: int, negative: int) -> int:
    m = Module()
    result = Signal(signed(15))
    m.d.comb += result.eq(
        row.multiply(Const(digit, 2), Const(operand, signed(13)), Const(negative, 1))
    )
    simulator = Simulator(m)
    found: list[int] = []

    async def read(context: object) -> None:
        await context.delay(1e-9)  # type: ignore[attr-defined]
        found.append(context.get(result))  # type: ignore[attr-defined]

    simulator.add_testbench(read)
    simulator.run()
    return found[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", PRODUCTS)
def test_whole_rows(name: str, seed: int) -> None:
    """Random steps of every kind give what the core's own row gives."""
    rng = random.Random(seed)
    config = preset("paper")
    rows = (PERow(config), PRODUCTS[name](config))
    m = Module()
    m.submodules += rows
    compared = []

    async def play(context: Any) -> None:
        for _ in range(24):
            kind = rng.choice(list(StepKind))
            digits = [rng.choice([0, 3, rng.randrange(4)]) for _ in range(DIGITS)]
            operand = [rng.choice([1, 0x801, 0x7FF, rng.randrange(1 << 12)]) for _ in range(32)]
            sign = rng.randrange(2)
            for row in rows:
                context.set(row.move, 7)
                for stage in (row.kind, row.kind_of_pairs, row.kind_of_slots):
                    context.set(stage, kind)
                context.set(row.signed, sign)
                for k, digit in enumerate(digits):
                    context.set(row.digits[k], digit)
                for k, x in enumerate(operand):
                    context.set(row.operand[k], x)
            await context.tick().repeat(3)
            own, other = (context.get(row.lane.as_value()) for row in rows)
            assert own == other
            compared.append(own)

    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(play)
    simulator.run()
    assert len(set(compared)) > 12


@pytest.mark.parametrize("name", PRODUCTS)
@pytest.mark.parametrize("negative", [0, 1])
def test_every_digit(name: str, negative: int) -> None:
    for digit in range(4):
        factor = digit - 4 if negative and digit > 1 else digit
        for operand in OPERANDS:
            found = product_of(PRODUCTS[name], digit, operand, negative)
            assert found == factor * operand, (digit, operand)


def test_a_wrong_product_is_found() -> None:
    """Negative control: without the sign."""
    assert product_of(MultiplierRow, 3, 5, 0) != product_of(MultiplierRow, 3, 5, 1)
