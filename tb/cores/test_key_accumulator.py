"""The key accumulator: groups become key sums, deltas start from their chunk's base."""

import random
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import pytest
import torch

from golden.twin.numbers import saturate
from hw.config import AttentionConfig, preset
from hw.constants import KEY_SUM_BITS, SCALED_BITS
from hw.cores.key_accumulator import KeyAccumulator
from hw.cores.payloads import key_sums, key_tag
from tb.harness import pack, payload_widths, simulate, unpack

CONFIGS = {
    "tiny": preset("tiny"),
    "lm": preset("lm"),
    "rows1_one_group": replace(preset("tiny"), rows=1, group=32),
    "rows8_sixteen_groups": replace(preset("tiny"), rows=8, head_dim=256),
}
DEVICES = ("tiny", "rows1_one_group", "rows8_sixteen_groups")
HIGHEST, LOWEST = (1 << (SCALED_BITS - 1)) - 1, -(1 << (SCALED_BITS - 1))
KINDS = ("small", "extreme", "edge", "zero")
Fields = dict[str, Any]


@cache
def device(name: str) -> KeyAccumulator:
    """One component per configuration, so that all runs share its elaboration and build."""
    return KeyAccumulator(CONFIGS[name])


@dataclass
class Case:
    """Items of both inputs and the expected items."""

    scaled: list[Fields] = field(default_factory=list)
    base: list[list[int]] = field(default_factory=list)
    key_sums: list[Fields] = field(default_factory=list)


def numbers(config: AttentionConfig, kind: str, generator: random.Random) -> list[int]:
    """One group's scaled sums of all rows."""
    edge = 1 << (KEY_SUM_BITS - 1)
    choices = {
        "small": lambda: generator.randint(-(1 << 27), 1 << 27),
        "extreme": lambda: generator.choice([HIGHEST, LOWEST, LOWEST + 1, 0, -1]),
        # Sums next to where they saturate.
        "edge": lambda: generator.choice([edge, -edge, 1, -1]) // generator.choice([1, 1, 2]),
        "zero": lambda: 0,
    }
    return [choices[kind]() for _ in range(config.rows)]


def token(
    config: AttentionConfig,
    case: Case,
    generator: random.Random,
    kind: str,
    start: list[int] | None,
) -> None:
    """All groups of one token; ``start`` is the base's key sums of a delta token."""
    layout = key_tag(config)
    groups = []
    for group in range(config.groups):
        tag = unpack(layout, generator.getrandbits(layout.size))
        tag |= {"key_end": int(group == config.groups - 1), "group_end": 1}
        if start is not None:
            tag |= {"base": 0, "tail": 0, "opening": 0}
        else:
            base = generator.getrandbits(1)
            tag |= {"base": base, "tail": 1 - base}
        groups.append({"y": numbers(config, kind, generator), "key": tag})
    case.scaled += groups
    total = torch.tensor([g["y"] for g in groups]).sum(0) + torch.tensor(start or 0)
    case.key_sums.append(
        {"key_sum": saturate(total, KEY_SUM_BITS).tolist(), "key": groups[-1]["key"]}
    )


def chunk(config: AttentionConfig, case: Case, generator: random.Random, kind: str) -> None:
    """A selected chunk: its base as token 0, then seven tokens of deltas."""
    edge = 1 << (KEY_SUM_BITS - 1)
    start = [
        generator.choice([generator.randint(-edge, edge - 1), edge - 1, -edge])
        for _ in range(config.rows)
    ]
    case.base.append(start)
    opening = len(case.scaled)
    base_item: Fields = {"key_sum": start}
    case.key_sums.append(base_item)
    for _ in range(config.chunk - 1):
        token(config, case, generator, kind, start)
    # The tag of token 0 is that of the record's first step.
    case.scaled[opening]["key"]["opening"] = 1
    base_item["key"] = case.scaled[opening]["key"]


def make_case(config: AttentionConfig, seed: int, tokens: int, chunks: int) -> Case:
    """Whole keys and chunks in random order, the extremes of every kind among them."""
    print(f"key accumulator case of seed {seed}")
    generator = random.Random(seed)
    case = Case()
    order = [token] * tokens + [chunk] * chunks
    generator.shuffle(order)
    for index, make in enumerate(order):
        kind = KINDS[index % len(KINDS)]
        if make is token:
            token(config, case, generator, kind, None)
        else:
            chunk(config, case, generator, kind)
    return case


def check(name: str, case: Case, **options: Any) -> Any:
    """Run the case and compare every item; the run comes back."""
    config = CONFIGS[name]
    ports = device(name).signature.members
    layouts = {x: ports[x].signature.members["payload"].shape for x in ("scaled", "base")}
    run = simulate(
        device(name),
        name=f"key_accumulator_{name}",
        inputs={
            "scaled": [pack(layouts["scaled"], item) for item in case.scaled],
            "base": [pack(layouts["base"], item) for item in case.base],
        },
        outputs={"key_sums": len(case.key_sums)},
        **options,
    )
    found = [unpack(key_sums(config), item) for item in run.outputs["key_sums"]]
    assert found == case.key_sums
    return run


@pytest.mark.parametrize("name", CONFIGS)
def test_derived_widths(name: str) -> None:
    config = CONFIGS[name]
    key = 3 + 2 + 3 + 3 + 16
    assert payload_widths(device(name)) == {
        "scaled": 46 * config.rows + key,
        "base": 32 * config.rows,
        "key_sums": 32 * config.rows + key,
    }


@pytest.mark.parametrize("name", DEVICES)
def test_pace_without_stalls(name: str) -> None:
    case = make_case(CONFIGS[name], 1, tokens=40, chunks=12)
    run = check(name, case)
    # One group a cycle and one cycle per base from cycle 1, the result a cycle later.
    assert run.cycles == len(case.scaled) + len(case.base) + 2


@pytest.mark.parametrize(
    ("name", "stall"),
    [("tiny", 0.5), ("tiny", {"base": 0.9}), ("rows1_one_group", {"scaled": 0.9, "key_sums": 0.9})],
    ids=str,
)
def test_stalls(name: str, stall: Any) -> None:
    check(name, make_case(CONFIGS[name], 2, tokens=10, chunks=10), stall=stall, seed=7)


@pytest.mark.parametrize("cycle", [10, 25])
def test_reset_in_flight(cycle: int) -> None:
    case = make_case(CONFIGS["tiny"], 3, tokens=4, chunks=6)
    check("tiny", case, stall=0.2, seed=cycle, reset_at=cycle)


def test_latency() -> None:
    """A key's sum comes a cycle after its last group, a chunk's base after its first delta."""
    for make, cycle in ((token, 1 + CONFIGS["tiny"].groups), (chunk, 2)):
        case = Case()
        arguments = (CONFIGS["tiny"], case, random.Random(4), "small")
        if make is token:
            token(*arguments, None)
        else:
            chunk(*arguments)
        assert check("tiny", case).first_output_cycle == {"key_sums": cycle}


def test_widest_sum_saturates() -> None:
    """Sixteen groups at an end of 46 bits on top of a base at the same end of 32."""
    config = CONFIGS["rows8_sixteen_groups"]
    case = Case()
    chunk(config, case, random.Random(5), "zero")
    ends = [HIGHEST, LOWEST] * 4
    limits = [(1 << 31) - 1, -(1 << 31)] * 4
    case.base[0][:] = limits
    for item in case.scaled:
        item["y"] = ends
    for item in case.key_sums:
        item["key_sum"] = limits
    check("rows8_sixteen_groups", case)
