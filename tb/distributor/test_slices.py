"""Attention cores behind the distributor: the golden results, whatever the number of slices."""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hw.config import preset
from hw.cores.payloads import job_layout
from hw.distributor.attention import selects
from hw.formats import Mode, Status
from hw.placement import home_slice
from tb.attention.catalogue import SCENARIOS
from tb.attention.emission import emission
from tb.attention.golden_data import golden_data
from tb.attention.runner import compare, require_equal
from tb.distributor.bench import SlicesBench
from tb.harness import Run, simulate, unpack
from tb.harness.files import REPOSITORY

MEMORY = REPOSITORY / "tb" / "models" / "ideal_memory.sv"
TINY = preset("tiny")
JOB = job_layout(TINY)


@cache
def bench(slices: int) -> SlicesBench:
    """One per number of slices, so that it is elaborated once."""
    return SlicesBench(TINY, slices)


def play(slices: int, scenario: str, folder: Path, seed: int, **options: Any) -> Run:
    """Run a scenario, its jobs of random sequences, and compare with the golden results."""
    data = golden_data(SCENARIOS[scenario], TINY, seed)[1]
    rng = random.Random(seed)
    core_jobs = [int.from_bytes(job.tobytes(), "little") for job in data["job"]]
    jobs = [job | rng.randrange(1 << 16) << JOB.size for job in core_jobs]
    homes = []
    for job in jobs:
        fields = unpack(JOB, job & (1 << JOB.size) - 1)
        homes.append(home_slice(job >> JOB.size, fields["layer"], fields["kv_head"], slices))
    assert set(homes) == set(range(slices))
    ran = np.isin(data["status"], [s for s in Status if not s.refused])
    image = folder / "image.bin"
    image.write_bytes(data["image"].tobytes())
    run = simulate(
        bench(slices),
        name=f"attention_slices_{slices}",
        inputs={
            "job": jobs,
            "query": [
                int.from_bytes(beat.tobytes(), "little") for job in data["query"] for beat in job
            ],
        },
        outputs={
            "selection": len(data["selection"]),
            "output": int(ran.sum()) * bench(slices).streams.output_beats,
            "completion": len(jobs),
        },
        sources=[emission(TINY).verilog, MEMORY],
        plusargs=[
            f"+memory_image={image}",
            "+memory_latency_min=20",
            "+memory_latency_max=90",
            "+memory_shuffle=1",
        ],
        seed=seed,
        **options,
    )
    comparison = compare(TINY, data, run, ran)
    require_equal(comparison)
    assert comparison.jobs == len(jobs)
    return run


@pytest.mark.parametrize("scenario", ["attention_fused", "attention_mixed", "attention_faults"])
@pytest.mark.slow
@pytest.mark.parametrize("slices", [1, 2, 4])
def test_golden_results(slices: int, scenario: str, seed: int, tmp_path: Path) -> None:
    """Refused jobs, jobs without a list and jobs of all modes among the others."""
    stall = 0.0 if scenario == "attention_fused" else 0.3
    run = play(slices, scenario, tmp_path, seed, stall=stall)
    print(f"{scenario}, {slices} slices: {run.cycles} cycles")


def test_which_jobs_select() -> None:
    """Hardware's comparison is the configuration's arithmetic."""
    for context in range(1, TINY.max_context + 1):
        chosen = selects(TINY, SimpleNamespace(mode=Mode.KVO, context=context))
        assert chosen == (TINY.closed_tokens(context) > 0), context
        assert not selects(TINY, SimpleNamespace(mode=Mode.DENSE8, context=context))


@pytest.mark.slow
def test_reset_in_flight(seed: int, tmp_path: Path) -> None:
    play(2, "attention_mixed", tmp_path, seed, stall=0.2, reset_at=1500)
