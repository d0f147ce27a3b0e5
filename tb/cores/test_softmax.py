"""The softmax against its twin: every output bit, under stalls and resets, and its exact pace."""

import random
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from golden.twin.softmax import probability, softmax, unit_exponent
from hw.config import AttentionConfig, preset
from hw.cores.payloads import score_item, unit_weights
from hw.cores.softmax import Softmax, statistics_layout
from tb.harness import pack, payload_widths, simulate, unpack

CONFIGS = {
    "tiny": preset("tiny"),
    "lm": preset("lm"),
    "tiny_rows1": replace(preset("tiny"), rows=1, jobs_in_flight=2),
    "tiny_rows4": replace(preset("tiny"), rows=4, jobs_in_flight=8),
    "chunk4_rows1": replace(preset("tiny"), rows=1, chunk=4),
    "chunk4_rows3": replace(preset("tiny"), rows=3, chunk=4),
    "chunk16": replace(preset("tiny"), chunk=16, budget=48),
}
LOWEST, HIGHEST = -(1 << 23), (1 << 23) - 1
LATENCY = 8
KINDS = ("near", "wide", "extreme", "ties", "zero", "rising", "falling", "full")


@cache
def device(name: str) -> Softmax:
    """One component per configuration, so that all runs share its elaboration and build."""
    return Softmax(CONFIGS[name])


@dataclass(frozen=True)
class Job:
    """Scores [units, rows, chunk], present and value scales [units, chunk], tail [units]."""

    scores: Tensor
    present: Tensor
    value_scale: Tensor
    tail: Tensor
    slot: int


def make_job(config: AttentionConfig, kind: str, units: int, generator: random.Random) -> Job:
    """A job of ``units`` units; about half of them tail units, which may have absent tokens."""
    torch.manual_seed(generator.randrange(1 << 30))
    shape = (units, config.rows, config.chunk)
    position = torch.arange(units)[:, None, None]
    if kind == "near":
        scores = torch.randint(-(12 << 12), 12 << 12, shape)
    elif kind == "wide":
        scores = torch.randint(LOWEST, HIGHEST + 1, shape)
    elif kind == "extreme":
        scores = torch.tensor([LOWEST, LOWEST + 1, -4096, -1, 0, 4095, HIGHEST - 4096, HIGHEST])
        scores = scores[torch.randint(0, 8, shape)]
    elif kind == "ties":
        scores = torch.randint(-2, 3, shape) << 11
    elif kind == "zero":
        scores = torch.zeros(shape, dtype=torch.int64)
    elif kind == "rising":
        scores = torch.randint(0, 3 << 12, shape) + (position << 16)
    elif kind == "falling":
        scores = torch.randint(0, 3 << 12, shape) - (position * 3 << 12)
    else:
        scores = torch.full(shape, 4095)
    tail = torch.rand(units) < 0.5
    some = torch.randint(1, config.chunk + 1, (units,))
    count = torch.where(torch.rand(units) < 0.5, config.chunk, some)
    present = (torch.arange(config.chunk) < count[:, None]) | ~tail[:, None]
    if kind == "full":
        present = torch.ones_like(present)
    # Absent tokens carry anything: scores like those of the others, or the largest of all.
    anything = torch.where(torch.rand(shape) < 0.5, scores, torch.randint(LOWEST, HIGHEST, shape))
    scores = torch.where(present.unsqueeze(1), scores, anything)
    patterns = torch.randint(0, 1 << 16, (units, config.chunk))
    special = torch.tensor([0, 1, 0x3FF, 0x400, 0x3C00, 0x7BFF, 0x7C00, 0xFFFF])
    chosen = special[torch.randint(0, 8, patterns.shape)]
    value_scale = torch.where(torch.rand(units, 1) < 0.5, patterns, chosen)
    if kind == "full":
        value_scale = torch.full_like(value_scale, 0x7BFF)
    return Job(scores, present, value_scale, tail, generator.randrange(config.jobs_in_flight))


