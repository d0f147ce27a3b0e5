"""The pruning mask against the twin: ties within and between codes, exclusions, pace."""

from __future__ import annotations

import random
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from golden.twin.quantiser import fixed_of_fp16, fp16_of_fixed, keep_largest
from hw.cores.quantiser.largest_mask import LargestMask
from tb.harness import Run, pack, simulate

#: Bits, group, kept, excluded indices: deltas, values and the widest of each.
SHAPES: dict[str, tuple[int, int, int, tuple[int, ...]]] = {
    "delta": (2, 32, 8, ()),
    "value": (2, 32, 12, (0, 8, 16, 24)),
    "delta4": (4, 16, 8, ()),
    "value4": (4, 64, 48, (0, 16, 32, 48)),
}


@cache
def device(shape: str) -> LargestMask:
    bits, group, keep, excluded = SHAPES[shape]
    return LargestMask(bits=bits, group=group, keep=keep, excluded=excluded)


def random_groups(shape: str, seed: int, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Codes, scales, minima; many minima make two codes equal in size or nearly so."""
    print(f"groups of seed {seed}")
    bits, group, _, _ = SHAPES[shape]
    rng = random.Random(seed)
    codes, scales, minima = [], [], []
    for _ in range(count):
        levels = rng.sample(range(2**bits), rng.randint(1, 2**bits))
        codes.append([rng.choice(levels) for _ in range(group)])
        # Few mantissa bits, so that half the sum of two codes' distances is an FP16 number, too.
        scale = rng.choice([168, 0x3C00, 0x4800, 0x3D00, rng.randrange(168, 0x6800)])
        middle = torch.tensor(
            -int(fixed_of_fp16(torch.tensor(scale))) * rng.randrange(-2, 2 ** (bits + 1))
        )
        off = rng.choice([0, 0, 0, 1, -1])
        minimum = int(fp16_of_fixed(middle)) + off
        scales.append(scale)
        minima.append(max(0, minimum) if minimum & 0x7FFF < 0x7C00 else 0)
    return torch.tensor(codes), torch.tensor(scales), torch.tensor(minima)


def check(shape: str, groups: tuple[Tensor, Tensor, Tensor], **options: Any) -> Run:
    """Compare the mask of each group with the twin's."""
    _, size, keep, excluded = SHAPES[shape]
    unit = device(shape)
    without = torch.zeros(size, dtype=torch.int64)
    without[list(excluded)] = 1
    masks = keep_largest(*groups, keep, without)
    assert (masks.sum(-1) == keep).all()
    layout = unit.codes.payload.shape()
    run = simulate(
        unit,
        name=f"largest_mask_{shape}",
        inputs={
            "codes": [
                pack(layout, {"code": code, "scale": scale, "minimum": minimum})
                for code, scale, minimum in zip(*(x.tolist() for x in groups), strict=True)
            ]
        },
        outputs={"mask": len(masks)},
        **options,
    )
    expected = [sum(bit << i for i, bit in enumerate(mask)) for mask in masks.tolist()]
    assert run.outputs["mask"] == expected
    return run


@pytest.mark.parametrize("shape", SHAPES)
def test_random(shape: str, seed: int) -> None:
    check(shape, random_groups(shape, seed, 300), stall=0.4, seed=seed)


@pytest.mark.parametrize("cycle", [3, 20])
def test_reset_in_flight(cycle: int) -> None:
    check("value", random_groups("value", cycle, 8), reset_at=cycle)


@pytest.mark.parametrize("shape", SHAPES)
def test_pace(shape: str) -> None:
    """As many cycles as sizes that are looked at, and two more."""
    bits, group, _, _ = SHAPES[shape]
    count = 5
    positive = torch.full((count,), 0x3C00)
    ascending = torch.arange(group).expand(count, -1)
    equal = check(shape, (0 * ascending, positive, positive))
    first = 2**bits + 2
    assert equal.first_output_cycle["mask"] == first
    assert equal.cycles == first + 1 + (count - 1) * (2**bits + 2)
    largest = check(shape, (0 * ascending + 2**bits - 1, positive, positive))
    assert largest.first_output_cycle["mask"] == 3
    assert largest.cycles == 4 + (count - 1) * 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": 3}, r"bits must be one of \(2, 4\), not 3"),
        ({"keep": 0}, "keep must be from 1 to 28, not 0"),
        ({"keep": 29}, "keep must be from 1 to 28, not 29"),
    ],
)
def test_illegal_parameters(options: dict[str, int], message: str) -> None:
    shape = {"bits": 2, "group": 32, "keep": 12}
    with pytest.raises(ValueError, match=message):
        LargestMask(**(shape | options), excluded=(0, 8, 16, 24))
