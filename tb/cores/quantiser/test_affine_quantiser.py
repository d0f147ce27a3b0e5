"""The affine quantiser against its twin: every width, corners, back-pressure, resets, pace."""

import random
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from golden.twin.quantiser import affine_codes, affine_parameters
from hw.cores.quantiser.affine_quantiser import AffineQuantiser
from tb.cores.compressor.streams import play
from tb.harness import Run, pack, simulate, unpack

#: Bits of a code, numbers of a group, lanes.
SHAPES = {"entry": (8, 32, 4), "delta": (2, 32, 1), "value": (4, 64, 8), "short": (2, 16, 4)}
LARGEST = 2**42 - 1


@cache
def device(shape: str) -> AffineQuantiser:
    bits, group, lanes = SHAPES[shape]
    return AffineQuantiser(bits=bits, group=group, lanes=lanes)


def check(shape: str, groups: Tensor, **options: Any) -> Run:
    """Simulate ``groups [n, group]`` and compare each code and parameter with the twin."""
    bits, group, lanes = SHAPES[shape]
    unit = device(shape)
    scale, minimum = affine_parameters(groups, bits)
    codes = affine_codes(groups, scale, minimum, bits)
    numbers = unit.numbers.payload.shape()
    beats = group // lanes
    run = simulate(
        unit,
        name=f"affine_quantiser_{shape}",
        inputs={"numbers": [pack(numbers, beat) for beat in groups.reshape(-1, lanes).tolist()]},
        outputs={"codes": len(groups) * beats},
        **options,
    )
    found = [unpack(unit.codes.payload.shape(), item) for item in run.outputs["codes"]]
    assert [item["code"] for item in found] == codes.reshape(-1, lanes).tolist()
    assert [item["scale"] for item in found] == scale.repeat_interleave(beats).tolist()
    assert [item["minimum"] for item in found] == minimum.repeat_interleave(beats).tolist()
    assert [item["last"] for item in found] == ([0] * (beats - 1) + [1]) * len(groups)
    return run


def random_groups(shape: str, seed: int, count: int) -> Tensor:
    """Groups of every size of number, around 0 and far from it."""
    print(f"groups of seed {seed}")
    generator = random.Random(seed)
    groups = []
    for _ in range(count):
        spread = 1 << generator.randrange(1, 43)
        centre = generator.randrange(-LARGEST, LARGEST) >> generator.randrange(43)
        low, high = max(-LARGEST, centre - spread), min(LARGEST, centre + spread)
        groups.append([generator.randint(low, high) for _ in range(SHAPES[shape][1])])
    return torch.tensor(groups)