def make_jobs(config: AttentionConfig, seed: int, rounds: int = 1) -> list[Job]:
    """Jobs of every kind, from one unit to the most that a job can have."""
    print(f"softmax jobs of seed {seed}")
    generator = random.Random(seed)
    most = config.max_attended // config.chunk
    jobs = [make_job(config, kind, generator.choice([1, 2, 5]), generator) for kind in KINDS]
    for _ in range(rounds):
        jobs += [make_job(config, kind, generator.randint(1, 8), generator) for kind in KINDS]
    jobs.append(make_job(config, "full", most, generator))
    generator.shuffle(jobs)
    return jobs


def items(config: AttentionConfig, jobs: list[Job]) -> list[int]:
    """The ``scores`` stream of the jobs."""
    layout = score_item(config)
    return [
        pack(
            layout,
            {
                "score": job.scores[unit, :, token].tolist(),
                "present": int(job.present[unit, token]),
                "value_scale": int(job.value_scale[unit, token]),
                "tail": int(job.tail[unit]),
                "first": int(unit == 0),
                "last": int(unit == len(job.tail) - 1),
                "slot": job.slot,
            },
        )
        for job in jobs
        for unit in range(len(job.tail))
        for token in range(config.chunk)
    ]


def expected(config: AttentionConfig, jobs: list[Job]) -> dict[str, list[Any]]:
    """What the twin says: fields of the ``weights`` and of the ``statistics`` items."""
    weights: list[Any] = []
    statistics: list[Any] = []
    for job in jobs:
        found = softmax(job.scores, job.present, job.value_scale, job.tail)
        for unit in range(len(job.tail)):
            weights.append(
                {
                    "weight": found.weight[unit].tolist(),
                    "maximum_shift": found.maximum_shift[unit].tolist(),
                    "unit_shift": found.unit_shift[unit].tolist(),
                    "tail": int(job.tail[unit]),
                    "tail_exponent": int(found.tail_exponent[unit]),
                    "first": int(unit == 0),
                    "last": int(unit == len(job.tail) - 1),
                    "slot": job.slot,
                }
            )
        statistics.append(
            {"maximum": found.maximum.tolist(), "sum": found.sum.tolist(), "slot": job.slot}
        )
    return {"weights": weights, "statistics": statistics}


def check(name: str, jobs: list[Job], **options: Any) -> Any:
    """Run the jobs and compare every item; the run comes back."""
    config = CONFIGS[name]
    wanted = expected(config, jobs)
    run = simulate(
        device(name),
        name=f"softmax_{name}",
        inputs={"scores": items(config, jobs)},
        outputs={stream: len(found) for stream, found in wanted.items()},
        **options,
    )
    layouts = {"weights": unit_weights(config), "statistics": statistics_layout(config)}
    for stream, layout in layouts.items():
        assert [unpack(layout, item) for item in run.outputs[stream]] == wanted[stream]
    return run


@pytest.mark.parametrize("name", CONFIGS)
def test_derived_widths(name: str) -> None:
    config = CONFIGS[name]
    slot = {2: 1, 4: 2, 8: 3}[config.jobs_in_flight]
    assert payload_widths(device(name)) == {
        "scores": 24 * config.rows + 1 + 16 + 3 + slot,
        "weights": (config.chunk * 12 + 6 + 6) * config.rows + 1 + 5 + 2 + slot,
        "statistics": (13 + config.sum_bits) * config.rows + slot,
    }


@pytest.mark.parametrize("name", CONFIGS)
def test_without_stalls(name: str, seed: int) -> None:
    check(name, make_jobs(CONFIGS[name], seed, rounds=2))


@pytest.mark.parametrize(
    "stall",
    [
        0.5,
        0.9,
        {"scores": 0.9},
        {"weights": 0.99},
        {"statistics": 0.99},
    ],
    ids=str,
)
def test_stalls(stall: Any, seed: int) -> None:
    check("tiny", make_jobs(CONFIGS["tiny"], seed, rounds=0), stall=stall, seed=seed)


@pytest.mark.parametrize("name", ["tiny_rows1", "chunk4_rows1"])
def test_stalls_where_units_follow_closest(name: str, seed: int) -> None:
    check(name, make_jobs(CONFIGS[name], seed, rounds=0), stall=0.5, seed=seed)


@pytest.mark.parametrize("cycle", [4, 17, 30, 41, 333])
def test_reset_in_flight(cycle: int, seed: int) -> None:
    jobs = make_jobs(CONFIGS["tiny"], seed, rounds=0)
    check("tiny", jobs, stall=0.3, seed=seed, reset_at=cycle)


