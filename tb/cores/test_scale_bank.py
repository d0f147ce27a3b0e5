"""The scale bank against its twin: FP16 corners, ties, saturation, stalls, resets, latency."""

import random
from fractions import Fraction
from functools import cache
from math import floor
from typing import Any

import numpy
import pytest
import torch
from amaranth.hdl import Shape

from golden.twin.scale_bank import scale_bank
from hw.config import AttentionConfig, ConfigError, preset
from hw.constants import KEY_FRACTION, QUERY_MAX, SCALED_BITS
from hw.cores.dot_collector import UNIT_SCALE
from hw.cores.lanes import LANES
from hw.cores.scale_bank import ScaleBank
from tb.harness import Run, Stall, pack, simulate, unpack

TAG_BITS = 5
LATENCY = 4
CONFIGS = {
    "tiny": preset("tiny"),
    "lm": preset("lm"),
    "wide": AttentionConfig(rows=1, head_dim=128),
    "largest": AttentionConfig(rows=1, head_dim=256, group=64, chunk=16),
    "small": AttentionConfig(rows=1, head_dim=32, chunk=4),
    "values4": AttentionConfig(rows=1, head_dim=32, chunk=16, value_bits=4),
}
#: Zero, the smallest and largest subnormal and normal numbers, one, both signs, infinity, NaN.
FP16_CORNERS = [
    sign << 15 | bits
    for bits in (0, 1, 0x3FF, 0x400, 0x3C00, 0x7800, 0x7BFF, 0x7C00, 0x7FFF)
    for sign in (0, 1)
]
#: Signed bits of ``a`` in lane 0 by head dimension (dense keys), in the other lanes, and of ``b``,
#: as the component's docstring derives them.
KEY_BITS = {32: 25, 64: 26, 128: 27, 256: 28}
VALUE_BITS = {(4, 2): 19, (8, 2): 20, (16, 2): 21, (16, 4): 25}
B_BITS = {(4, 2): 18, (8, 2): 19, (16, 2): 20, (16, 4): 22}

#: Per row and lane ``(a, b)``; scales; minima.
Item = tuple[list[list[tuple[int, int]]], list[int], list[int]]


@cache
def component(rows: int, head_dim: int, chunk: int = 8, value_bits: int = 2) -> ScaleBank:
    """One build for all configurations with the same of all: nothing else changes the bank."""
    config = AttentionConfig(rows=rows, head_dim=head_dim, chunk=chunk, value_bits=value_bits)
    return ScaleBank(config, tag_bits=TAG_BITS)


def a_bits(config: AttentionConfig) -> tuple[int, ...]:
    """Signed bits of ``a`` by lane."""
    of_values = VALUE_BITS[config.chunk, config.value_bits]
    return (KEY_BITS[config.head_dim], *[of_values] * (LANES - 1))


def b_bits(config: AttentionConfig) -> int:
    return B_BITS[config.chunk, config.value_bits]


def extremes(bits: int) -> tuple[int, ...]:
    return (-(1 << (bits - 1)), -1, 0, 1, (1 << (bits - 1)) - 1)


def same_in_every_row(rows: int, a: list[int], b: int, scale: int, minimum: int) -> Item:
    return [[(x, b) for x in a] for _ in range(rows)], [scale] * LANES, [minimum] * LANES


def corner_items(config: AttentionConfig) -> list[Item]:
    """All pairs of FP16 corners with extreme sums, and exact ties on both sides of zero."""
    rows, items = config.rows, list[Item]()
    for index, scale in enumerate(FP16_CORNERS):
        for minimum in FP16_CORNERS:
            for choice in range(5):
                a = [extremes(bits)[choice] for bits in a_bits(config)]
                b = extremes(b_bits(config))[(choice + index) % 5]
                items.append(same_in_every_row(rows, a, b, scale, minimum))
    for exponent in (1, 2, 3, 4, 5, 6, 15, 16, 17):
        # Up to 6 and at 16, mantissa * a * 2**(exponent - 1) is an odd multiple of 2**15: a tie.
        number = exponent << 10 | (exponent > 6)
        for odd in (-3, -1, 1, 3):
            tie = odd << max(0, 6 - exponent)
            items.append(same_in_every_row(rows, [tie] * LANES, 0, number, 0))
            items.append(same_in_every_row(rows, [0] * LANES, tie, 0, number))
            items.append(same_in_every_row(rows, [tie] * LANES, tie, number, number | 1 << 15))
    return items


def random_items(rng: random.Random, config: AttentionConfig, number: int) -> list[Item]:
    def any_sum(bits: int) -> int:
        size = rng.randrange(1, bits)
        return rng.randrange(-(1 << size), 1 << size)

    def any_fp16() -> int:
        return rng.choice((rng.randrange(1 << 16), rng.choice(FP16_CORNERS)))

    return [
        (
            [
                [(any_sum(bits), any_sum(b_bits(config))) for bits in a_bits(config)]
                for _ in range(config.rows)
            ],
            [any_fp16() for _ in range(LANES)],
            [any_fp16() for _ in range(LANES)],
        )
        for _ in range(number)
    ]


