"""The whole core at legal configurations far from the presets, and what illegal ones are told.

Random configurations follow from ``--seed`` and their number; each is printed, so that a failure
can be replayed.
"""

from __future__ import annotations

import random
import re
from dataclasses import replace
from itertools import product

import pytest

from golden.tensors import CASES
from golden.workload import JobCase, case_from_tensors, make_workload
from hw.config import AttentionConfig, ConfigError
from hw.formats import Mode, modes
from tb.attention.catalogue import SCENARIOS, boundary_contexts
from tb.attention.runner import require_equal, run_attention
from tb.configurations import AWKWARD, draw

HARSH = SCENARIOS["attention_corners"].memory
STALL = 0.3
RANDOM = 8


def jobs(config: AttentionConfig, seed: int) -> list[JobCase]:
    """Every mode at every boundary, each time with other tensors, in random order."""
    names = list(CASES)
    cases = [
        case_from_tensors(
            f"{mode.name} {names[index % len(names)]}, context {context}",
            CASES[names[index % len(names)]](config, context, seed + index),
            config,
            layer=index % config.layers,
            kv_head=index % config.kv_heads,
            mode=mode,
        )
        for index, (mode, context) in enumerate(product(modes(config), boundary_contexts(config)))
        if mode != Mode.SLOTS or context <= config.slots
    ]
    random.Random(seed).shuffle(cases)
    return cases


def check(config: AttentionConfig, seed: int) -> None:
    print(f"configuration of seed {seed}: {config}")
    cases = jobs(config, seed)
    data = make_workload(cases, config)
    assert set(data["mode"].tolist()) == set(modes(config))
    run = run_attention(config, data, seed=seed, stall=STALL, memory=HARSH)
    require_equal(run.comparison)
    assert run.comparison.jobs == len(cases)
    assert (run.comparison.chunks > 0) == (config.max_chunks > 0)


@pytest.mark.slow
@pytest.mark.parametrize("name", AWKWARD)
def test_awkward_configuration(name: str, seed: int) -> None:
    """What no preset has, at once: sizes that are no powers of two, and the ends of the ranges."""
    check(AWKWARD[name], seed)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(RANDOM))
def test_random_configuration(number: int, seed: int) -> None:
    """Any other configuration, another one with every seed."""
    generator = random.Random(f"{seed} {number}")
    check(draw(generator, f"random{number}"), seed)


#: What every configuration is told, whatever its other fields.
ILLEGAL: dict[str, tuple[object, str]] = {
    "name": ("", "letters, digits, - and _"),
    "head_dim": (160, "one of 32, 64, 96, 128, 192, 256"),
    "rows": (9, "an integer from 1 to 8"),
    "chunk": (32, "one of 4, 8, 16"),
    "group": (48, "one of 16, 32"),
    "key_bits": (6, "one of 8, 4"),
    "key_delta_bits": (3, "one of 2, 4"),
    "mask_scope": ("window", "one of 'token', 'chunk'"),
    "value_bits": (8, "one of 2, 4"),
    "key_keep": (33, "an integer from 1 to "),
    "value_group": (128, "one of 16, 32, 64"),
    "value_keep": (64, "an integer from 1 to "),
    "window": (8, "one of "),
    "budget": (513, "an integer from "),
    "tail_value_bits": (12, "one of 16, 8"),
    "group_combine": ("sum", "one of 'max', 'mean'"),
    "max_context": (32769, "an integer from "),
    "layers": (257, "an integer from 1 to 256"),
    "kv_heads": (0, "an integer from 1 to 256"),
    "memory_bytes": (4097, "an integer from 4096 to 4294967296 and a multiple of 4096"),
    "jobs_in_flight": (16, "one of 2, 4, 8"),
    "memory_tags": (1, "one of 2, 4, 8, 16"),
    "reorder_beats": (1024, "one of 64, 128, 256, 512"),
    "slots": (1, "0 or an integer from "),
    "slot_recent": (33, "an integer from 1 to 32"),
    "slot_sinks": (-1, "an integer from 0 to "),
    "slot_decay": (257, "an integer from 0 to 256"),
    "slot_rule": ("least", "one of 'score', 'votes'"),
    "slot_vote_mean": (1025, "an integer from 1 to 1024"),
    "slot_vote_sigma": (-1, "an integer from 0 to 1024"),
    "slot_caches": (0, "an integer from 1 to 65536"),
}


@pytest.mark.parametrize("field", ILLEGAL)
def test_an_illegal_value_is_told_its_field_and_what_is_legal(field: str, seed: int) -> None:
    generator = random.Random(f"{seed} {field}")
    value, legal = ILLEGAL[field]
    for _ in range(20):
        config = draw(generator, "drawn")
        wanted = f"^{field} must be {re.escape(legal)}.*, not {re.escape(repr(value))}$"
        with pytest.raises(ConfigError, match=wanted):
            replace(config, **{field: value})  # type: ignore[arg-type]


def test_every_field_has_an_illegal_value() -> None:
    assert set(ILLEGAL) == set(next(iter(AWKWARD.values())).describe())


def test_drawn_configurations_reach_every_choice(seed: int) -> None:
    generator = random.Random(seed)
    drawn = [draw(generator, "drawn") for _ in range(300)]
    choices = {
        "head_dim": {32, 64, 96, 128, 192, 256},
        "rows": set(range(1, 9)),
        "chunk": {4, 8, 16},
        "group": {16, 32, 64},
        "key_bits": {4, 8},
        "key_delta_bits": {2, 4},
        "mask_scope": {"token", "chunk"},
        "value_bits": {2, 4},
        "value_group": {16, 32, 64},
        "window": {16, 32, 64},
        "slot_rule": {"score", "votes"},
        "slot_recent": set(range(1, 33)),
    }
    for field, values in choices.items():
        assert {getattr(config, field) for config in drawn} == values
    assert {config.slots > 0 for config in drawn} == {False, True}
