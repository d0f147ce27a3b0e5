"""ReadReturn: every word asked for goes to its request, in its clock."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import pytest

from hw.config import BEAT_BITS, BEAT_BYTES
from hw.memory.dram import load_standard
from hw.memory.dram.controller import ControllerConfig
from hw.memory.dram.controller.distances import Distances
from hw.memory.dram.controller.read_return import ReadReturn
from tb.formal.mutant import mutant
from tb.memory.dram.controller.clocked import DATA_PATHS, refutes, run

BURSTS = 40


@dataclass(frozen=True)
class Burst:
    """A read whose command is granted: its place in the request, and the request."""

    place: int
    request: int
    beats: int
    second_half: bool
    refused: bool


def check(name: str, gear: int, number: int, seed: int, unit: type = ReadReturn) -> None:
    """Issue bursts at random, as close as tCCD_S; compare all that comes back, and when."""
    config = ControllerConfig(standard=load_standard(name), gear=gear)
    standard, choose = config.standard, random.Random(seed)
    distances = Distances(standard, gear, number)
    part = unit(config, distances)
    ratio = standard.burst_bytes // BEAT_BYTES
    #: Words on the bus by DRAM clock, and what must come back by clock of the logic.
    words: dict[int, int] = {}
    expected: dict[int, tuple[int, int, int, bool]] = {}
    grants: dict[int, Burst] = {}
    clock = 3
    for _ in range(BURSTS):
        beats = 2 * choose.randrange(1, 17)
        half = ratio > 2 and choose.random() < 0.5
        place = choose.randrange(-(-(beats + 2 * half) // ratio))
        burst = Burst(place, choose.randrange(64), beats, half, choose.random() < 0.2)
        grants[clock] = burst
        # The command is at the DRAM port a clock later.
        first = (clock + 1) * gear + distances.column_phase + standard["tCL"]
        for i in range(standard.burst_cycles):
            words[first + i] = choose.getrandbits(BEAT_BITS)
        for i in range(0, standard.burst_cycles, gear):
            beat = place * ratio + i - (2 if half else 0)
            if 0 <= beat < beats:
                data = sum(words[first + i + j] << BEAT_BITS * j for j in range(gear))
                # A clock behind that of the last word.
                done = (first + i + gear - 1) // gear + 1
                expected[done] = (0 if burst.refused else data, burst.request, beat, burst.refused)
        clock += -(-standard["tCCD_S"] // gear) + choose.choice((0, 0, 0, 1, 30))
    seen: dict[int, tuple[int, int, int, bool]] = {}

    async def bench(ctx: Any) -> None:
        for now in range(clock + 60):
            burst = grants.get(now)
            ctx.set(part.issued.valid, burst is not None)
            if burst is not None:
                assert ctx.get(part.issued.ready), "there is always room"
                issued = part.issued.payload
                ctx.set(issued.place, burst.place)
                ctx.set(issued.tag.id, burst.request)
                ctx.set(issued.tag.beats_less_one, burst.beats - 1)
                ctx.set(issued.tag.second_half, burst.second_half)
                ctx.set(issued.tag.refused, burst.refused)
            on_bus = [words.get(now * gear + i) for i in range(gear)]
            ctx.set(part.read_valid, sum((word is not None) << i for i, word in enumerate(on_bus)))
            # Without a word there is anything on the bus.
            ctx.set(
                part.read_data,
                sum(
                    (choose.getrandbits(BEAT_BITS) if word is None else word) << BEAT_BITS * i
                    for i, word in enumerate(on_bus)
                ),
            )
            if ctx.get(part.response.valid):
                got = ctx.get(part.response.payload)
                seen[now] = (got.data, got.id, got.beat, bool(got.error))
            await ctx.tick()

    run(part, bench)
    assert expected
    assert seen == expected


@pytest.mark.parametrize(("name", "gear", "number"), DATA_PATHS)
def test_words_come_back(name: str, gear: int, number: int, seed: int) -> None:
    check(name, gear, number, seed)


FAULTS = {
    "words of the request only": ("valid & (beat <= burst.tag.beats_less_one)", "valid"),
    "the second half": ("Mux(burst.tag.second_half, beats // 2, 0)", "0"),
    "a refused request reads": ("Mux(burst.tag.refused, 0, word_data)", "word_data"),
    "a burst ends a word early": ("final.eq(word == words - 1)", "final.eq(word == words - 2)"),
    "too few may be under way": ('// standard["tCCD_S"]) + 2', '// standard["tCCD_S"]) // 2'),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_found(fault: str) -> None:
    faulty = mutant(ReadReturn, *FAULTS[fault])
    assert refutes(lambda: check("ddr4-3200", 1, 0, 1, faulty))


def test_a_faulty_phase_is_found() -> None:
    faulty = mutant(ReadReturn, '+ standard["tCL"]) % gear == 0', '+ standard["tCL"]) % gear == 1')
    assert refutes(lambda: check("hbm2-2000", 2, 1, 1, faulty))
