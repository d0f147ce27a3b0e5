"""The selector against its twin: order, ties, payloads, stalls, resets and its exact pace."""

import itertools
import random
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pytest
import torch

from golden.reference import select_chunks
from golden.twin.selector import by_group, select
from hw.config import AttentionConfig, preset
from hw.cores.payloads import candidate
from hw.cores.selector import Selector, selected_layout
from tb.harness import pack, payload_widths, simulate, unpack
from tb.harness.slow import slow_among

CONFIGS = {
    "tiny": preset("tiny"),
    "lm": preset("lm"),
    "tiny_mean": replace(preset("tiny"), rows=4, group_combine="mean", budget=40),
    # Eight chunks of a group, and one.
    "long_groups": replace(preset("tiny"), chunk=4, window=32, value_group=32, budget=40),
    "alone": replace(preset("tiny"), chunk=16, budget=80),
}


@cache
def device(name: str) -> Selector:
    """One component per configuration, so that all runs share its elaboration and build."""
    return Selector(CONFIGS[name])


@dataclass(frozen=True)
class Job:
    """Selection scores of the chunks in order, and per chunk the key sums that ride along."""

    scores: list[int]
    key_sums: list[list[int]]


def make_job(config: AttentionConfig, scores: list[int], generator: random.Random) -> Job:
    """A job with these scores and random key sums."""
    sums = [[generator.randrange(-(1 << 31), 1 << 31) for _ in range(config.rows)] for _ in scores]
    return Job(scores, sums)


def make_jobs(config: AttentionConfig, seed: int, count: int) -> list[Job]:
    """Random jobs, most of them with massive ties, the extremes of the score among them."""
    print(f"selector jobs of seed {seed}")
    generator = random.Random(seed)
    half = 1 << (config.selection_bits - 1)
    draws = [
        lambda place: generator.randrange(-half, half),
        lambda place: generator.randrange(-1, 2),
        lambda place: generator.choice([-half, half - 1, 0]),
        lambda place: 7,
        lambda place: place,
        lambda place: -place,
        lambda place: generator.randrange(4) - place // 4,
    ]
    lengths = [1, 2, config.top_chunks, min(config.top_chunks + 1, config.max_chunks)]
    jobs = []
    for index in range(count):
        length = lengths[index] if index < 4 else generator.randint(1, config.max_chunks)
        draw = generator.choice(draws)
        jobs.append(make_job(config, [draw(place) for place in range(length)], generator))
    return jobs


def items(config: AttentionConfig, jobs: list[Job]) -> list[int]:
    """The ``candidates`` stream of the jobs."""
    layout = candidate(config)
    return [
        pack(
            layout,
            {
                "score": score,
                "chunk": chunk,
                "key_sum": job.key_sums[chunk],
                "last": int(chunk == len(job.scores) - 1),
            },
        )
        for job in jobs
        for chunk, score in enumerate(job.scores)
    ]


def expected(config: AttentionConfig, jobs: list[Job]) -> list[dict[str, Any]]:
    """Fields of the ``selected`` items according to the twin."""
    wanted = []
    for job in jobs:
        kept = select(config, torch.tensor(job.scores)).tolist()
        for place, chunk in enumerate(kept):
            last = int(place == len(kept) - 1)
            wanted.append({"chunk": chunk, "key_sum": job.key_sums[chunk], "last": last})
    return wanted


def check(name: str, jobs: list[Job], **options: Any) -> Any:
    """Run the jobs and compare every item; the run comes back."""
    config = CONFIGS[name]
    wanted = expected(config, jobs)
    run = simulate(
        device(name),
        name=f"selector_{name}",
        inputs={"candidates": items(config, jobs)},
        outputs={"selected": len(wanted)},
        **options,
    )
    layout = selected_layout(config)
    assert [unpack(layout, item) for item in run.outputs["selected"]] == wanted
    return run


@pytest.mark.parametrize("name", CONFIGS)
def test_derived_widths(name: str) -> None:
    config = CONFIGS[name]
    chunk = {"lm": 8, "long_groups": 6, "alone": 4}.get(name, 5)
    score = {"tiny_mean": 26}.get(name, 24)
    assert payload_widths(device(name)) == {
        "candidates": score + chunk + 32 * config.rows + 1,
        "selected": chunk + 32 * config.rows + 1,
    }


