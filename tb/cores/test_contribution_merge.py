"""The contribution merge against the twin: order of units, alignment of tail sums."""

import random
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import pytest
import torch

from golden.twin.values import align_tail
from hw.config import AttentionConfig, preset
from hw.constants import SCALED_BITS
from hw.cores.contribution_merge import ContributionMerge
from hw.cores.lanes import LANES
from hw.cores.payloads import contribution, tail_sum_bits, tail_sums, unit_header
from tb.harness import pack, payload_widths, simulate, unpack

CONFIGS = {
    "tiny": preset("tiny"),
    "lm": preset("lm"),
    "rows1_bytes": replace(preset("tiny"), rows=1, tail_value_bits=8),
    "rows4": replace(preset("tiny"), rows=4),
    "chunk16": replace(preset("tiny"), chunk=16, budget=48, value_bits=4),
}
DEVICES = ("tiny", "lm", "rows1_bytes", "chunk16")
Fields = dict[str, Any]


def largest(config: AttentionConfig) -> int:
    """No sum of a chunk's weights of 12 bits times codes of 16 bits is larger."""
    return config.chunk * 4095 * (1 << 15)


@cache
def device(name: str) -> ContributionMerge:
    """One component per configuration, so that all runs share its elaboration and build."""
    return ContributionMerge(CONFIGS[name])


@dataclass
class Case:
    """Items of the inputs and of the output."""

    unit: list[Fields] = field(default_factory=list)
    scaled: list[list[list[int]]] = field(default_factory=list)
    tail: list[Fields] = field(default_factory=list)
    contributions: list[Fields] = field(default_factory=list)


