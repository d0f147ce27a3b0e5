"""Reciprocals of softmax sums against the twin, at every length of a sum, and their pace."""

import random
from functools import cache
from typing import Any

import pytest
import torch

from golden.twin.normaliser import reciprocal
from hw.cores.sum_reciprocal import SumReciprocal, reciprocal_layout, sums_layout
from tb.cores.test_normaliser import CONFIGS
from tb.harness import pack, simulate, unpack

#: Cycles from the transfer of the sums to the first reciprocal, and from each to the next.
LATENCY, ROW = 19, 19

Job = dict[str, list[int]]


@cache
def device(name: str) -> SumReciprocal:
    """One component per configuration, so that all runs share its elaboration and build."""
    return SumReciprocal(CONFIGS[name])


def make_jobs(name: str, seed: int, count: int) -> list[Job]:
    """Sums of every length, with the ends of each; any maximum."""
    print(f"sums of seed {seed}")
    config, rng = CONFIGS[name], random.Random(seed)

    def one() -> int:
        low = 1 << rng.randint(19, config.sum_bits - 1)
        return rng.choice([low, 2 * low - 1, rng.randrange(low, 2 * low)])

    return [
        {
            "maximum": [rng.randrange(-4096, 4096) for _ in range(config.rows)],
            "sum": [one() for _ in range(config.rows)],
        }
        for _ in range(count)
    ]


def check(name: str, jobs: list[Job], **options: Any) -> Any:
    """Run the jobs and compare every reciprocal; the run comes back."""
    config = CONFIGS[name]
    factor, shift = reciprocal(config, torch.tensor([job["sum"] for job in jobs]))
    maximum = [row for job in jobs for row in job["maximum"]]
    rows = zip(maximum, factor.flatten().tolist(), shift.flatten().tolist(), strict=True)
    wanted = [{"maximum": m, "reciprocal": f, "shift": s} for m, f, s in rows]
    run = simulate(
        device(name),
        name=f"sum_reciprocal_{name}",
        inputs={"sums": [pack(sums_layout(config), job) for job in jobs]},
        outputs={"reciprocals": len(wanted)},
        **options,
    )
    layout = reciprocal_layout(config)
    assert [unpack(layout, item) for item in run.outputs["reciprocals"]] == wanted
    return run


@pytest.mark.parametrize("name", CONFIGS)
def test_random_jobs_at_full_pace(name: str, seed: int) -> None:
    jobs = make_jobs(name, seed, 40)
    run = check(name, jobs)
    assert run.first_output_cycle == {"reciprocals": 1 + LATENCY}
    assert run.cycles == 1 + LATENCY + ROW * (40 * CONFIGS[name].rows - 1) + 1


@pytest.mark.parametrize("stall", [0.5, {"sums": 0.99}, {"reciprocals": 0.95}], ids=str)
def test_stalls(stall: Any, seed: int) -> None:
    check("tiny", make_jobs("tiny", seed, 8), stall=stall, seed=seed)


@pytest.mark.parametrize("cycle", [3, 20, 60])
def test_reset_in_flight(cycle: int, seed: int) -> None:
    check("tiny", make_jobs("tiny", seed, 4), stall=0.3, seed=seed, reset_at=cycle)