@pytest.mark.parametrize("name", slow_among(CONFIGS, ("tiny_mean", "alone")))
def test_random_jobs_without_stalls(name: str, seed: int) -> None:
    jobs = make_jobs(CONFIGS[name], seed, 40)
    run = check(name, jobs)
    # Every candidate and every selected item takes a cycle; the first transfer is in cycle 1.
    chosen = sum(min(len(job.scores), CONFIGS[name].top_chunks) for job in jobs)
    assert run.cycles == sum(len(job.scores) for job in jobs) + chosen + 2
    assert run.first_output_cycle == {"selected": len(jobs[0].scores) + 2}


@pytest.mark.parametrize("stall", [0.5, 0.9, {"candidates": 0.9}, {"selected": 0.9}], ids=str)
def test_stalls(stall: Any, seed: int) -> None:
    check("tiny", make_jobs(CONFIGS["tiny"], seed, 20), stall=stall, seed=seed)


@pytest.mark.parametrize("cycle", [3, 8, 60])
def test_reset_in_flight(cycle: int, seed: int) -> None:
    """The slow output keeps the selector draining most of the time, the first job's item too."""
    jobs = make_jobs(CONFIGS["tiny"], seed, 12)
    check("tiny", jobs, stall={"selected": 0.9}, seed=seed, reset_at=cycle)


def test_every_order_of_up_to_six_candidates() -> None:
    """All 5316 ways in which up to six scores can be ordered, ties included, on a list of four.

    What the list does depends on comparisons only, so this is every case of that length.
    """
    config = CONFIGS["tiny"]
    assert config.top_chunks == 4
    generator = random.Random(1)
    jobs = [
        make_job(config, list(ranks), generator)
        for length in range(1, 7)
        for ranks in itertools.product(range(length), repeat=length)
        if set(ranks) == set(range(max(ranks) + 1))
    ]
    assert len(jobs) == 1 + 3 + 13 + 75 + 541 + 4683
    check("tiny", jobs)


def test_other_tie_rule_is_told_apart(seed: int) -> None:
    """Negative control: the same jobs refute a selector that prefers the highest chunk index."""
    config = CONFIGS["tiny"]
    jobs = make_jobs(config, seed, 30)
    refuted = 0
    for job in jobs:
        order = sorted(range(len(job.scores)), key=lambda chunk: (-job.scores[chunk], -chunk))
        grouped = by_group(config, torch.tensor(order[: config.top_chunks]))
        refuted += grouped.tolist() != select(config, torch.tensor(job.scores)).tolist()
    assert refuted >= 10


def test_best_first_is_told_apart(seed: int) -> None:
    """Negative control: the same jobs refute a selector that does not look at groups."""
    config = CONFIGS["long_groups"]
    refuted = 0
    for job in make_jobs(config, seed, 30):
        scores = torch.tensor(job.scores)
        refuted += select_chunks(scores, config).tolist() != select(config, scores).tolist()
    assert refuted >= 5


def test_twin_of_groups() -> None:
    """Groups of four chunks, of two and of one, in the order of their first chunk."""
    chunks = torch.tensor([9, 2, 11, 40, 0, 10])
    for chunk, order in (
        (8, [9, 11, 10, 2, 0, 40]),
        (16, [9, 2, 11, 10, 40, 0]),
    ):
        assert by_group(replace(preset("lm"), chunk=chunk), chunks).tolist() == order
    alone = replace(preset("lm"), chunk=16, value_group=16)
    assert by_group(alone, chunks).tolist() == chunks.tolist()
    assert by_group(alone, chunks[:0]).tolist() == []


def test_twin_of_hand_worked_jobs() -> None:
    config = CONFIGS["tiny"]
    scores = torch.tensor([[5, 9, 5, -3, 9, 5, 0], [1, 1, 1, 1, 1, 1, 1]])
    # Best first they are 1, 4, 0, 2; 0 is of the group of 1.
    assert select(config, scores).tolist() == [[1, 0, 4, 2], [0, 1, 2, 3]]
    assert select(config, scores[:, :2]).tolist() == [[1, 0], [0, 1]]