def add_unit(config: AttentionConfig, case: Case, generator: random.Random, tail: bool) -> None:
    """A unit with all its quads, at extremes as often as not."""
    layout = unit_header(config)
    header = unpack(layout, generator.getrandbits(layout.size)) | {"tail": int(tail)}
    case.unit.append(header)
    edge = 1 << (SCALED_BITS - 1)
    for quad in range(config.head_dim // LANES):
        top = largest(config) if tail else edge - 1
        y = [
            [
                generator.choice([generator.randint(-top, top), top, -top, 0, -1, 3 << 15])
                for _ in range(LANES)
            ]
            for _ in range(config.rows)
        ]
        if tail:
            case.tail.append({"v": y})
            exponent = torch.tensor(header["tail_exponent"])
            y = align_tail(torch.tensor(y), exponent, config).tolist()
        else:
            case.scaled.append(y)
        shared = {x: header[x] for x in ("maximum_shift", "unit_shift", "first", "last")}
        case.contributions.append({"y": y, "quad": quad} | shared)


def make_case(config: AttentionConfig, seed: int, units: int) -> Case:
    """Units of both kinds in random order."""
    print(f"contribution merge case of seed {seed}")
    generator = random.Random(seed)
    case = Case()
    for _ in range(units):
        add_unit(config, case, generator, generator.random() < 0.5)
    return case


def check(name: str, case: Case, **options: Any) -> Any:
    """Run the case and compare every item; the run comes back."""
    config = CONFIGS[name]
    scaled = device(name).signature.members["scaled"].signature.members["payload"].shape
    run = simulate(
        device(name),
        name=f"contribution_merge_{name}",
        inputs={
            "unit": [pack(unit_header(config), item) for item in case.unit],
            "scaled": [pack(scaled, item) for item in case.scaled],
            "tail": [pack(tail_sums(config), item) for item in case.tail],
        },
        outputs={"contributions": len(case.contributions)},
        **options,
    )
    found = [unpack(contribution(config), item) for item in run.outputs["contributions"]]
    assert found == case.contributions
    return run


@pytest.mark.parametrize("name", CONFIGS)
def test_derived_widths(name: str) -> None:
    config = CONFIGS[name]
    quad = {32: 3, 64: 4, 128: 5}[config.head_dim]
    assert payload_widths(device(name)) == {
        "unit": 12 * config.rows + 1 + 5 + 2,
        "scaled": 46 * 4 * config.rows,
        "tail": (28 + {8: 3, 16: 4}[config.chunk]) * 4 * config.rows,
        "contributions": (46 * 4 + 12) * config.rows + quad + 2,
    }
    assert largest(config).bit_length() < tail_sum_bits(config)


@pytest.mark.parametrize("name", DEVICES)
def test_pace_without_stalls(name: str) -> None:
    case = make_case(CONFIGS[name], 1, units=12)
    run = check(name, case)
    # One quad a cycle from cycle 1, a cycle later at the output, whatever the order of the units.
    assert run.first_output_cycle == {"contributions": 2}
    assert run.cycles == len(case.contributions) + 2


@pytest.mark.parametrize(
    ("name", "stall"),
    [
        ("tiny", 0.5),
        ("tiny", {"unit": 0.95, "contributions": 0.3}),
        ("tiny", {"scaled": 0.9, "tail": 0.1, "contributions": 0.9}),
        ("rows1_bytes", {"tail": 0.9}),
    ],
    ids=str,
)
def test_stalls(name: str, stall: Any) -> None:
    """Whichever input is late, the order is that of the units."""
    check(name, make_case(CONFIGS[name], 2, units=10), stall=stall, seed=9)


@pytest.mark.parametrize("cycle", [3, 20])
def test_reset_in_flight(cycle: int) -> None:
    """The count of the quads starts again, too."""
    check("tiny", make_case(CONFIGS["tiny"], 3, units=6), stall=0.2, seed=cycle, reset_at=cycle)


@pytest.mark.parametrize("name", ["tiny", "rows1_bytes"])
def test_every_exponent(name: str) -> None:
    """Right shifts, left shifts, and the largest sums that saturate."""
    config = CONFIGS[name]
    case = make_case(config, 4, units=0)
    generator = random.Random(4)
    for exponent in range(32):
        add_unit(config, case, generator, tail=True)
        case.unit[-1]["tail_exponent"] = exponent
        quads = config.head_dim // LANES
        for quad, item in zip(case.tail[-quads:], case.contributions[-quads:], strict=True):
            aligned = align_tail(torch.tensor(quad["v"]), torch.tensor(exponent), config)
            item["y"] = aligned.tolist()
    check(name, case)


@pytest.mark.parametrize("name", ["tiny", "rows1_bytes"])
def test_alignment_by_hand(name: str) -> None:
    """5 * v is shifted by 21 - Emax, whatever the width of the tail's codes."""
    config = CONFIGS[name]
    for exponent, v, y in (
        (20, [1, -1, 2, -3], [3, -2, 5, -7]),
        (21, [1, -1, 2, -3], [5, -5, 10, -15]),
        (24, [1, -1, 2, -3], [40, -40, 80, -120]),
        # Over 2**20: 1280, 1.25 * 2**20 and its negative, 5 * 2**20.
        (1, [256, 1 << 18, -(1 << 18), 1 << 20], [0, 1, -1, 5]),
    ):
        case = Case()
        add_unit(config, case, random.Random(1), tail=True)
        case.unit[0]["tail_exponent"] = exponent
        for item, wanted in zip(case.tail, case.contributions, strict=True):
            item["v"] = [v] * config.rows
            wanted["y"] = [y] * config.rows
        check(name, case)


def test_no_finite_tail_saturates() -> None:
    """The largest sum with the largest exponent of a finite scale is below 2**45."""
    for config in (CONFIGS["tiny"], CONFIGS["rows1_bytes"], CONFIGS["chunk16"]):
        aligned = int(align_tail(torch.tensor(largest(config)), torch.tensor(30), config))
        assert aligned == largest(config) * config.value_step_ratio << 9
        assert 1 << 41 < aligned < 1 << 45