def twin(items: list[Item]) -> list[list[list[int]]]:
    lanes = torch.tensor([item[0] for item in items])
    scale = torch.tensor([item[1] for item in items])
    minimum = torch.tensor([item[2] for item in items])
    found: list[list[list[int]]] = scale_bank(lanes[..., 0], lanes[..., 1], scale, minimum).tolist()
    return found


def check(name: str, items: list[Item], **options: Any) -> Run:
    """Compare a run with the twin, tags included; return the run."""
    config = CONFIGS[name]
    bank = component(config.rows, config.head_dim, config.chunk, config.value_bits)
    shape = bank.sums.p.shape()
    sent = [
        pack(
            shape,
            {
                "lane": [[{"a": a, "b": b} for a, b in row] for row in lanes],
                "scale": scale,
                "minimum": minimum,
                "tag": index % (1 << TAG_BITS),
            },
        )
        for index, (lanes, scale, minimum) in enumerate(items)
    ]
    run = simulate(
        bank,
        name=f"scale_bank_{config.rows}_rows_{config.head_dim}_{config.chunk}_{config.value_bits}",
        inputs={"sums": sent},
        outputs={"scaled": len(items)},
        **options,
    )
    wanted = twin(items)
    for index, bits in enumerate(run.outputs["scaled"]):
        want = {"y": wanted[index], "tag": index % (1 << TAG_BITS)}
        assert unpack(bank.scaled.p.shape(), bits) == want, f"item {index}: {items[index]}"
    return run


@pytest.mark.parametrize("rows", [1, 2, 3, 4])
def test_payload_widths(rows: int) -> None:
    bank = component(rows, 64)
    assert Shape.cast(bank.sums.p.shape()).width == 49 * 4 * rows + 2 * 4 * 16 + TAG_BITS
    assert Shape.cast(bank.scaled.p.shape()).width == 46 * 4 * rows + TAG_BITS


def test_illegal_tag_bits() -> None:
    with pytest.raises(ConfigError, match="tag_bits must be an integer of at least 1, not 0"):
        ScaleBank(CONFIGS["tiny"], tag_bits=0)


def test_twin_against_fractions() -> None:
    config = CONFIGS["wide"]
    items = corner_items(config) + random_items(random.Random(5), config, 500)
    limit = 1 << (SCALED_BITS - 1)
    saturated = 0
    for (lanes, scales, minima), found in zip(items, twin(items), strict=True):
        for (a, b), scale, minimum, y in zip(lanes[0], scales, minima, found[0], strict=True):
            if 0x7C00 in (scale & 0x7C00, minimum & 0x7C00):
                continue
            total = 0
            for bits, x in ((scale & 0x7FFF, a), (minimum, b)):
                number = Fraction(float(numpy.uint16(bits).view(numpy.float16)))
                total += floor(number * x * 2**KEY_FRACTION + Fraction(1, 2))
            saturated += not -limit <= total < limit
            assert y == min(max(total, -limit), limit - 1)
    assert saturated > 20


@pytest.mark.parametrize("name", CONFIGS)
def test_corners_in_exact_time(name: str) -> None:
    items = corner_items(CONFIGS[name])
    run = check(name, items)
    # Counted from cycle 1, in which the first item is there.
    assert run.first_output_cycle == {"scaled": 1 + LATENCY}
    assert run.cycles == len(items) + 1 + LATENCY


@pytest.mark.parametrize("name", CONFIGS)
def test_largest_dense_keys(name: str) -> None:
    """All codes and queries at their ends: the scale 2**-8 passes them, the largest saturates."""
    config = CONFIGS[name]
    largest = config.head_dim * QUERY_MAX * 256
    assert largest < 1 << KEY_BITS[config.head_dim] - 1
    sums = [largest, -largest, largest - 1, 1, -1]
    sent = [same_in_every_row(config.rows, [a, 0, 0, 0], -1, UNIT_SCALE, 0) for a in sums]
    sent += [same_in_every_row(config.rows, [a, 0, 0, 0], -1, 0x7BFF, 0) for a in sums[:2]]
    run = check(name, sent)
    shape = component(
        config.rows, config.head_dim, config.chunk, config.value_bits
    ).scaled.p.shape()
    found = [unpack(shape, bits)["y"] for bits in run.outputs["scaled"]]
    # 65504 * 2**8 * largest needs 48 bits and more.
    limit = 1 << SCALED_BITS - 1
    wanted = [*sums, limit - 1, -limit]
    assert found == [[[y, 0, 0, 0]] * config.rows for y in wanted]


@pytest.mark.parametrize(
    ("name", "stall"),
    [
        ("tiny", 0.0),
        ("tiny", 0.5),
        ("lm", 0.9),
        ("lm", {"sums": 0.9}),
        ("tiny", {"scaled": 0.9}),
    ],
)
def test_random(name: str, stall: Stall) -> None:
    seed = list(CONFIGS).index(name) + 10
    print(f"seed {seed}")
    items = random_items(random.Random(seed), CONFIGS[name], 500)
    check(name, items, stall=stall, seed=seed)


@pytest.mark.parametrize(("cycle", "stall"), [(2, 0.0), (5, {"scaled": 0.9}), (20, 0.5)])
def test_reset_in_flight(cycle: int, stall: Stall) -> None:
    items = random_items(random.Random(cycle), CONFIGS["tiny"], 60)
    check("tiny", items, stall=stall, seed=cycle, reset_at=cycle)