def corner_groups(shape: str) -> Tensor:
    """All zero, all equal, the widest range, the floor of the scale, ties of codes and of FP16."""
    size = SHAPES[shape][1]
    steps = 2 ** SHAPES[shape][0] - 1
    ramp = torch.arange(size)
    ends = torch.zeros(size, dtype=torch.int64)
    ends[-1] = 1
    groups = [0 * ramp, 0 * ramp + LARGEST, 0 * ramp - LARGEST, LARGEST * (2 * ends - 1)]
    # Around the floor of 168 units: range, and halves of a unit.
    groups += [ends * (168 * steps + rest) for rest in range(-steps, steps + 1, max(1, steps // 3))]
    # Scale exactly 2**10 units: each number is an odd multiple of half a step, or beside it.
    groups += [ends * 1024 * steps + (1 - ends) * (512 * ramp + off) for off in (-1, 0, 1)]
    # Ranges in the middle between two FP16 numbers, and a minimum there.
    groups += [ends * (4098 + step) * steps for step in (-1, 0, 1, 2, 3, 4)]
    groups += [4097 + step + ends * 5000 for step in range(6)]
    return torch.stack(groups)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("stall", [0.5, {"codes": 0.9}], ids=str)
def test_random(shape: str, stall: Any, seed: int) -> None:
    check(shape, random_groups(shape, seed, 60), stall=stall, seed=seed)


@pytest.mark.parametrize("shape", SHAPES)
def test_corners(shape: str) -> None:
    check(shape, corner_groups(shape), stall=0.2)


#: Bits, group, lanes, distance of the bases: one to a beat, two, one in two beats, one in all.
BASES = {
    "one": (2, 32, 8, 8),
    "two": (4, 16, 8, 4),
    "every other beat": (2, 32, 4, 8),
    "first beat": (2, 16, 8, 16),
}


@pytest.mark.parametrize("shape", BASES)
def test_bases(shape: str, seed: int) -> None:
    """Bases are 0 for the range; their own codes have twice the bits and smaller steps."""
    bits, group, lanes, every = BASES[shape]
    generator = random.Random(seed)
    unit = AffineQuantiser(bits=bits, group=group, lanes=lanes, base_every=every)
    spreads = [1 << generator.randrange(4, 42) for _ in range(30)]
    groups = torch.tensor(
        [[generator.randint(-spread // 3, spread) for _ in range(group)] for spread in spreads]
    )
    is_base = torch.arange(group) % every == 0
    # The range of some groups is on one side of 0, which bases bring in.
    groups[::3] = groups[::3].abs() + 1
    others = groups.masked_fill(is_base, 0)
    scale, minimum = affine_parameters(others, bits)
    codes = affine_codes(others, scale, minimum, bits)
    base = affine_codes(groups, scale, minimum, 2 * bits, 2**bits + 1)
    played = play(
        unit,
        inputs={
            "numbers": [
                pack(unit.numbers.payload.shape(), beat)
                for beat in groups.reshape(-1, lanes).tolist()
            ]
        },
        outputs={"codes": len(groups) * group // lanes},
        seed=seed,
    )
    layout = unit.codes.payload.shape()
    found = [unpack(layout, item) for item in played.outputs["codes"]]
    found_codes = torch.tensor([item["code"] for item in found]).reshape(-1, group)
    assert torch.equal(found_codes[:, ~is_base], codes[:, ~is_base])
    beats = group // lanes
    with_base = [item for i, item in enumerate(found) if i % beats * lanes % every == 0]
    found_bases = torch.tensor([item["base"] for item in with_base]).reshape(len(groups), -1)
    assert torch.equal(found_bases, base[:, is_base])
    assert [item["scale"] for item in found[::beats]] == scale.tolist()
    assert [item["minimum"] for item in found[::beats]] == minimum.tolist()


@pytest.mark.parametrize("cycle", [9, 14, 40])
def test_reset_in_flight(cycle: int) -> None:
    check("entry", random_groups("entry", cycle, 6), reset_at=cycle)


@pytest.mark.parametrize("shape", SHAPES)
def test_pace(shape: str) -> None:
    """One beat a cycle, short groups one in 6 cycles; latency as documented."""
    bits, group, lanes = SHAPES[shape]
    beats, count = group // lanes, 20
    run = check(shape, random_groups(shape, 5, count))
    latency = 8 + 3 + bits // 2
    assert run.first_output_cycle["codes"] == beats + latency
    assert run.cycles == (count - 1) * max(beats, 6) + 2 * beats - 1 + latency + 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": 3}, r"bits must be one of \(2, 4, 8\), not 3"),
        ({"lanes": 3}, r"lanes must be one of \(1, 2, 4, 8\), not 3"),
        ({"group": 4}, "group must be a multiple of lanes = 4, at least 8, not 4"),
        ({"base_every": 8}, "base_every must be None with 8 bits"),
        (
            {"bits": 2, "base_every": 12},
            r"base_every must be None or one of \[2, 4, 8, 16, 32\], not 12",
        ),
        ({"group": 30}, "group must be a multiple of lanes = 4, at least 8, not 30"),
    ],
)
def test_illegal_parameters(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AffineQuantiser(**({"bits": 8, "group": 32, "lanes": 4} | options))
