"""The score tap against its twin: every token, under stalls and resets, its pace and its sums."""

import random
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from golden.twin.normaliser import reciprocal
from golden.twin.score_tap import received_attention
from golden.twin.softmax import softmax
from hw.config import preset
from hw.constants import RECEIVED_FRACTION
from hw.cores.score_tap import ScoreTap, received_layout, tapped_scores
from hw.cores.sum_reciprocal import reciprocal_layout
from tb.harness import pack, simulate, unpack

CONFIGS = {
    "tiny": preset("tiny"),
    "lm": preset("lm"),
    "rows1": replace(preset("tiny"), rows=1),
    "rows5_values4": replace(preset("tiny"), rows=5, value_bits=4),
}
DEPTH = 32
#: Cycles from the transfer of the last score to the first token, beside a row each.
LATENCY = 6


@cache
def device(name: str) -> ScoreTap:
    """One component per configuration, so that all runs share its elaboration and build."""
    return ScoreTap(CONFIGS[name], depth=DEPTH)


@dataclass(frozen=True)
class Job:
    """Scores ``[tokens, rows]``, which tokens are kept, the softmax's maximum and sum, a slot."""

    scores: Tensor
    kept: Tensor
    maximum: Tensor
    sum: Tensor
    slot: int


def make_job(name: str, kind: str, rng: random.Random) -> Job:
    """A job of units of a chunk; up to ``DEPTH`` of its tokens are kept."""
    config = CONFIGS[name]
    torch.manual_seed(rng.randrange(1 << 30))
    units = rng.choice([1, 2, 5, 8])
    tokens = units * config.chunk
    shape = (tokens, config.rows)
    scores = {
        "near": torch.randint(-(12 << 12), 12 << 12, shape),
        "wide": torch.randint(-(1 << 23), 1 << 23, shape),
        "ties": torch.randint(-2, 3, shape) << 11,
        "far": torch.where(torch.rand(shape) < 0.2, 0, -torch.randint(18 << 12, 27 << 12, shape)),
        "full": torch.full(shape, 4095),
    }[kind]
    everywhere = torch.ones(units, config.chunk, dtype=torch.bool)
    found = softmax(
        scores.unflatten(0, (units, -1)).transpose(-1, -2),
        everywhere,
        torch.zeros(units, config.chunk, dtype=torch.int64),
        torch.zeros(units, dtype=torch.bool),
    )
    kept = torch.rand(tokens) < rng.choice([0.0, 0.4, 1.0])
    kept &= kept.cumsum(0) <= DEPTH
    return Job(scores, kept, found.maximum, found.sum, rng.randrange(config.jobs_in_flight))


def make_jobs(name: str, seed: int, rounds: int = 2) -> list[Job]:
    """Jobs of every kind."""
    print(f"tapped jobs of seed {seed}")
    rng = random.Random(seed)
    kinds = ["near", "wide", "ties", "far", "full"] * rounds
    rng.shuffle(kinds)
    return [make_job(name, kind, rng) for kind in kinds]


def items(name: str, jobs: list[Job]) -> dict[str, list[int]]:
    """The input streams of the jobs."""
    config = CONFIGS[name]
    scores, rows = [], []
    for job in jobs:
        for token, (score, kept) in enumerate(
            zip(job.scores.tolist(), job.kept.tolist(), strict=True)
        ):
            last = token == len(job.kept) - 1
            fields = {"score": score, "kept": int(kept), "last": int(last), "slot": job.slot}
            scores.append(pack(tapped_scores(config), fields))
        factor, shift = reciprocal(config, job.sum)
        for row in range(config.rows):
            fields = {
                "maximum": int(job.maximum[row]),
                "reciprocal": int(factor[row]),
                "shift": int(shift[row]),
            }
            rows.append(pack(reciprocal_layout(config), fields))
    return {"scores": scores, "reciprocals": rows}


def wanted(name: str, jobs: list[Job]) -> list[dict[str, int]]:
    """What the twin says."""
    found = []
    for job in jobs:
        received = received_attention(job.scores, job.maximum, job.sum, CONFIGS[name])
        of_job = received[job.kept].tolist()
        for place, value in enumerate(of_job):
            last = int(place == len(of_job) - 1)
            found.append({"received": value, "last": last, "slot": job.slot})
    return found


def check(name: str, jobs: list[Job], **options: Any) -> Any:
    """Run the jobs and compare every item; the run comes back."""
    expected = wanted(name, jobs)
    run = simulate(
        device(name),
        name=f"score_tap_{name}",
        inputs=items(name, jobs),
        outputs={"received": len(expected)},
        **options,
    )
    layout = received_layout(CONFIGS[name])
    assert [unpack(layout, item) for item in run.outputs["received"]] == expected
    return run


@pytest.mark.parametrize("name", CONFIGS)
def test_random_jobs(name: str, seed: int) -> None:
    jobs = make_jobs(name, seed)
    check(name, jobs)
    values = [item["received"] for item in wanted(name, jobs)]
    # Nothing at all, and much of a row.
    assert 0 in values
    assert max(values) > 1 << RECEIVED_FRACTION - 3


@pytest.mark.parametrize(
    "stall", [0.5, {"scores": 0.9}, {"reciprocals": 0.95}, {"received": 0.9}], ids=str
)
def test_stalls(stall: Any, seed: int) -> None:
    check("tiny", make_jobs("tiny", seed), stall=stall, seed=seed)


@pytest.mark.parametrize("cycle", [5, 40, 90])
def test_reset_in_flight(cycle: int, seed: int) -> None:
    check("tiny", make_jobs("tiny", seed, 1), stall=0.3, seed=seed, reset_at=cycle)


def test_pace() -> None:
    """A token in as many cycles as there are rows, from the last reciprocal on."""
    whole = next(job for job in make_jobs("tiny", 1, 9) if len(job.kept) == 40)
    job = replace(whole, kept=torch.arange(40) < DEPTH)
    run = check("tiny", [job])
    # One score and one reciprocal a cycle from cycle 1 on; the scores take longer.
    first = run.first_output_cycle["received"]
    assert first == 40 + LATENCY + CONFIGS["tiny"].rows
    assert run.cycles == first + (DEPTH - 1) * CONFIGS["tiny"].rows + 1


def test_rows_add_up_to_one() -> None:
    """All tokens of a job together receive 1 from each row, but for the roundings."""
    jobs = [replace(job, kept=torch.ones_like(job.kept)) for job in make_jobs("lm", 3)]
    for job in jobs:
        total = received_attention(job.scores, job.maximum, job.sum, CONFIGS["lm"]).sum().item()
        assert total / (CONFIGS["lm"].rows << RECEIVED_FRACTION) == pytest.approx(1, abs=2e-3)


def test_depth() -> None:
    with pytest.raises(ValueError, match="depth must be at least 1, not 0"):
        ScoreTap(CONFIGS["tiny"], depth=0)
