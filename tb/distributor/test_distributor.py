"""JobDistributor: jobs to their slices, results in the order of the jobs, whatever slices do."""

from __future__ import annotations

import random
from collections.abc import Mapping
from functools import cache
from typing import Any

import pytest
from amaranth.lib import data

from hw.distributor import JobDistributor
from hw.distributor.port import JobStreams
from hw.formats import Status
from hw.placement import home_slice
from tb.harness import Run, pack, simulate

STREAMS = JobStreams(
    job=data.StructLayout({"job_id": 16, "sequence": 8, "layer": 4, "kv_head": 3, "lists": 1}),
    query=data.StructLayout({"job_id": 16, "place": 8}),
    selection=data.StructLayout({"job_id": 16, "chunk": 6, "last": 1}),
    output=data.StructLayout({"job_id": 16, "place": 8}),
    completion=data.StructLayout({"job_id": 16, "status": Status}),
    query_beats=3,
    output_beats=5,
    most_selected=4,
    jobs_in_flight=4,
)
RESULTS = ("selection", "output", "completion")
REFUSED = [status for status in Status if status.refused]


@cache
def bench(slices: int) -> JobDistributor:
    """One per number of slices, so that it is elaborated once."""
    return JobDistributor(STREAMS, slices=slices, selects=lambda job: job.lists)


def random_jobs(rng: random.Random, number: int, *, skewed: bool) -> list[dict[str, Any]]:
    """Jobs of all kinds; ``skewed``: seven of eight live in one slice."""
    jobs = []
    for job_id in range(number):
        job = {"sequence": rng.randrange(256), "layer": rng.randrange(16), "kv_head": 0}
        if skewed and rng.random() < 0.875:
            job = {"sequence": 252, "layer": 7, "kv_head": 1}
        status = rng.choice([Status.OK] * 5 + [Status.MEMORY_ERROR, rng.choice(REFUSED)])
        jobs.append(
            {
                "job": job | {"job_id": job_id, "lists": rng.randrange(2)},
                "status": status,
                "chunks": [rng.randrange(64) for _ in range(rng.randint(1, STREAMS.most_selected))],
            }
        )
    return jobs


def items_of(job: Mapping[str, Any]) -> dict[str, list[int]]:
    """What goes in and comes out for a job, by stream."""
    fields, status = job["job"], job["status"]
    its_id = fields["job_id"]
    chunks = job["chunks"] if fields["lists"] and not status.refused else []
    last = len(chunks) - 1
    beats = 0 if status.refused else STREAMS.output_beats
    made: dict[str, list[Any]] = {
        "job": [fields],
        "query": [{"job_id": its_id, "place": i} for i in range(STREAMS.query_beats)],
        "selection": [
            {"job_id": its_id, "chunk": chunk, "last": int(i == last)}
            for i, chunk in enumerate(chunks)
        ],
        "output": [{"job_id": its_id, "place": i} for i in range(beats)],
        "completion": [{"job_id": its_id, "status": status}],
    }
    return {
        name: [pack(getattr(STREAMS, name), item) for item in items] for name, items in made.items()
    }


def play(slices: int, jobs: list[dict[str, Any]], **options: Any) -> Run:
    """Play jobs and the results of their slices, and compare everything that comes out."""
    places = range(slices)
    its = [items_of(job) for job in jobs]
    fields = [job["job"] for job in jobs]
    home = [home_slice(f["sequence"], f["layer"], f["kv_head"], slices) for f in fields]

    def of(name: str, place: int | None = None) -> list[int]:
        chosen = [items for items, at in zip(its, home, strict=True) if place in (None, at)]
        return [item for items in chosen for item in items[name]]

    inputs = {name: of(name) for name in ("job", "query")}
    inputs |= {f"slice__{i}__{name}": of(name, i) for i in places for name in RESULTS}
    outputs = {name: of(name) for name in RESULTS}
    outputs |= {f"slice__{i}__{name}": of(name, i) for i in places for name in ("job", "query")}
    run = simulate(
        bench(slices),
        name=f"job_distributor_{slices}",
        inputs=inputs,
        outputs={name: len(items) for name, items in outputs.items()},
        **options,
    )
    assert run.outputs == outputs
    return run


@pytest.mark.parametrize("slices", [1, 2, 4])
@pytest.mark.parametrize(
    ("stall", "skewed", "seed"), [(0.0, False, 1), (0.4, False, 2), (0.8, True, 3), (0.3, True, 4)]
)
def test_results_come_in_the_order_of_the_jobs(
    slices: int, stall: float, skewed: bool, seed: int
) -> None:
    """The outside of 1, 2 and 4 slices is the same."""
    jobs = random_jobs(random.Random(seed), 120, skewed=skewed)
    play(slices, jobs, stall=stall, seed=seed)


@pytest.mark.parametrize("stream", ["output", "completion", "selection", "job", "query"])
@pytest.mark.parametrize("inside", [False, True])
def test_one_stream_nearly_blocked(stream: str, inside: bool) -> None:
    jobs = random_jobs(random.Random(6), 40, skewed=False)
    name = f"slice__1__{stream}" if inside else stream
    play(2, jobs, stall={name: 0.95})


@pytest.mark.parametrize("reset_at", [3, 50, 171])
@pytest.mark.parametrize("slices", [2, 4])
def test_reset_in_flight(slices: int, reset_at: int) -> None:
    jobs = random_jobs(random.Random(reset_at), 60, skewed=False)
    play(slices, jobs, stall=0.3, seed=reset_at, reset_at=reset_at)


@pytest.mark.parametrize("slices", [2, 4])
def test_cycles_of_a_job(slices: int) -> None:
    """The output beats, and a cycle for the completion."""
    jobs = random_jobs(random.Random(8), 100, skewed=False)
    for job in jobs:
        job["status"], job["job"]["lists"] = Status.OK, 0
    run = play(slices, jobs)
    assert run.cycles <= 100 * (STREAMS.output_beats + 1) + 10


def test_homes() -> None:
    """Neighbours differ, and hardware and software use the same function."""
    for slices in (1, 2, 4):
        homes = [home_slice(3, 1, head, slices) for head in range(slices)]
        assert sorted(homes) == list(range(slices))
        assert home_slice(255, 15, 7, slices) == 277 % slices


@pytest.mark.parametrize("slices", [0, 3, 8, 2.5])
def test_wrong_numbers_of_slices(slices: Any) -> None:
    with pytest.raises(ValueError, match=f"slices must be 1, 2 or 4, not {slices}"):
        JobDistributor(STREAMS, slices=slices, selects=lambda job: job.lists)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"job": data.StructLayout({"layer": 1, "kv_head": 1})},
            "job must have a field 'sequence'",
        ),
        ({"selection": data.StructLayout({"chunk": 1})}, "selection must have a field 'last'"),
        ({"completion": data.StructLayout({"id": 1})}, "completion must have a field 'status'"),
        ({"output_beats": 0}, "output_beats must be at least 1, not 0"),
    ],
)
def test_wrong_streams(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        JobStreams(**{**vars(STREAMS), **change})
