"""RegionSizes against `MmuConfig.pages_of`, and against sizes worked out by hand."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from amaranth.sim import Simulator

from hw.config import preset
from hw.formats import Mode
from hw.memory.kv_mmu.config import MmuConfig
from hw.memory.kv_mmu.formats import Region
from hw.memory.kv_mmu.region_sizes import RegionSizes
from tb.formal.mutant import mutant

TINY = MmuConfig(attention=preset("tiny"), sequences=2, page_bytes=1024)
SLOTS = replace(preset("tiny"), slots=32, slot_caches=64)
CONFIGS = {
    "tiny": TINY,
    "tiny, writes": replace(TINY, writes=True),
    # A core that only reads has its caches of constant size in pages.
    "slots": MmuConfig(attention=SLOTS, sequences=2, page_bytes=1024),
    "slots, writes": MmuConfig(attention=SLOTS, sequences=2, page_bytes=1024, writes=True),
    "chunk 16": replace(
        TINY, attention=replace(preset("tiny"), chunk=16, budget=48, window=32), writes=True
    ),
    "lm": MmuConfig(attention=preset("lm"), page_bytes=4096),
    "lm, writes": MmuConfig(attention=preset("lm"), page_bytes=1024, writes=True),
    "paper, writes": MmuConfig(attention=preset("paper"), page_bytes=65536, writes=True),
}


def contexts_of(config: MmuConfig, seed: int) -> list[int]:
    """No token, the first and the last ones, the ends of windows and chunks, and others."""
    core, rng = config.attention, random.Random(seed)
    some = [0, 1, 2, core.max_context - 1, core.max_context]
    ends = [n * core.window for n in (1, 2, 3, 4, core.max_context // core.window - 1)]
    some += [end + off for end in ends for off in (-1, 0, 1)]
    some += [rng.randint(0, core.max_context) for _ in range(20)]
    return sorted({context for context in some if context <= core.max_context})


def pages_of(unit: Any, questions: Iterable[tuple[int, Mode, Region]]) -> list[int]:
    """The unit's answers."""
    found = []

    async def bench(context: Any) -> None:
        for tokens, mode, region in questions:
            context.set(unit.context, tokens)
            context.set(unit.mode, mode)
            context.set(unit.region, region)
            found.append(context.get(unit.pages))

    simulator = Simulator(unit)
    simulator.add_testbench(bench)
    simulator.run()
    return found


def check(unit: Any, config: MmuConfig, seed: int) -> None:
    """Every mode and region at the corners."""
    questions = [
        (tokens, mode, region)
        for tokens in contexts_of(config, seed)
        for mode in config.paged_modes
        for region in Region
    ]
    # A cache of constant size has all its pages from its first token on, and none before.
    expected = [
        config.pages_of(tokens, mode)[region] if tokens else 0 for tokens, mode, region in questions
    ]
    found = pages_of(unit, questions)
    wrong = [row for row in zip(questions, found, expected, strict=True) if row[1] != row[2]]
    assert not wrong, wrong[:3]


@pytest.mark.parametrize("name", CONFIGS)
def test_equals_the_configuration(name: str, seed: int) -> None:
    check(RegionSizes(CONFIGS[name]), CONFIGS[name], seed)


def test_pages_by_hand() -> None:
    """Preset `tiny`: blocks of 320 B (base), 640 B (group), 896 B (tail), 1024 B (`DENSE16`)."""
    questions = [
        (0, Mode.KVO, Region.TAIL),
        # One tail block; then four, the ring of two windows of 16 tokens, 3584 B.
        (1, Mode.KVO, Region.TAIL),
        (32, Mode.KVO, Region.TAIL),
        (256, Mode.KVO, Region.TAIL),
        # A window is closed with its 33rd token: 2 chunks, a base key block and a group of 640 B.
        (32, Mode.KVO, Region.BASE),
        (33, Mode.KVO, Region.BASE),
        (33, Mode.KVO, Region.CHUNK),
        # Two windows: 1280 B.
        (49, Mode.KVO, Region.CHUNK),
        # Seventeen tokens of a dense cache: three blocks.
        (17, Mode.DENSE16, Region.TAIL),
        (17, Mode.DENSE16, Region.BASE),
    ]
    expected = [0, 1, 4, 4, 0, 1, 1, 2, 3, 0]
    assert pages_of(RegionSizes(TINY), questions) == expected
    # If the core writes, the 32nd token closes the first window, the 48th the second one.
    writing = RegionSizes(CONFIGS["tiny, writes"])
    assert pages_of(writing, [(n, Mode.KVO, Region.CHUNK) for n in (31, 32, 47, 48)]) == [
        0,
        1,
        1,
        2,
    ]


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("tiny, writes", "1 + with_next", "1"),
        ("tiny, writes", "(self.context != config.max_context)", "1"),
        ("tiny", "layout.tail_blocks))", "layout.tail_blocks + 1))"),
        ("slots", "self.mode == Mode.SLOTS", "0"),
        ("lm", "self._config.page_bytes - 1)", "0)"),
    ],
)
def test_faults_are_found(name: str, old: str, new: str) -> None:
    """Negative control."""
    with pytest.raises(AssertionError):
        check(mutant(RegionSizes, old, new)(CONFIGS[name]), CONFIGS[name], 1)
