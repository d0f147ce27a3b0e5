"""Votes of a step against the twin: flat and sharp attention, ties with the limit, and the pace."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pytest
import torch

from golden.twin.slot_votes import votes
from hw.config import AttentionConfig, preset
from hw.cores.payloads import slot_uses
from hw.cores.score_tap import received_layout
from hw.cores.slot_votes import SlotVotes, received_sum_bits
from tb.harness import Run, pack, simulate, unpack

SMALL = replace(
    preset("tiny"), slots=40, slot_sinks=2, slot_recent=4, slot_rule="votes", jobs_in_flight=2
)
CONFIGS = {
    "default": SMALL,
    "mean": replace(SMALL, slots=32, rows=1, slot_vote_sigma=0),
    "ends": replace(SMALL, slots=256, rows=8, slot_vote_mean=1024, slot_vote_sigma=1024),
}


@cache
def device(name: str) -> SlotVotes:
    """One component per configuration, so that all runs share its elaboration and build."""
    return SlotVotes(CONFIGS[name])


@dataclass(frozen=True)
class Job:
    """What the tokens of a job received; job slot 0 is of mode `SLOTS`, slot 1 of another."""

    received: list[int]
    in_slots: bool = True

    def votes(self, config: AttentionConfig) -> list[int]:
        """What comes out."""
        if not self.in_slots:
            return self.received
        found: list[int] = votes(torch.tensor(self.received), config).tolist()
        return found


def make_jobs(name: str, seed: int, count: int) -> list[Job]:
    """One token, all alike, one with everything, few different numbers, and random ones."""
    print(f"votes of seed {seed}")
    config, rng = CONFIGS[name], random.Random(seed)
    most = config.rows << 20
    lengths = [1, config.slots, config.slots]
    made = []
    for number in range(count):
        n = lengths[number] if number < len(lengths) else rng.randint(1, config.slots)
        kind = number % 5
        flat = most // n
        received = {
            0: [flat] * n,
            1: [rng.choice([0, 1])] * (n - 1) + [most],
            2: [rng.choice([flat // 2, flat, flat + 1]) for _ in range(n)],
            3: [rng.choice([0, flat, 2 * flat]) for _ in range(n)],
            4: [rng.randint(0, flat) if rng.random() < 0.9 else 2 * flat for _ in range(n)],
        }[kind]
        assert sum(received) < 1 << received_sum_bits(config)
        made.append(Job(received))
        if number % 4 == 3:
            others = [rng.choice([0, most, 1 << 16]) for _ in range(rng.randint(1, 32))]
            made.append(Job(others, in_slots=False))
    return made


def check(name: str, jobs: list[Job], **options: Any) -> Run:
    """Run the jobs and compare every token; the run comes back."""
    config = CONFIGS[name]
    layout = received_layout(config)
    received, wanted = [], []
    for job in jobs:
        last = len(job.received) - 1
        pairs = zip(job.received, job.votes(config), strict=True)
        for i, (number, vote) in enumerate(pairs):
            tag = {"last": int(i == last), "slot": int(not job.in_slots)}
            received.append(pack(layout, {"received": number, **tag}))
            wanted.append({"received": vote, **tag})
    no_use = {"in_slots": 0, "place": 0, "recent": [0] * config.slot_recent}
    uses: Any = [no_use | {"in_slots": 1}, no_use]
    run = simulate(
        device(name),
        name=f"slot_votes_{name}",
        inputs={"received": received},
        outputs={"votes": len(wanted)},
        settings={"uses": pack(slot_uses(config), uses)},
        **options,
    )
    assert [unpack(layout, item) for item in run.outputs["votes"]] == wanted
    return run


@pytest.mark.parametrize(
    "name",
    ["default", *(pytest.param(name, marks=pytest.mark.slow) for name in ("mean", "ends"))],
)
def test_votes(name: str, seed: int) -> None:
    jobs = make_jobs(name, seed, 25)
    given = [vote for job in jobs if job.in_slots for vote in job.votes(CONFIGS[name])]
    assert {0, 1 << 16} == set(given)
    run = check(name, jobs)
    taken = sum(len(job.received) for job in jobs)
    slots = [job for job in jobs if job.in_slots]
    left = sum(len(job.received) - 1 + device(name).latency for job in slots)
    assert run.cycles <= taken + left + 5


def test_a_number_on_the_limit_has_no_vote() -> None:
    """Mean 8 times a half, without deviation: 4 stays, 3 does not; by the twin as by hand."""
    config = replace(SMALL, slot_vote_mean=128, slot_vote_sigma=0)
    assert votes(torch.tensor([3, 4, 5, 20]), config).tolist() == [1 << 16, 0, 0, 0]


@pytest.mark.parametrize("stall", [0.5, {"received": 0.9}, {"votes": 0.9}], ids=str)
def test_stalls(stall: Any, seed: int) -> None:
    check("default", make_jobs("default", seed, 10), stall=stall, seed=seed)


@pytest.mark.parametrize("cycle", [30, 90, 130])
def test_reset_in_flight(cycle: int, seed: int) -> None:
    check("default", make_jobs("default", seed, 6), stall=0.2, seed=seed, reset_at=cycle)


@pytest.mark.parametrize("fields", [{"slots": 0}, {"slot_rule": "score"}])
def test_another_rule(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="slot_rule must be 'votes' and slots above 0, not "):
        SlotVotes(replace(SMALL, **fields))
