"""The value unpacker: records behind each other, stalls, resets, exact cycles."""

from __future__ import annotations

from functools import cache

import pytest

from hw.config import BEAT_BYTES
from hw.cores.value_unpacker import ValueUnpacker
from tb.cores.segments import CONFIGS, EXTREMES, Cache, Segment, play
from tb.cores.side_by_side import SideBySide

#: Beats of codes before the scales.
CODE_BEATS = {
    "tiny": 7,
    "lm": 13,
    "wide": 43,
    "broad": 74,
    "narrow": 10,
    "codes32": 6,
    "codes64": 125,
}
#: Cycles from the last beat to the last step, of eight records behind each other: what is left of
#: one record's steps holds the next one's back, with both digits of long chunks also its beats.
BEHIND = {"tiny": 0, "lm": 0, "wide": 64, "broad": 50, "narrow": 1, "codes32": 23, "codes64": 494}


@cache
def bench() -> SideBySide:
    return SideBySide({name: ValueUnpacker(config) for name, config in CONFIGS.items()})


def segments(seed: int, extremes: tuple[str, ...] = EXTREMES) -> dict[str, list[Segment]]:
    found: dict[str, list[Segment]] = {}
    for name, config in CONFIGS.items():
        found[name] = []
        for index, extreme in enumerate(extremes):
            cached = Cache(config, chunks=2, tail=1, seed=seed + index, extreme=extreme)
            found[name] += [cached.values(i, slot=index) for i in range(2)]
    return found


@pytest.mark.parametrize("stall", [0.0, 0.5, 0.9])
def test_segments(stall: float, seed: int) -> None:
    print(f"seed {seed}")
    play(bench(), "value_unpacker", segments(seed), stall=stall, seed=seed)


@pytest.mark.parametrize("stream", ["header", "beats", "work"])
def test_stalls_on_one_stream(stream: str, seed: int) -> None:
    print(f"seed {seed}")
    stall = {f"{name}__{stream}": 0.9 for name in CONFIGS}
    few = segments(seed, EXTREMES[:2])
    play(bench(), "value_unpacker", few, stall=stall, seed=seed)


@pytest.mark.parametrize("reset_at", [9, 50])
def test_reset_in_flight(reset_at: int, seed: int) -> None:
    print(f"seed {seed}")
    found = segments(seed + reset_at)
    play(bench(), "value_unpacker", found, stall=0.2, seed=seed, reset_at=reset_at)


@pytest.mark.parametrize("name", CONFIGS)
def test_exact_cycles(name: str) -> None:
    found = segments(1)[name]
    run = play(bench(), "value_unpacker", {name: found})
    beats = sum(len(segment.data) for segment in found) // BEAT_BYTES
    # The first beat is offered in cycle 1, every beat takes a cycle, the last one is padding or
    # has a step behind it. Two steps to a beat of scales leave as many as there are such beats.
    assert run.cycles == 1 + beats + BEHIND[name]
    # A queue of scales above 8 beats is a memory.
    latency = 2 if name in ("wide", "broad", "codes64") else 1
    assert run.first_output_cycle == {f"{name}__work": 1 + CODE_BEATS[name] + latency}
