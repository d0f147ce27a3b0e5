"""The value accumulator against its twin: sums of several jobs, two banks, and its exact pace."""

import random
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from golden.twin.values import accumulate
from hw.config import AttentionConfig, preset
from hw.cores.lanes import LANES
from hw.cores.payloads import contribution
from hw.cores.value_accumulator import ValueAccumulator
from tb.harness import pack, payload_widths, simulate, unpack

CONFIGS = {
    "tiny": preset("tiny"),
    "lm": preset("lm"),
    "rows1": replace(preset("tiny"), rows=1, value_bits=4),
    "rows4": replace(preset("tiny"), rows=4),
    "rows5_channels96": replace(preset("tiny"), rows=5, head_dim=96),
}
DEVICES = ("tiny", "rows1", "rows4", "rows5_channels96")
#: Cycles from a job's last contribution to its first sum.
LATENCY = 4
KINDS = ("random", "rising", "falling", "full", "zero")


@cache
def device(name: str) -> ValueAccumulator:
    """One component per configuration, so that all runs share its elaboration and build."""
    return ValueAccumulator(CONFIGS[name])


@dataclass(frozen=True)
class Job:
    """Contributions ``[units, rows, d]`` and shifts ``[units, rows]``."""

    y: Tensor
    maximum_shift: Tensor
    unit_shift: Tensor


def make_job(config: AttentionConfig, kind: str, units: int) -> Job:
    """A job; what it adds up stays as small as dequantised values make it."""
    shape = (units, config.rows, config.head_dim)
    # One unit of eight tokens of weight 1 and values at their bound, or a contribution at its own.
    bound = config.chunk * config.value_step_ratio << (config.value_magnitude_bits + 20)
    bound = min(bound, 1 << 45)
    y = torch.randint(-bound, bound, shape)
    rising = torch.randint(0, 64, shape[:2])
    falling = torch.randint(0, 64, shape[:2])
    either = torch.rand(shape[:2]) < 0.5
    rising, falling = torch.where(either, rising, 0), torch.where(either, 0, falling)
    if kind == "rising":
        rising, falling = torch.ones_like(rising), torch.zeros_like(rising)
    elif kind == "falling":
        rising, falling = torch.zeros_like(rising), torch.arange(units)[:, None] % 64 + 0 * rising
    elif kind == "full":
        rising = falling = torch.zeros_like(rising)
        y = torch.where(torch.rand(shape[1:]) < 0.5, bound - 1, -bound).expand(shape)
    elif kind == "zero":
        y = torch.randint(-1, 2, shape)
    rising[0] = falling[0] = 0
    return Job(y, rising, falling)


def make_jobs(config: AttentionConfig, seed: int, most_units: int) -> list[Job]:
    """A job of every kind, one of a single unit among them."""
    print(f"value accumulator jobs of seed {seed}")
    generator = random.Random(seed)
    torch.manual_seed(seed)
    jobs = [make_job(config, kind, generator.randint(1, most_units)) for kind in KINDS]
    jobs.insert(2, make_job(config, "random", 1))
    return jobs


def items(config: AttentionConfig, jobs: list[Job]) -> list[int]:
    """The ``contributions`` stream of the jobs."""
    layout = contribution(config)
    return [
        pack(
            layout,
            {
                "y": job.y[unit, :, LANES * quad : LANES * (quad + 1)].tolist(),
                "quad": quad,
                "maximum_shift": job.maximum_shift[unit].tolist(),
                "unit_shift": job.unit_shift[unit].tolist(),
                "first": int(unit == 0),
                "last": int(unit == len(job.y) - 1),
            },
        )
        for job in jobs
        for unit in range(len(job.y))
        for quad in range(config.head_dim // LANES)
    ]


def check(name: str, jobs: list[Job], **options: Any) -> Any:
    """Run the jobs and compare every sum; the run comes back."""
    config = CONFIGS[name]
    totals = [accumulate(job.y, job.maximum_shift, job.unit_shift) for job in jobs]
    wanted = torch.stack(totals).reshape(-1, LANES).tolist()
    layout = device(name).signature.members["accumulator"].signature.members["payload"].shape
    run = simulate(
        device(name),
        name=f"value_accumulator_{name}",
        inputs={"contributions": items(config, jobs)},
        outputs={"accumulator": len(wanted)},
        **options,
    )
    assert [unpack(layout, x)["value"] for x in run.outputs["accumulator"]] == wanted
    return run


@pytest.mark.parametrize("name", CONFIGS)
def test_derived_widths(name: str) -> None:
    config = CONFIGS[name]
    quad = {32: 3, 64: 4, 96: 5}[config.head_dim]
    assert payload_widths(device(name)) == {
        "contributions": (46 * 4 + 12) * config.rows + quad + 2,
        "accumulator": 4 * {"lm": 53, "rows1": 54}.get(name, 50),
    }


@pytest.mark.parametrize("name", DEVICES)
def test_several_jobs_without_stalls(name: str) -> None:
    check(name, make_jobs(CONFIGS[name], 1, most_units=8))


@pytest.mark.parametrize(
    ("name", "stall"),
    [("tiny", 0.5), ("rows4", {"accumulator": 0.9}), ("tiny", {"contributions": 0.9})],
    ids=str,
)
def test_stalls(name: str, stall: Any) -> None:
    """Slow readers keep both banks full, slow writers leave them empty."""
    check(name, make_jobs(CONFIGS[name], 2, most_units=4), stall=stall, seed=13)


@pytest.mark.parametrize("cycle", [40, 77])
def test_reset_in_flight(cycle: int) -> None:
    jobs = make_jobs(CONFIGS["tiny"], 3, most_units=4)
    check("tiny", jobs, stall=0.2, seed=cycle, reset_at=cycle)


@pytest.mark.parametrize("name", DEVICES)
def test_pace(name: str) -> None:
    """Long jobs: a contribution a cycle, the reading hidden behind the next job."""
    config = CONFIGS[name]
    torch.manual_seed(4)
    jobs = [make_job(config, "random", config.rows + 2) for _ in range(3)]
    run = check(name, jobs)
    quads = config.head_dim // LANES
    per_job = quads * (config.rows + 2)
    assert run.first_output_cycle == {"accumulator": per_job + LATENCY}
    assert run.cycles == 3 * per_job + LATENCY + config.rows * quads


def test_bank_wait() -> None:
    """Jobs of one unit wait for the reading of the job before the previous one."""
    config = CONFIGS["rows4"]
    torch.manual_seed(5)
    jobs = [make_job(config, "random", 1) for _ in range(5)]
    run = check("rows4", jobs)
    quads = config.head_dim // LANES
    # Readings follow each other with a pause of one cycle.
    assert run.cycles == quads + LATENCY + 5 * (config.rows * quads + 1) - 1


def test_sums_of_the_most_tokens_do_not_overflow() -> None:
    """All tokens that a job can attend to, with weight 1 and values at either bound."""
    config = CONFIGS["tiny"]
    torch.manual_seed(6)
    check("tiny", [make_job(config, "full", config.max_attended // config.chunk)])
