"""Codes by division and by reciprocal, every ratio, against the twin."""

from __future__ import annotations

import random
from collections import deque
from typing import Any

import pytest
import torch
from amaranth.sim import Simulator

from golden.twin.numbers import fp16_fields
from golden.twin.quantiser import affine_codes, fixed_of_fp16, fp16_of_fixed
from hw.cores.quantiser.code_divider import CodeDivider
from hw.study.codes import DIVIDERS, ReciprocalDivider, reciprocal_bits

LARGEST = 2**42 - 1
#: Number, FP16 scale, FP16 minimum.
Case = tuple[int, int, int]


def mantissa(scale: int) -> int:
    return int(fp16_fields(torch.tensor(scale))[1])


def codes_of(unit: CodeDivider, cases: list[Case], bits: int) -> list[int]:
    """What the pipeline makes of ``cases`` with pauses; garbage comes in during a pause."""
    found: list[int] = []
    simulator = Simulator(unit)
    simulator.add_clock(1e-9)

    async def play(context: Any) -> None:
        rng = random.Random(5)
        waiting = deque(cases)
        before = 0x3C00
        moves = 0
        while len(found) < len(cases):
            move = rng.random() < 0.8
            context.set(unit.move, move)
            if isinstance(unit, ReciprocalDivider) and move:
                reciprocal = (1 << reciprocal_bits(bits)) // (2 * mantissa(before)) + 1
                context.set(unit.reciprocal, reciprocal)
            x, scale, minimum = waiting.popleft() if move and waiting else (0, 0x3C00, 0)
            context.set(unit.x, x)
            context.set(unit.scale, scale)
            context.set(unit.minimum, minimum)
            if move and moves >= unit.latency:
                found.append(context.get(unit.code))
            await context.tick()
            moves += move
            before = scale if move else before

    simulator.add_testbench(play)
    simulator.run()
    return found


def random_cases(bits: int, ratio: int, seed: int, count: int) -> list[Case]:
    """Numbers within the range of the code, beside it and far from it, and ties of every code."""
    print(f"cases of seed {seed}")
    rng = random.Random(seed)
    cases = []
    # Of the widest group of FP16 numbers.
    widest = int(fp16_of_fixed(torch.tensor(2 * 2**41 // (2**bits - 1))))
    for number in range(count):
        scale = rng.randrange(168, widest + 1)
        minimum = rng.choice([rng.randrange(0x7C00), 0x8000 | rng.randrange(1, 0x7C00)])
        start, step = fixed_of_fp16(torch.tensor([minimum, scale])).tolist()
        halves = number % (2 ** (bits + 1) + 6) - 3
        x = start + halves * step // (2 * ratio) + rng.choice([-1, 0, 0, 0, 1])
        cases.append((max(-LARGEST, min(LARGEST, x)), scale, minimum))
    cases += [(x, scale, minimum) for x in (-LARGEST, 0, LARGEST) for scale in (168, 1023, 0x7BFF)
              for minimum in (0, 0x7BFF, 0xFBFF)]  # fmt: skip
    return cases


@pytest.mark.parametrize("form", DIVIDERS)
@pytest.mark.parametrize(("bits", "ratio"), [(2, 1), (4, 1), (8, 1), (4, 5), (8, 17)])
def test_equals_the_twin(form: str, bits: int, ratio: int, seed: int) -> None:
    cases = random_cases(bits, ratio, seed, 700)
    x, scale, minimum = (torch.tensor(column) for column in zip(*cases, strict=True))
    expected = affine_codes(x.unsqueeze(-1), scale, minimum, bits, ratio).squeeze(-1)
    assert set(expected.tolist()) == set(range(2**bits))
    assert codes_of(DIVIDERS[form](bits, ratio=ratio), cases, bits) == expected.tolist()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": 0}, "bits must be from 1 to 8, not 0"),
        ({"bits": 9}, "bits must be from 1 to 8, not 9"),
        ({"ratio": 3}, r"ratio must be one of \(1, 5, 17\), not 3"),
    ],
)
def test_illegal_parameters(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CodeDivider(**({"bits": 8, "ratio": 1} | options))
