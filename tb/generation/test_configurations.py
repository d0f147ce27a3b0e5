"""The core that writes its caches at legal configurations far from the presets.

Random ones follow from ``--seed`` and their number; each is printed, so that a failure can be
replayed.
"""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from golden.generation import Generation, generate
from golden.tensors import CASES
from hw.config import AttentionConfig
from hw.formats import Mode
from tb.configurations import draw
from tb.generation.runner import run_generation
from tb.generation.small import SMALL

RANDOM = 4
STALL = 0.2
MEMORY = {"latency_max": 40, "shuffle": 1, "request_stall": 40, "response_gap": 40}

#: What `SMALL` is not: every other size of a chunk, whole windows and value groups of one chunk,
#: codes of other widths, groups across bursts.
CONFIGS = {
    config.name: config
    for config in (
        # Sixteen windows, of a chunk each, share a block of base keys.
        replace(SMALL, name="chunk16", chunk=16, budget=48, max_context=320),
        replace(
            SMALL,
            name="chunk16-wide",
            head_dim=96,
            rows=3,
            chunk=16,
            group=32,
            window=32,
            value_group=32,
            value_keep=20,
            budget=48,
            tail_value_bits=8,
            slots=80,
            slot_rule="votes",
            memory_bytes=1 << 20,
        ),
        replace(
            SMALL,
            name="chunk4",
            rows=1,
            chunk=4,
            group=32,
            key_bits=4,
            key_delta_bits=4,
            value_bits=4,
            window=32,
            slots=68,
            slot_decay=0,
        ),
    )
}


def lives(config: AttentionConfig) -> list[tuple[Mode, int, int]]:
    """Mode, prompt and last position of each cache.

    One begins with nothing, of one the first window closes, one is imported but for three tokens of
    the longest context; slots are filled from the prompt's end on and taken again.
    """
    window, last, slots = config.window, config.max_context, config.slots
    compressed = [
        (Mode.KVO, 0, 3),
        (Mode.KVO, 2 * window - 4, min(2 * window + 3, last)),
        (Mode.KVO, last - 3, last),
    ]
    constant = [(Mode.SLOTS, slots - 3, slots + 12), (Mode.SLOTS, 0, 5)]
    return compressed + (constant[: config.slot_caches] if slots else [])


def make(config: AttentionConfig, seed: int) -> Generation:
    """The steps of `lives` in random order."""
    spans = lives(config)
    kinds = ["random", "sink", "outlier_channels"]
    tensors = [CASES[kinds[i % 3]](config, last, seed + i) for i, (_, _, last) in enumerate(spans)]
    order = [i for i, (_, prompt, last) in enumerate(spans) for _ in range(last - prompt)]
    random.Random(seed).shuffle(order)
    prompts = [prompt for _, prompt, _ in spans]
    modes = [mode for mode, _, _ in spans]
    return generate(tensors, prompts, order, config, imported=[2], modes=modes)


def check(config: AttentionConfig, seed: int) -> None:
    """Outputs of every step, and the memory after it, are the twin's."""
    print(f"configuration of seed {seed}: {config}")
    golden = make(config, seed)
    found = run_generation(golden, seed=seed, stall=STALL, memory=MEMORY)
    windows = sum(step.closes for step in golden.steps)
    assert found.counts["windows_closed"] == windows
    assert found.counts["windows"] == windows + config.closed_tokens(config.max_context - 2) // (
        config.window
    )
    assert found.counts["tokens_imported"] == config.max_context - 3
    assert found.counts["tokens_appended"] == len(golden.steps)


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_configuration(name: str, seed: int) -> None:
    check(CONFIGS[name], seed)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(RANDOM))
def test_random_configuration(number: int, seed: int) -> None:
    """Any other one that can close windows: each token of a chunk has a mask of its own."""
    generator = random.Random(f"generation {seed} {number}")
    check(replace(draw(generator, f"generation{number}"), mask_scope="token"), seed)


def test_lives_reach_what_they_say() -> None:
    """A window closes in a step, an import closes some, a token is evicted; the cache ends full."""
    for config in CONFIGS.values():
        _, closing, imported, evicting, _ = lives(config)
        assert config.closed_tokens(closing[1]) == 0 < config.closed_tokens(closing[2])
        assert config.closed_tokens(imported[1]) > 0
        assert imported[2] == config.max_context
        assert evicting[2] > config.slots
    assert len(lives(replace(SMALL, slots=0))) == 3
    assert len(lives(replace(SMALL, slot_caches=1))) == 4
