"""Jobs wait for their tokens and for jobs of the same cache; refused ones leave no trace."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest

from hw.config import BEAT_BITS, AttentionConfig, preset
from hw.cores.compressor.tail_appender import token_layout
from hw.cores.job_admission import JobAdmission, announced_layout, started_layout
from hw.cores.payloads import planned_job
from hw.formats import FP16_BITS, Mode, Status
from tb.harness import pack, unpack
from tb.harness.stepped import Neighbours, Steps, play

CONFIG = replace(preset("tiny"), jobs_in_flight=2)
#: With more slots than a ring has places.
SLOTS = replace(CONFIG, slots=3 * CONFIG.window)
#: Of a token whose job asks.
SLOT = SLOTS.slots - 1
BEATS = CONFIG.head_dim * (FP16_BITS + CONFIG.tail_value_bits) // BEAT_BITS
#: Cycles of a job beside the appending itself.
LATENCY = 5


@dataclass(frozen=True)
class Job:
    """A job, and how its token is to be appended."""

    context: int = 1
    cache: int = 0
    mode: int = Mode.KVO
    refused: bool = False
    failed: bool = False
    not_finite: bool = False

    @property
    def appends(self) -> bool:
        """Whether a token is written for it."""
        return self.mode in (Mode.KVO, Mode.SLOTS) and not self.refused

    @property
    def place(self) -> int:
        """Where its token goes."""
        return SLOT if self.mode == Mode.SLOTS else (self.context - 1) % (2 * CONFIG.window)

    @property
    def status(self) -> Status:
        """How its token was appended."""
        if self.failed:
            return Status.MEMORY_ERROR
        return Status.SCALE_NOT_FINITE if self.not_finite else Status.OK

    def planned(self, number: int) -> dict[str, int]:
        """What the core gets."""
        closed = CONFIG.closed_tokens(self.context) if self.mode == Mode.KVO else 0
        return {
            "slot": number % CONFIG.jobs_in_flight,
            "chunks": closed // CONFIG.chunk,
            "tail": self.context - closed,
            "base_address": 32 * number,
            "chunk_address": 0,
            "tail_address": 4096 * self.cache,
            "mode": self.mode if self.mode in list(Mode) else 0,
        }

    def announced(self, number: int, config: AttentionConfig) -> int:
        """The item of it."""
        fields = {"refused": int(self.refused), "mode": self.mode, "value_scale": number}
        return pack(announced_layout(config), {**fields, "job": self.planned(number)})


class Core(Neighbours):
    """Appends tokens, and ends jobs in order, some time after they started."""

    def __init__(
        self, jobs: list[Job], seed: int, longest: int, runs: int, config: AttentionConfig
    ) -> None:
        brings = [i for i, job in enumerate(jobs) if job.mode in (Mode.KVO, Mode.SLOTS)]
        super().__init__(
            {
                "jobs": [job.announced(i, config) for i, job in enumerate(jobs)],
                "beats": [i << 8 | beat for i in brings for beat in range(BEATS)],
            }
        )
        self._config = config
        self._rng, self._longest, self._runs = random.Random(seed), longest, runs
        self._tokens = [i for i, job in enumerate(jobs) if job.appends]
        self._jobs = jobs
        self._beats = 0
        self._waits = 0
        self._running: list[tuple[int, int]] = []

    def react(self, moved: Mapping[str, int]) -> Mapping[str, int]:
        rng, found = self._rng, {"appended": 0, "not_finite": 0, "failed": 0, "finished": 0}
        if self._config.slots:
            found["place"] = SLOT
        if self._waits:
            self._waits -= 1
            job = self._jobs[self._tokens[0]]
            # Both at any time up to the end; a failure counts more.
            if self._waits < 2:
                found["not_finite"] = int(job.not_finite)
                found["failed"] = int(job.failed)
            if self._waits == 0:
                found["appended"] = 1
                self._tokens.pop(0)
        if "token_beats" in moved:
            assert moved["token_beats"] == self._tokens[0] << 8 | self._beats % BEATS
            self._beats += 1
            if self._beats % BEATS == 0:
                self._waits = rng.randint(1, self._longest)
        if "started" in moved:
            job = unpack(started_layout(self._config), moved["started"])["job"]
            caches = [cache for cache, _ in self._running]
            assert job["tail_address"] not in caches
            assert len(caches) < CONFIG.jobs_in_flight
            self._running.append((job["tail_address"], rng.randint(1, self._runs)))
        elif self._running:
            cache, left = self._running[0]
            self._running[0] = (cache, left - 1)
            if left == 1:
                self._running.pop(0)
                found["finished"] = 1
        return found


def make_jobs(seed: int, count: int) -> list[Job]:
    """Jobs of all kinds of few caches, and contexts around the windows."""
    print(f"jobs of seed {seed}")
    rng = random.Random(seed)
    return [
        Job(
            context=rng.choice([1, CONFIG.window, 2 * CONFIG.window, rng.randint(1, 256)]),
            cache=rng.randrange(4),
            mode=rng.choice(
                [Mode.KVO, Mode.KVO, Mode.DENSE8, 9 if (no := rng.random() < 0.3) else 0]
            ),
            refused=no,
            failed=rng.random() < 0.2,
            not_finite=rng.random() < 0.2,
        )
        for _ in range(count)
    ]


def check(
    jobs: list[Job],
    seed: int,
    longest: int = 6,
    runs: int = 30,
    config: AttentionConfig = CONFIG,
    **options: Any,
) -> Steps:
    """Run the jobs, compare tokens and what starts; the run comes back."""
    unit = JobAdmission(config)
    started = [(i, job) for i, job in enumerate(jobs) if not job.refused]
    appended = [(i, job) for i, job in started if job.appends]
    steps = play(
        unit,
        lambda: Core(jobs, seed, longest, runs, config),
        {
            **({"asked": len(started)} if config.slots else {}),
            "token": len(appended),
            "token_beats": len(appended) * BEATS,
            "admitted": len(started),
            "started": len(started),
        },
        counters=unit.counters,
        seed=seed,
        **options,
    )
    tokens = [
        {
            "tail_address": 4096 * job.cache,
            "place": job.place,
            "value_scale": i,
            "of_prompt": 0,
            "gathered": 0,
            "saliency": 0,
        }
        for i, job in appended
    ]
    found = [unpack(token_layout(config), item) for item in steps.items["token"]]
    assert [{**item, "saliency": 0} for item in found] == tokens
    planned = [job.planned(i) for i, job in started]
    assert [unpack(planned_job(config), item) for item in steps.items["admitted"]] == planned
    wanted = [
        {"job": job.planned(i), "status": job.status if job.appends else Status.OK}
        for i, job in started
    ]
    assert [unpack(started_layout(config), item) for item in steps.items["started"]] == wanted
    assert len(steps.seen["tokens_appended"]) == len(appended)
    return steps


def test_jobs_of_all_kinds(seed: int) -> None:
    jobs = make_jobs(seed, 30)
    assert {job.status for job in jobs} == {
        Status.OK,
        Status.MEMORY_ERROR,
        Status.SCALE_NOT_FINITE,
    }
    steps = check(jobs, seed)
    assert steps.seen["same_cache_wait"]


@pytest.mark.parametrize("stall", [0.5, {"beats": 0.9}, {"started": 0.9}], ids=str)
def test_stalls(stall: Any, seed: int) -> None:
    check(make_jobs(seed, 12), seed, stall=stall)


@pytest.mark.parametrize("cycle", [5, 30, 70])
def test_reset_in_flight(cycle: int, seed: int) -> None:
    check(make_jobs(seed, 8), seed, stall=0.2, reset_at=cycle)


def test_places_of_a_ring(seed: int) -> None:
    """The tail begins in one half of the ring, or in the other."""
    window = CONFIG.window
    contexts = [1, window, 2 * window, 2 * window + 1, 3 * window, 3 * window + 1, 4 * window, 256]
    jobs = [Job(context=c, cache=i % 4) for i, c in enumerate(contexts)]
    check(jobs, seed, runs=5)
    # However many slots there are beside the ring.
    check([*jobs, Job(mode=Mode.SLOTS, context=2)], seed, runs=5, config=SLOTS)


def test_pace(seed: int) -> None:
    """Of a job that waits for nothing: the appending itself, and 5 cycles."""
    steps = check([Job(cache=i) for i in range(2)], seed, longest=1)
    # The token is written 2 cycles after its last beat.
    taken = steps.cycles_of["jobs"]
    appending = BEATS + 1
    assert taken[0] == LATENCY + appending
    assert taken[1] == 2 * taken[0]
    assert steps.seen["same_cache_wait"] == []


def test_pace_of_jobs_without_a_token(seed: int) -> None:
    """Dense modes, and refused jobs, of which the dense ones are gone at once."""
    dense = [Job(mode=Mode.DENSE8, cache=i) for i in range(2)]
    steps = check(dense, seed, runs=100)
    assert steps.cycles_of["jobs"] == [4, 8]
    refused = [Job(mode=9, refused=True)] * 3 + [Job(refused=True)] * 2
    steps = check(refused, seed)
    assert steps.cycles_of["jobs"] == [1, 2, 3, 3 + BEATS + 1, 3 + 2 * (BEATS + 1)]


def test_jobs_of_one_cache_follow_each_other(seed: int) -> None:
    """And one of another cache behind them waits with them."""
    steps = check([Job(cache=1), Job(cache=1), Job(cache=2)], seed, longest=1, runs=60)
    assert len(steps.seen["same_cache_wait"]) > 10


def test_caches_in_use_move_up(seed: int) -> None:
    """When the oldest job ends, the one behind it still has its cache."""
    jobs = [Job(mode=Mode.DENSE8, cache=cache) for cache in (1, 2, 2, 3, 3, 1, 1)]
    check(jobs, seed, runs=60)


def test_room(seed: int) -> None:
    """No more jobs than the core has slots."""
    jobs = [Job(mode=Mode.DENSE8, cache=i) for i in range(9)]
    steps = check(jobs, seed, runs=40)
    assert steps.seen["same_cache_wait"] == []
