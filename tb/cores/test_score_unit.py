"""The score unit against its twin: scores, candidates and the way each key takes."""

import random
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pytest
import torch

from golden.twin.keys import score, selection_score
from hw.config import AttentionConfig, preset
from hw.constants import KEY_SUM_BITS
from hw.cores.payloads import candidate, chunk_bits, key_sums, key_tag, score_item
from hw.cores.score_unit import ScoreUnit
from hw.formats import FP16_BITS
from tb.harness import pack, payload_widths, simulate, unpack

CONFIGS = {
    "tiny": preset("tiny"),
    "lm": preset("lm"),
    "rows1": replace(preset("tiny"), rows=1, jobs_in_flight=2),
    "rows3_mean": replace(preset("tiny"), rows=3, group_combine="mean", jobs_in_flight=8),
    "rows4_mean": replace(preset("tiny"), rows=4, group_combine="mean"),
}
DEVICES = ("tiny", "rows1", "rows3_mean")
#: One, zero, subnormals, the ends of the normal numbers, and infinity and a NaN, whose bits count.
SCALES = (0x3C00, 0, 1, 0x3FF, 0x400, 0x7BFF, 0x7C00, 0x7FFF, 0x2000, 0x1234)
EDGE = 1 << (KEY_SUM_BITS - 1)
Fields = dict[str, Any]


@cache
def device(name: str) -> ScoreUnit:
    """One component per configuration, so that all runs share its elaboration and build."""
    return ScoreUnit(CONFIGS[name])


@dataclass
class Case:
    """Query scales ``[slot][row]``, value scales ``[slot]`` and key sums as fields."""

    scales: list[list[int]]
    value_scales: list[int]
    keys: list[Fields]

    def expected(self, config: AttentionConfig) -> tuple[list[Fields], list[Fields]]:
        """Fields of the candidates and of the scores."""
        candidates, scores = [], []
        chunk = 0
        for item in self.keys:
            key, sums = item["key"], torch.tensor(item["key_sum"])
            found = score(sums, torch.tensor(self.scales[key["slot"]]))
            if key["base"]:
                combined = int(selection_score(found, config))
                candidates.append(
                    {
                        "score": combined,
                        "chunk": chunk,
                        "key_sum": item["key_sum"],
                        "last": key["last"],
                    }
                )
                chunk = 0 if key["last"] else chunk + 1
            else:
                names = ("present", "tail", "first", "last", "slot")
                # A dense cache has one scale; keys of a tail bring their own.
                value_scale = key["value_scale"]
                if key["dense"]:
                    value_scale = self.value_scales[key["slot"]]
                fields = {n: key[n] for n in names} | {"value_scale": value_scale}
                scores.append({"score": found.tolist()} | fields)
        return candidates, scores


def make_case(config: AttentionConfig, seed: int, jobs: int) -> Case:
    """Base keys of ``jobs`` jobs, up to the most chunks, among keys of formal passes."""
    print(f"score unit case of seed {seed}")
    generator = random.Random(seed)
    pool = list(SCALES)
    generator.shuffle(pool)
    slots = range(config.jobs_in_flight)
    scales = [
        [pool.pop() if pool else generator.getrandbits(15) for _ in range(config.rows)]
        for _ in slots
    ]
    value_scales = generator.sample(range(1 << FP16_BITS), config.jobs_in_flight)
    keys: list[Fields] = []

    def add(**fields: int) -> None:
        size = generator.choice([8, 16, 24, 31])
        sums = [
            generator.choice(
                [generator.randint(-(1 << size), (1 << size) - 1), EDGE - 1, -EDGE, -1]
            )
            for _ in range(config.rows)
        ]
        if generator.random() < 0.1:
            sums = [sums[0]] * config.rows
        layout = key_tag(config)
        tag = unpack(layout, generator.getrandbits(layout.size))
        keys.append({"key_sum": sums, "key": tag | fields})

    for job in range(jobs):
        # The first job has every chunk that there can be, the second one only.
        chunks = {0: config.max_chunks, 1: 1}.get(job, generator.randint(1, 12))
        slot = generator.choice(slots)
        for chunk in range(chunks):
            add(base=1, slot=slot, last=int(chunk == chunks - 1))
            for _ in range(generator.choice([0, 0, 1, 3])):
                add(base=0)
    return Case(scales, value_scales, keys)


