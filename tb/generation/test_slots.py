"""Caches of constant size that grow in hardware: outputs, victims, and the memory after each."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from golden.generation import Generation, generate
from golden.tensors import CASES
from hw.config import BEAT_BYTES, AttentionConfig
from hw.formats import KVFormat, Mode
from tb.generation.runner import Mismatch, run_generation
from tb.generation.small import SMALL


def make(
    spans: list[tuple[Mode, int, int]], seed: int, config: AttentionConfig = SMALL, **options: Any
) -> Generation:
    """Caches with a mode, a prompt and a last position each, in random order."""
    print(f"generation of seed {seed}")
    rng = random.Random(seed)
    kinds = ["random", "sink", "outlier_channels"]
    tensors = [CASES[kinds[i % 3]](config, last, seed + i) for i, (_, _, last) in enumerate(spans)]
    order = [i for i, (_, prompt, last) in enumerate(spans) for _ in range(last - prompt)]
    rng.shuffle(order)
    modes = [mode for mode, _, _ in spans]
    prompts = [prompt for _, prompt, _ in spans]
    return generate(tensors, prompts, order, config, modes=modes, **options)


def test_caches_in_turn(seed: int) -> None:
    """From nothing, a prompt, an imported one of all slots but one; beside a compressed cache."""
    slots = [(Mode.SLOTS, 0, 50), (Mode.SLOTS, 20, 60), (Mode.SLOTS, 31, 50)]
    golden = make([*slots, (Mode.KVO, 20, 36)], seed, imported=[2])
    found = run_generation(golden)
    assert found.counts["tokens_appended"] == len(golden.steps)
    assert found.counts["tokens_imported"] == 31
    assert found.counts["windows_closed"] == 1
    victims = {step.placed["slot"] for step in golden.steps if step.placed}
    # All kinds of slots were taken again, but for the two sinks.
    again = [s.placed["slot"] for s in golden.steps if s.placed and s.placed["position"] > 31]
    assert len(victims) == 32
    assert len(set(again)) > 10
    assert min(again) > 1


def test_bytes_of_a_step_are_constant(seed: int) -> None:
    """Once the cache is full, whatever the position; a key, a value and the scores are written."""
    totals = []
    for last in (32, 36, 56):
        found = run_generation(make([(Mode.SLOTS, 30, last)], seed))
        totals.append((found.counts["beats_read"], found.counts["beats_written"]))
    (read, written), (more_read, more_written), (all_read, all_written) = totals
    block = KVFormat(SMALL).tail_block_bytes
    assert (more_read - read) * BEAT_BYTES == 4 * 4 * block
    assert (all_read - more_read) * BEAT_BYTES == 20 * 4 * block
    assert all_written - more_written == 5 * (more_written - written)
    # Whole bursts: codes and pairs of the key, a scale, codes of the value, scores of four blocks.
    assert more_written - written == 4 * 2 * (1 + 1 + 1 + 2 + 4)


#: Prompts of all slots but one, of a few, and, one that takes no step, of all but one again.
IMPORTED = [(Mode.SLOTS, 31, 44), (Mode.KVO, 35, 37), (Mode.SLOTS, 9, 36), (Mode.SLOTS, 31, 31)]


@pytest.mark.slow
def test_prompts_are_imported(seed: int) -> None:
    """Keys, values and first scores are those of the twin, and so is whom the steps evict."""
    golden = make(IMPORTED, seed, imported=range(4))
    found = run_generation(golden, seed=seed)
    assert found.counts["tokens_imported"] == 31 + 35 + 9 + 31
    evicts = [s for s in golden.steps if s.placed and s.placed["position"] >= SMALL.slots]
    assert len(evicts) == 12 + 4


@pytest.mark.slow
def test_a_prompt_without_its_scores_shows(seed: int) -> None:
    """Negative control: the words of all tokens are one too large."""
    golden = make([(Mode.SLOTS, 31, 31), (Mode.SLOTS, 0, 1)], seed, imported=[0])
    image, record = bytearray(golden.image), KVFormat(SMALL).prompt_record_bytes
    for token in range(31):
        image[golden.prompts[0].source_address + token * record + 4] ^= 1
    with pytest.raises(Mismatch, match="cache 0 in the end: tail: saliency differs"):
        run_generation(replace(golden, image=bytes(image)), seed=seed)


@pytest.mark.slow
def test_prompts_with_votes_are_imported(seed: int) -> None:
    """At once with the steps of another cache, and with stalls."""
    config = replace(SMALL, name="tiny-votes", slot_rule="votes")
    golden = make(IMPORTED, seed, config, imported=range(4))
    run_generation(golden, seed=seed, stall=0.3)


def test_a_wrong_victim_shows(seed: int) -> None:
    """The comparison fails where the twin protects another number of tokens."""
    golden = make([(Mode.SLOTS, 31, 36)], seed)
    placed = golden.steps[2].placed
    assert placed is not None
    spoiled = replace(golden.steps[2], placed=placed | {"next_slot": placed["next_slot"] ^ 1})
    with pytest.raises(Mismatch, match=r"step 2 .*next_slot must be"):
        run_generation(replace(golden, steps=[*golden.steps[:2], spoiled, *golden.steps[3:]]))


def test_stalls(seed: int) -> None:
    golden = make([(Mode.SLOTS, 28, 44), (Mode.KVO, 30, 36), (Mode.SLOTS, 0, 3)], seed)
    memory = {"latency_max": 40, "shuffle": 1, "request_stall": 60, "response_gap": 60}
    run_generation(golden, seed=seed, stall=0.4, memory=memory)


@pytest.mark.slow
def test_ten_thousand_steps(seed: int) -> None:
    """Three caches, each some hundred times over its size."""
    golden = make([(Mode.SLOTS, 0, 3400), (Mode.SLOTS, 0, 3300), (Mode.SLOTS, 31, 3331)], seed)
    assert len(golden.steps) == 10_000
    run_generation(golden, driver="native")
