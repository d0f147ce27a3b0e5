"""Completions wait for saliencies and windows; every failure on the way shows in the status."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest

from hw.config import preset
from hw.cores.compressor.burst_builder import PIECE
from hw.cores.compressor.payloads import ANSWER, ENABLED_BYTES, window_count, window_layout
from hw.cores.job_admission import started_layout
from hw.cores.job_finish import JobFinish
from hw.cores.job_retire import completion_layout
from hw.cores.saliency_update import SALIENCY_BEAT, WORDS
from hw.formats import SALIENCY_BITS, KVFormat, Mode, Status
from tb.harness import pack, unpack
from tb.harness.stepped import Neighbours, Steps, play

CONFIG = preset("tiny")
LAYOUT = KVFormat(CONFIG)
BEATS_OF_BLOCK = CONFIG.chunk // WORDS
#: Cycles of a job that writes nothing, and of one that does beside its beats.
IDLE, WRITING = 2, 4


@dataclass(frozen=True)
class Job:
    """A job, how it went in the core, and what is to go wrong behind it."""

    context: int = 1
    mode: Mode = Mode.KVO
    done: Status = Status.OK
    token: Status = Status.OK
    #: After how many pieces a write is told to have failed, if one fails.
    fails_after: int | None = None
    window: Status = Status.OK

    @property
    def closed(self) -> int:
        """Tokens of closed windows."""
        return CONFIG.closed_tokens(self.context) if self.mode == Mode.KVO else 0

    @property
    def beats(self) -> int:
        """Of the tail's saliencies."""
        if self.mode != Mode.KVO or self.done.refused:
            return 0
        return -(-(self.context - self.closed) // CONFIG.chunk) * BEATS_OF_BLOCK

    @property
    def writes(self) -> bool:
        """Whether saliencies are written."""
        return self.beats > 0 and self.done == self.token == Status.OK

    @property
    def closes(self) -> bool:
        """Whether a window is to be closed."""
        tail = self.context - self.closed
        due = tail == 2 * CONFIG.window and self.closed // CONFIG.window < window_count(CONFIG)
        return self.writes and self.fails_after is None and due

    @property
    def status(self) -> Status:
        """How it ends."""
        if self.done != Status.OK:
            return self.done
        if self.token != Status.OK:
            return self.token
        if self.writes and self.fails_after is not None:
            return Status.MEMORY_ERROR
        return self.window if self.closes else Status.OK


def addresses(number: int) -> dict[str, int]:
    """Regions of a job's cache."""
    return {
        "base_address": 1 << 16 | 32 * number,
        "chunk_address": 2 << 16 | 32 * number,
        "tail_address": 4096 * number,
    }


class Core(Neighbours):
    """Completions and saliencies; writes that end, and windows that close, some time later."""

    def __init__(self, jobs: list[Job], seed: int, longest: int) -> None:
        self._rng, self._longest = random.Random(seed), longest
        started, saliency = [], []
        for i, job in enumerate(jobs):
            if job.done.refused:
                continue
            planned = {
                **addresses(i),
                "slot": 0,
                "chunks": job.closed // CONFIG.chunk,
                "tail": job.context - job.closed,
                "mode": job.mode,
            }
            fields: dict[str, Any] = {"job": planned, "status": job.token}
            started.append(pack(started_layout(CONFIG), fields))
            for beat in range(job.beats):
                last = int(beat == job.beats - 1)
                saliency.append(pack(SALIENCY_BEAT, {"data": i << 16 | beat, "last": last}))
        super().__init__(
            {
                "done": [completion(i, job.done) for i, job in enumerate(jobs)],
                "started": started,
                "saliency": saliency,
                "answer": [],
            }
        )
        self._writing = [job for job in jobs if job.writes]
        self._closing = [job for job in jobs if job.closes]
        self._pieces = 0
        self._written_in = 0
        self._answer_in = 0

    def react(self, moved: Mapping[str, int]) -> Mapping[str, int]:
        found = {"written": 0, "failed": 0}
        if self._written_in:
            self._written_in -= 1
            found["written"] = int(self._written_in == 0)
        if "pieces" in moved:
            self._pieces += 1
            job = self._writing[0]
            found["failed"] = int(self._pieces == job.fails_after)
            if unpack(PIECE, moved["pieces"])["last"]:
                self._writing.pop(0)
                self._pieces = 0
                self._written_in = self._rng.randint(1, self._longest)
        if self._answer_in:
            self._answer_in -= 1
            if self._answer_in == 0:
                status = self._closing.pop(0).window
                self.inputs["answer"].append(pack(ANSWER, {"status": status}))
        if "window" in moved:
            self._answer_in = self._rng.randint(1, self._longest)
        return found


def completion(number: int, status: Status) -> int:
    """A completion with statistics of its own."""
    fields: dict[str, Any] = {"maximum": [number, -number], "sum": [number + 1, number + 2]}
    return pack(completion_layout(CONFIG), {**fields, "job_id": number, "status": status})


def pieces(number: int, job: Job) -> list[dict[str, int]]:
    """What a job writes: block after block of the ring, from the oldest on."""
    found = []
    first = job.closed // CONFIG.chunk
    for beat in range(job.beats):
        block, place = divmod(beat, BEATS_OF_BLOCK)
        at = (first + block) % LAYOUT.tail_blocks * LAYOUT.tail_block_bytes
        at += addresses(number)["tail_address"] + place * WORDS * SALIENCY_BITS // 8
        found.append(
            {
                "address": at // ENABLED_BYTES,
                "data": number << 16 | beat,
                "size": 3,
                "end": int(place == BEATS_OF_BLOCK - 1),
                "last": int(beat == job.beats - 1),
            }
        )
    return found


def make_jobs(seed: int, count: int) -> list[Job]:
    """Jobs of all kinds, many of them with a window to be closed."""
    print(f"jobs of seed {seed}")
    rng = random.Random(seed)
    window = CONFIG.window
    jobs = []
    for _ in range(count):
        context = rng.choice([window * rng.randint(2, 16), rng.randint(1, 256)])
        jobs.append(
            Job(
                context=context,
                mode=rng.choice([Mode.KVO] * 4 + [Mode.DENSE16]),
                done=rng.choice([Status.OK] * 8 + [Status.MEMORY_ERROR, Status.HEAD_RANGE]),
                token=rng.choice([Status.OK] * 8 + [Status.MEMORY_ERROR, Status.SCALE_NOT_FINITE]),
                fails_after=rng.choice([None] * 4 + [1, 2]),
                window=rng.choice([Status.OK] * 3 + [Status.MEMORY_ERROR]),
            )
        )
    return jobs


def check(jobs: list[Job], seed: int, longest: int = 8, **options: Any) -> Steps:
    """Run the jobs, compare everything that comes out; the run comes back."""
    unit = JobFinish(CONFIG)
    written = [piece for i, job in enumerate(jobs) if job.writes for piece in pieces(i, job)]
    closing = [(i, job) for i, job in enumerate(jobs) if job.closes]
    steps = play(
        unit,
        lambda: Core(jobs, seed, longest),
        {"pieces": len(written), "window": len(closing), "completion": len(jobs)},
        watch=["finished"],
        counters=unit.counters,
        seed=seed,
        **options,
    )
    assert [unpack(PIECE, item) for item in steps.items["pieces"]] == written
    windows = [{**addresses(i), "window": job.closed // CONFIG.window} for i, job in closing]
    assert [unpack(window_layout(CONFIG), item) for item in steps.items["window"]] == windows
    ends = [completion(i, job.status) for i, job in enumerate(jobs)]
    assert steps.items["completion"] == ends
    ran = [i for i, job in enumerate(jobs) if not job.done.refused]
    assert steps.seen["finished"] == [steps.cycles_of["completion"][i] for i in ran]
    good = [job for _, job in closing if job.window == Status.OK]
    assert len(steps.seen["windows_closed"]) == len(good)
    return steps


def test_jobs_of_all_kinds(seed: int) -> None:
    jobs = make_jobs(seed, 30)
    assert any(job.closes for job in jobs)
    check(jobs, seed)


@pytest.mark.parametrize("stall", [0.5, {"pieces": 0.8}, {"completion": 0.9}], ids=str)
def test_stalls(stall: Any, seed: int) -> None:
    check(make_jobs(seed, 10), seed, stall=stall)


@pytest.mark.parametrize("cycle", [4, 30, 90])
def test_reset_in_flight(cycle: int, seed: int) -> None:
    check(make_jobs(seed, 8), seed, stall=0.2, reset_at=cycle)


def test_every_window(seed: int) -> None:
    """The last two of a full cache never close."""
    contexts = range(CONFIG.window, CONFIG.max_context + 1, CONFIG.window)
    steps = check([Job(context=c) for c in contexts], seed, longest=2)
    assert len(steps.seen["windows_closed"]) == window_count(CONFIG)


@pytest.mark.parametrize("fails_after", [1, 5, 8])
def test_a_write_fails_at_any_time(fails_after: int, seed: int) -> None:
    """While saliencies still come, too: those are written all the same, and nothing closes."""
    job = Job(context=2 * CONFIG.window, fails_after=fails_after)
    assert job.beats == 8
    steps = check([job, replace(job, fails_after=None)], seed)
    assert len(steps.seen["windows_closed"]) == 1


def test_pace(seed: int) -> None:
    """2 cycles of a job that writes nothing; else a beat a cycle and 4 more."""
    steps = check([Job(mode=Mode.DENSE8), Job(done=Status.HEAD_RANGE)], seed)
    assert steps.cycles_of["completion"] == [IDLE, 2 * IDLE]
    jobs = [Job(context=9), Job(context=17)]
    # Of which the writes take one, and another one as the test tells of them a cycle late.
    steps = check(jobs, seed, longest=1)
    ends, total = [], 0
    for job in jobs:
        total += job.beats + WRITING + 1
        ends.append(total)
    assert steps.cycles_of["completion"] == ends