@pytest.mark.parametrize("name", CONFIGS)
def test_latency_and_pace(name: str) -> None:
    config = CONFIGS[name]
    units = 6
    jobs = [make_job(config, "near", units, random.Random(5))]
    run = check(name, jobs)
    # The first score is transferred in cycle 1; the last one of the first unit C - 1 later.
    first = config.chunk + config.chunk * config.rows + LATENCY
    # Units of four tokens keep two cycles apart.
    pace = config.chunk * config.rows + 2 * (config.chunk == 4)
    last = first + (units - 1) * pace
    assert run.first_output_cycle == {"weights": first, "statistics": last}
    assert run.cycles == last + 1


def test_two_units_wait_at_a_blocked_output() -> None:
    """With an output that is hardly ever ready, four units are taken at full pace."""
    config = CONFIGS["tiny"]
    jobs = [make_job(config, "near", 4, random.Random(6))]
    run = simulate(
        device("tiny"),
        name="softmax_tiny",
        inputs={"scores": items(config, jobs)},
        outputs={"weights": 0, "statistics": 0},
        stall={"weights": 0.99, "statistics": 0.99},
        allow_extra=True,
    )
    # Two units are gathered at once, then each time that one has been read: two are complete, two
    # wait. The first transfer is in cycle 1, the first read in the cycle after the eighth score.
    second_read = 1 + config.chunk + 2 * config.chunk * config.rows
    assert run.cycles == second_read + config.chunk


def test_weights_against_real_arithmetic(seed: int) -> None:
    """Weights and sum within their rounding of the float softmax of the same scores."""
    config = CONFIGS["lm"]
    torch.manual_seed(seed)
    units = config.max_attended // config.chunk
    scores = torch.randint(-(12 << 12), 12 << 12, (units, config.rows, config.chunk))
    present = torch.ones(units, config.chunk, dtype=torch.bool)
    closed = torch.zeros(units, dtype=torch.bool)
    found = softmax(scores, present, present.long(), closed)
    real = torch.exp2(scores.double() / 4096)
    step = torch.exp2(unit_exponent(scores, present.unsqueeze(1)).double() - 12).unsqueeze(-1)
    # Half a step of rounding, one where 4096 is clamped to 4095, and the error of the power.
    assert ((found.weight * step - real).abs() <= 1.5 * step + 6e-4 * real).all()
    total = found.sum.double() * torch.exp2(found.maximum.double() - 20)
    assert torch.allclose(total, real.sum((0, 2)), rtol=1e-3)


def test_twin_of_a_hand_worked_unit() -> None:
    """One row, U = 1: 2**-1, 2**-2, a far one and absent ones; scales 1, 2, 0.5 and a subnormal."""
    scores = torch.tensor([[[0, -4096, -20 * 4096, 0, HIGHEST, 0, 0, 0]]])
    present = torch.tensor([[True, True, True, True, False, False, False, False]])
    value_scale = torch.tensor([[0x3C00, 0x4000, 0x3800, 0x0200, 0x7BFF, 0, 0, 0]])
    closed = softmax(scores, present, value_scale, torch.tensor([False]))
    assert closed.weight.tolist() == [[[2048, 1024, 0, 2048, 0, 0, 0, 0]]]
    assert closed.tail_exponent.tolist() == [0]
    assert closed.maximum.tolist() == [1]
    assert closed.sum.tolist() == [256 * 5120]
    tail = softmax(scores, present, value_scale, torch.tensor([True]))
    # Emax is 16 (the scale 2), the others are 15, 14, 1: p * 1024 >> 12, 11, 13; p * 512 >> 26.
    assert tail.weight.tolist() == [[[512, 512, 0, 0, 0, 0, 0, 0]]]
    assert tail.tail_exponent.tolist() == [16]
    assert tail.sum.tolist() == [256 * 5120]


def test_probability_reaches_its_ends() -> None:
    exponent = torch.tensor(1)
    scores = torch.tensor([4095, 0, -13 * 4096, -14 * 4096, -(1 << 23)])
    found = probability(scores, torch.tensor(True), exponent)
    assert found.tolist() == [4095, 2048, 0, 0, 0]
