"""Saliencies of tails after a step, by addition in Python; saturation, empty places, pace."""

import random
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pytest

from hw.config import preset
from hw.cores.saliency_update import SALIENCY_BEAT, WORDS, SaliencyUpdate
from hw.cores.score_tap import received_layout
from hw.formats import SALIENCY_BITS
from tb.harness import Run, pack, simulate, unpack

TINY = preset("tiny")
CONFIGS = {
    "tiny": TINY,
    "chunk4": replace(TINY, chunk=4),
    "chunk16_rows8": replace(TINY, chunk=16, budget=48, rows=8),
}
MOST = (1 << SALIENCY_BITS) - 1


@cache
def device(name: str) -> SaliencyUpdate:
    """One component per configuration, so that all runs share its elaboration and build."""
    return SaliencyUpdate(CONFIGS[name])


@dataclass(frozen=True)
class Job:
    """What the places of the blocks held, and what the tokens received."""

    before: list[int]
    received: list[int]

    @property
    def after(self) -> list[int]:
        """Of all places."""
        known = [*self.before[: len(self.received) - 1], 0]
        sums = [min(MOST, a + b) for a, b in zip(known, self.received, strict=True)]
        return sums + [0] * (len(self.before) - len(sums))


def make_jobs(name: str, seed: int, count: int) -> list[Job]:
    """Tails from one token to two windows; sums that saturate, and that just do not."""
    print(f"tails of seed {seed}")
    config, rng = CONFIGS[name], random.Random(seed)
    largest = config.rows << 20
    jobs = []
    for number in range(count):
        tokens = [1, 2 * config.window][number] if number < 2 else rng.randint(1, 2 * config.window)
        places = -(-tokens // config.chunk) * config.chunk
        received = [rng.choice([0, largest, rng.randrange(largest)]) for _ in range(tokens)]
        before = [rng.choice([0, MOST, rng.getrandbits(32)]) for _ in range(places)]
        for i in range(0, tokens - 1, 3):
            before[i] = MOST - received[i] + rng.choice([-1, 0])
        jobs.append(Job(before, received))
    return jobs


def check(name: str, jobs: list[Job], **options: Any) -> Run:
    """Run the jobs and compare every word; the run comes back."""
    before, received, wanted = [], [], []
    layout = received_layout(CONFIGS[name])
    for job in jobs:
        after = job.after
        for i in range(0, len(after), WORDS):
            before.append(sum(word << 32 * j for j, word in enumerate(job.before[i : i + WORDS])))
            number = sum(word << 32 * j for j, word in enumerate(after[i : i + WORDS]))
            wanted.append({"data": number, "last": int(i + WORDS == len(after))})
        for i, value in enumerate(job.received):
            last = int(i == len(job.received) - 1)
            received.append(pack(layout, {"received": value, "last": last, "slot": 0}))
    run = simulate(
        device(name),
        name=f"saliency_update_{name}",
        inputs={"before": before, "received": received},
        outputs={"after": len(wanted)},
        **options,
    )
    assert [unpack(SALIENCY_BEAT, item) for item in run.outputs["after"]] == wanted
    return run


@pytest.mark.parametrize("name", CONFIGS)
def test_tails_at_full_pace(name: str, seed: int) -> None:
    jobs = make_jobs(name, seed, 12)
    run = check(name, jobs)
    # A word a cycle; a beat of ``before`` is seen three cycles after it was offered.
    assert run.cycles == sum(len(job.before) for job in jobs) + 4


@pytest.mark.parametrize(
    "stall", [0.5, {"before": 0.9}, {"received": 0.9}, {"after": 0.9}], ids=str
)
def test_stalls(stall: Any, seed: int) -> None:
    check("tiny", make_jobs("tiny", seed, 6), stall=stall, seed=seed)


@pytest.mark.parametrize("cycle", [6, 30])
def test_reset_in_flight(cycle: int, seed: int) -> None:
    check("tiny", make_jobs("tiny", seed, 4), stall=0.3, seed=seed, reset_at=cycle)