def check(name: str, case: Case, **options: Any) -> Any:
    """Run the case and compare every item; the run comes back."""
    config = CONFIGS[name]
    candidates, scores = case.expected(config)
    flat = [scale for slot in case.scales for scale in slot]
    run = simulate(
        device(name),
        name=f"score_unit_{name}",
        inputs={"key_sums": [pack(key_sums(config), item) for item in case.keys]},
        outputs={"candidates": len(candidates), "scores": len(scores)},
        settings={
            name: sum(x << FP16_BITS * i for i, x in enumerate(each))
            for name, each in (("query_scale", flat), ("value_scale", case.value_scales))
        },
        **options,
    )
    assert [unpack(candidate(config), x) for x in run.outputs["candidates"]] == candidates
    assert [unpack(score_item(config), x) for x in run.outputs["scores"]] == scores
    return run


@pytest.mark.parametrize("name", CONFIGS)
def test_derived_widths(name: str) -> None:
    config = CONFIGS[name]
    ports = dict(device(name).signature.members)
    assert ports.pop("query_scale").shape.size == config.jobs_in_flight * config.rows * 16
    assert ports.pop("value_scale").shape.size == config.jobs_in_flight * 16
    slot = {2: 1, 4: 2, 8: 3}[config.jobs_in_flight]
    wider = {"rows3_mean": 2, "rows4_mean": 2}.get(name, 0)
    assert payload_widths(device(name)) == {
        "key_sums": 32 * config.rows + 9 + 16 + slot,
        "candidates": 24 + wider + chunk_bits(config) + 32 * config.rows + 1,
        "scores": 24 * config.rows + 4 + 16 + slot,
    }


@pytest.mark.parametrize("name", DEVICES)
def test_pace_without_stalls(name: str) -> None:
    case = make_case(CONFIGS[name], 1, jobs=8)
    run = check(name, case)
    # One key a cycle from cycle 1, its result 2 cycles later.
    assert run.cycles == len(case.keys) + 3


@pytest.mark.parametrize(
    ("name", "stall"),
    [("tiny", 0.5), ("tiny", 0.9), ("rows3_mean", {"candidates": 0.9, "scores": 0.5})],
    ids=str,
)
def test_stalls(name: str, stall: Any) -> None:
    check(name, make_case(CONFIGS[name], 2, jobs=3), stall=stall, seed=3)


@pytest.mark.parametrize("cycle", [4, 19])
def test_reset_in_flight(cycle: int) -> None:
    """The chunk numbers start again, too."""
    check("tiny", make_case(CONFIGS["tiny"], 3, jobs=2), stall=0.2, seed=cycle, reset_at=cycle)


def test_largest_sum_of_scores() -> None:
    """The mean of equal scores at their ends is the sum of the rows, not clamped."""
    config = CONFIGS["rows3_mean"]
    tag = unpack(key_tag(config), 0) | {"base": 1}
    keys = [{"key_sum": [end] * 3, "key": tag} for end in (EDGE - 1, -EDGE)]
    slots = config.jobs_in_flight
    case = Case([[0x7BFF] * 3] * slots, [0] * slots, keys)
    run = check("rows3_mean", case)
    found = [unpack(candidate(config), x)["score"] for x in run.outputs["candidates"]]
    assert found == [3 * ((1 << 23) - 1), -3 * (1 << 23)]


@pytest.mark.parametrize("name", DEVICES)
def test_value_scale_of_every_slot(name: str) -> None:
    """A dense key and a tail key of each slot, one after the other."""
    config = CONFIGS[name]
    slots = range(config.jobs_in_flight)
    blank = unpack(key_tag(config), 0) | {"tail": 1, "value_scale": 0x4567}
    keys = [
        {"key_sum": [0] * config.rows, "key": blank | {"slot": slot, "dense": dense}}
        for slot in slots
        for dense in (1, 0)
    ]
    case = Case([[0x3C00] * config.rows] * len(slots), [0x3C00 + slot for slot in slots], keys)
    run = check(name, case)
    found = [unpack(score_item(config), x)["value_scale"] for x in run.outputs["scores"]]
    assert found == [scale for slot in slots for scale in (0x3C00 + slot, 0x4567)]


def test_ties_round_up() -> None:
    """Scale 2**-13 (E = 2, m = 1024): the key sum is divided by 2**20."""
    config = CONFIGS["tiny"]
    half = 1 << 19
    sums = [half, half - 1, -half, -half - 1, 3 * half, -3 * half]
    tag = unpack(key_tag(config), 0)
    slots = config.jobs_in_flight
    keys = [{"key_sum": [x] * 2, "key": tag} for x in sums]
    case = Case([[0x0800] * 2] * slots, [0] * slots, keys)
    run = check("tiny", case)
    found = [unpack(score_item(config), x)["score"][0] for x in run.outputs["scores"]]
    assert found == [1, 0, 0, -1, 2, -1]
