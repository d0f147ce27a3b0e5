"""The key unpacker: base and tail blocks, partial ones too, stalls, resets, exact cycles."""

from __future__ import annotations

from functools import cache

import pytest

from hw.config import BEAT_BYTES
from hw.cores.key_unpacker import KeyUnpacker
from hw.formats import StepKind
from tb.cores.segments import CONFIGS, EXTREMES, Cache, Segment, play
from tb.cores.side_by_side import SideBySide

#: Beats of base scales and minima before the codes; the first segment is a base block.
SCALE_BEATS = {
    "tiny": 4,
    "lm": 4,
    "wide": 16,
    "broad": 12,
    "narrow": 6,
    "codes16": 12,
    "codes32": 1,
    "codes64": 12,
}


@cache
def bench() -> SideBySide:
    return SideBySide({name: KeyUnpacker(config) for name, config in CONFIGS.items()})


def segments(seed: int, extremes: tuple[str, ...] = EXTREMES) -> dict[str, list[Segment]]:
    """Base blocks of C keys and of fewer, tail and dense blocks with and without absent tokens."""
    found: dict[str, list[Segment]] = {}
    for name, config in CONFIGS.items():
        found[name] = []
        for index, extreme in enumerate(extremes):
            chunks, tail = ((9, 16), (0, 1), (15, 3), (1, 13))[index]
            c = config.chunk
            cached = Cache(config, chunks=chunks, tail=tail, seed=seed + index, extreme=extreme)
            found[name] += [cached.base_keys(i, slot=index) for i in range(-(-chunks // c))]
            found[name] += [cached.tail_keys(i, slot=index) for i in range(-(-tail // c))]
            found[name] += [cached.dense_keys(i, slot=index) for i in range(-(-tail // c))]
    return found


@pytest.mark.parametrize("stall", [0.0, 0.5, 0.9])
def test_segments(stall: float, seed: int) -> None:
    print(f"seed {seed}")
    play(bench(), "key_unpacker", segments(seed), stall=stall, seed=seed)


@pytest.mark.parametrize("stream", ["header", "beats", "work", "saliency"])
def test_stalls_on_one_stream(stream: str, seed: int) -> None:
    print(f"seed {seed}")
    stall = {f"{name}__{stream}": 0.9 for name in CONFIGS}
    few = segments(seed, EXTREMES[:2])
    play(bench(), "key_unpacker", few, stall=stall, seed=seed)


@pytest.mark.parametrize("reset_at", [3, 60])
def test_reset_in_flight(reset_at: int, seed: int) -> None:
    print(f"seed {seed}")
    found = segments(seed + reset_at)
    play(bench(), "key_unpacker", found, stall=0.2, seed=seed, reset_at=reset_at)


@pytest.mark.parametrize("name", CONFIGS)
def test_exact_cycles(name: str) -> None:
    found = segments(1)[name]
    run = play(bench(), "key_unpacker", {name: found})
    beats = sum(len(segment.data) for segment in found) // BEAT_BYTES
    # The first beat is offered in cycle 1; every beat takes a cycle, one with the 4-bit codes of
    # two groups of 16 channels two.
    two_steps = 0
    if name == "wide":
        two_steps = sum(len(s.work) for s in found if s.steps.kind is StepKind.KEY_DIGITS) // 2
    assert run.cycles == 1 + beats + two_steps
    assert run.first_output_cycle[f"{name}__work"] == 1 + SCALE_BEATS[name]
