"""The delta unpacker: records of all groupings, stalls, resets, exact cycles."""

from __future__ import annotations

from functools import cache

import pytest

from hw.config import BEAT_BITS
from hw.cores.delta_unpacker import DeltaUnpacker
from hw.formats import KVFormat
from tb.cores.segments import CONFIGS, EXTREMES, Cache, Segment, play
from tb.cores.side_by_side import SideBySide

#: Cycles from the first beat to the first step; a long queue takes one more, and so does an element
#: of more than a beat, and each beat of masks.
LATENCY = {
    "tiny": 2,
    "lm": 2,
    "wide": 1 + 3,
    "broad": 4,
    "narrow": 1 + 2,
    "codes32": 2,
    "codes64": 2 + 3,
}


@cache
def bench() -> SideBySide:
    return SideBySide({name: DeltaUnpacker(config) for name, config in CONFIGS.items()})


def segments(seed: int, extremes: tuple[str, ...] = EXTREMES) -> dict[str, list[Segment]]:
    found: dict[str, list[Segment]] = {}
    for name, config in CONFIGS.items():
        found[name] = []
        for index, extreme in enumerate(extremes):
            cached = Cache(config, chunks=2, tail=1, seed=seed + index, extreme=extreme)
            found[name] += [cached.deltas(i, slot=index, last=i == 1) for i in range(2)]
    return found


@pytest.mark.parametrize("stall", [0.0, 0.5, 0.9])
def test_segments(stall: float, seed: int) -> None:
    print(f"seed {seed}")
    play(bench(), "delta_unpacker", segments(seed), stall=stall, seed=seed)


@pytest.mark.parametrize("stream", ["header", "beats", "work"])
def test_stalls_on_one_stream(stream: str, seed: int) -> None:
    print(f"seed {seed}")
    stall = {f"{name}__{stream}": 0.9 for name in CONFIGS}
    few = segments(seed, EXTREMES[:2])
    play(bench(), "delta_unpacker", few, stall=stall, seed=seed)


@pytest.mark.parametrize("reset_at", [4, 37])
def test_reset_in_flight(reset_at: int, seed: int) -> None:
    print(f"seed {seed}")
    found = segments(seed + reset_at)
    play(bench(), "delta_unpacker", found, stall=0.2, seed=seed, reset_at=reset_at)


@pytest.mark.parametrize("name", CONFIGS)
def test_exact_cycles(name: str) -> None:
    found = segments(1)[name]
    run = play(bench(), "delta_unpacker", {name: found})
    steps = sum(len(segment.work) for segment in found)
    layout = KVFormat(CONFIGS[name])
    # An element of more than a beat is there one cycle later, once in each record. Masks of a chunk
    # come in after the last step of the record before.
    late = LATENCY[name] if layout.delta_mask_bytes else layout.delta_element_bits > BEAT_BITS
    # The first beat is offered in cycle 1; then every step takes a cycle.
    assert run.cycles == 1 + LATENCY[name] + steps + (len(found) - 1) * late
    assert run.first_output_cycle == {f"{name}__work": 1 + LATENCY[name]}
