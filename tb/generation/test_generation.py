"""Sequences that grow in hardware: outputs of every step, and the memory after it, as the twin."""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import replace

import pytest

from golden.generation import Generation, Step, generate
from golden.memory_image import JobDescriptor
from golden.step_traffic import StepBytes, step_bytes
from golden.tensors import CASES
from hw.config import BEAT_BYTES, AttentionConfig
from hw.formats import KVFormat, Status
from tb.generation.runner import run_generation
from tb.generation.small import SMALL


def make(
    config: AttentionConfig,
    lengths: list[tuple[int, int]],
    seed: int,
    imported: Collection[int] = (),
) -> Generation:
    """Caches with a prompt and a last context each, in random order."""
    print(f"generation of seed {seed}")
    rng = random.Random(seed)
    kinds = ["random", "sink", "outlier_channels"]
    tensors = [CASES[kinds[i % 3]](config, last, seed + i) for i, (_, last) in enumerate(lengths)]
    order = [i for i, (prompt, last) in enumerate(lengths) for _ in range(last - prompt)]
    rng.shuffle(order)
    prompts = [prompt for prompt, _ in lengths]
    return generate(tensors, prompts, order, config, imported=imported)


def test_a_first_step(seed: int) -> None:
    """One token, into an empty cache."""
    run_generation(make(SMALL, [(0, 1)], seed))


def test_sequences(seed: int) -> None:
    """From nothing over the first window that closes, and around the budget."""
    golden = make(SMALL, [(0, 50), (30, 70), (79, 100)], seed)
    found = run_generation(golden)
    assert golden_windows(golden) == found.counts["windows_closed"] > 4
    assert found.counts["tokens_appended"] == len(golden.steps)
    # And what is said to be moved is what was moved.
    moved = StepBytes(0, 0)
    for step in golden.steps:
        chosen = step.result.selection.tolist()
        moved += step_bytes(step.context, chosen, golden.config, closes=step.closes)
    assert moved.read == BEAT_BYTES * found.counts["beats_read"]
    assert moved.written == BEAT_BYTES * found.counts["beats_written"]


def test_prompts_are_imported(seed: int) -> None:
    """And go on step by step."""
    lengths = [(1, 5), (32, 40), (100, 120), (47, 50)]
    found = run_generation(make(SMALL, lengths, seed, imported=range(4)))
    assert found.counts["tokens_imported"] == 180
    assert found.counts["windows"] == 7 + found.counts["windows_closed"]


def test_a_prompt_comes_beside_jobs(seed: int) -> None:
    """Steps of one cache while the prompt of another one is imported."""
    golden = make(SMALL, [(0, 70), (90, 90)], seed, imported=[1])
    memory = {"latency_max": 40, "shuffle": 1, "response_gap": 30}
    run_generation(golden, waits=False, seed=seed, stall=0.2, memory=memory)


def test_prompts_on_one_port(seed: int) -> None:
    """Reads and writes in turn, while windows close beside the tokens."""
    golden = make(SMALL, [(96, 97), (33, 34)], seed, imported=[0, 1])
    memory = {"latency_max": 90, "shuffle": 1}
    run_generation(golden, seed=seed, shared=True, memory=memory)


def test_an_import_into_broken_memory_harms_no_job(seed: int) -> None:
    """A window of it cannot be written while tokens of the next one come: it ends all the same."""
    golden = make(SMALL, [(20, 50), (100, 100)], seed, imported=[1])
    broken = golden.placements[1].chunk_address
    memory: dict[str, int | str] = {"error_bytes": 32, "error_address": f"{broken:x}"}
    found = run_generation(golden, waits=False, seed=seed, broken=[1], memory=memory)
    assert found.counts["windows_closed"] == golden_windows(golden) > 0
    assert found.counts["failed"] == 1


def descriptor(step: Step, **fields: int) -> int:
    """The job of ``step`` with other fields."""
    return replace(JobDescriptor.unpack(step.job, SMALL), **fields).pack(SMALL)  # type: ignore[arg-type]


def test_jobs_that_fail_are_repeated(seed: int) -> None:
    """Refused jobs and keys that are not finite change nothing; the next try goes on as if."""
    golden = make(SMALL, [(0, 36), (20, 50)], seed)
    steps: list[Step] = []
    for number, step in enumerate(golden.steps):
        if number % 5 == 1:
            job = descriptor(step, config_hash=1)
            steps.append(replace(step, job=job, status=Status.CONFIG_MISMATCH))
        if number % 7 == 2:
            job = descriptor(step, mode=9)
            steps.append(replace(step, job=job, token=[], status=Status.MODE_RANGE))
        if number % 6 == 3:
            infinite = [step.token[0] & ~0xFFFF | 0x7C00, *step.token[1:]]
            steps.append(replace(step, token=infinite, status=Status.SCALE_NOT_FINITE))
        if number % 9 == 4:
            job = descriptor(step, value_scale=0xFC00)
            steps.append(replace(step, job=job, status=Status.SCALE_NOT_FINITE))
        steps.append(step)
    assert len(steps) > len(golden.steps) + 20
    found = run_generation(replace(golden, steps=steps))
    assert found.counts["windows_closed"] == golden_windows(golden)


def golden_windows(golden: Generation) -> int:
    """Windows that close in the steps."""
    return sum(step.closes for step in golden.steps)


def test_a_cache_in_broken_memory_harms_no_other(seed: int) -> None:
    """Each of its steps ends with an error; it never closes a window."""
    golden = make(SMALL, [(0, 40), (16, 60)], seed)
    broken = golden.placements[1].tail_address + KVFormat(SMALL).tail_header_bytes
    steps = [
        replace(step, status=Status.MEMORY_ERROR) if step.cache == 1 else step
        for step in golden.steps
    ]
    memory: dict[str, int | str] = {"error_bytes": 32, "error_address": f"{broken:x}"}
    found = run_generation(replace(golden, steps=steps), memory=memory)
    assert found.counts["windows_closed"] == 1


@pytest.mark.parametrize("cycle", [700, 3000])
def test_reset_in_flight(cycle: int, seed: int) -> None:
    """With the memory as it was in the beginning, the steps start again."""
    golden = make(SMALL, [(28, 40), (40, 49)], seed, imported=[1])
    run_generation(golden, reset_at=cycle, seed=seed, stall=0.1)


@pytest.mark.parametrize("stall", [0.4])
def test_stalls(stall: float, seed: int) -> None:
    golden = make(SMALL, [(20, 50), (47, 50)], seed)
    memory = {"latency_max": 40, "shuffle": 1, "request_stall": 60, "response_gap": 60}
    run_generation(golden, seed=seed, stall=stall, memory=memory)
