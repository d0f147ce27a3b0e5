"""Sequences that grow in hardware: outputs of every step, and the memory after it, as the twin."""

from __future__ import annotations

import random
from collections.abc import Collection

import pytest

from golden.generation import Generation, generate
from golden.tensors import CASES
from hw.config import AttentionConfig
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
    assert found.closed == found.counts["windows_closed"] > 4
    assert found.counts["tokens_appended"] == len(golden.steps)


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


@pytest.mark.parametrize("stall", [0.4])
def test_stalls(stall: float, seed: int) -> None:
    golden = make(SMALL, [(20, 50), (47, 50)], seed)
    memory = {"latency_max": 40, "shuffle": 1, "request_stall": 60, "response_gap": 60}
    run_generation(golden, seed=seed, stall=stall, memory=memory)
