"""The value unpacker: records behind each other, stalls, resets, exact cycles."""

from __future__ import annotations

from functools import cache

import pytest
from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import BEAT_BYTES, AttentionConfig
from hw.cores.payloads import BEAT, SegmentKind, segment_header, work_layout
from hw.cores.value_unpacker import ValueUnpacker
from hw.formats import KVFormat
from hw.streams import StreamFIFO
from tb.cores.segments import CONFIGS, EXTREMES, Cache, Segment, play
from tb.cores.side_by_side import SideBySide


class Routed(wiring.Component):
    """The unpacker behind one stream of beats; their headers say which are scales."""

    def __init__(self, config: AttentionConfig) -> None:
        self._config = config
        super().__init__(
            {
                "header": In(stream.Signature(segment_header(config))),
                "beats": In(stream.Signature(BEAT)),
                "work": Out(stream.Signature(work_layout(config))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.unpacker = unpacker = ValueUnpacker(self._config)
        m.submodules.route = route = StreamFIFO(1, depth=4)
        m.submodules.headers = headers = StreamFIFO(segment_header(self._config), depth=4)
        wiring.connect(m, headers.output, unpacker.header)
        wiring.connect(m, unpacker.work, wiring.flipped(self.work))
        go = self.header.valid & headers.input.ready & route.input.ready
        scales = self.header.payload.kind == SegmentKind.VALUE_SCALES
        m.d.comb += [
            self.header.ready.eq(headers.input.ready & route.input.ready),
            headers.input.payload.eq(self.header.payload),
            headers.input.valid.eq(go & ~scales),
            route.input.payload.eq(scales),
            route.input.valid.eq(go),
            unpacker.beats.payload.eq(self.beats.payload),
            unpacker.scales.payload.eq(self.beats.payload),
            route.output.ready.eq(self.beats.valid & self.beats.ready & self.beats.payload.last),
        ]
        for number, target in enumerate((unpacker.beats, unpacker.scales)):
            with m.If(route.output.valid & (route.output.payload == number)):
                m.d.comb += [
                    target.valid.eq(self.beats.valid),
                    self.beats.ready.eq(target.ready),
                ]
        return m


#: Cycles beyond one per beat: scales wait for the last step of the record before them, and beats
#: for the steps of their record if these are more.
WAITS = {
    "tiny": 17,
    "lm": 41,
    "wide": 397,
    "broad": 289,
    "narrow": 185,
    "codes32": 137,
    "codes64": 1153,
}


@cache
def bench() -> SideBySide:
    return SideBySide({name: Routed(config) for name, config in CONFIGS.items()})


def segments(seed: int, extremes: tuple[str, ...] = EXTREMES) -> dict[str, list[Segment]]:
    found: dict[str, list[Segment]] = {}
    for name, config in CONFIGS.items():
        found[name] = []
        for index, extreme in enumerate(extremes):
            chunks = config.group_chunks + 1
            cached = Cache(config, chunks=chunks, tail=1, seed=seed + index, extreme=extreme)
            # Two of a group, and one of another where groups have two.
            found[name] += cached.scaled_values(chunks - 2, slot=index)
            found[name].append(cached.values(max(0, chunks - 3), slot=index))
            found[name] += cached.scaled_values(chunks - 1, slot=index)
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
    assert run.cycles == 1 + beats + WAITS[name]
    # A header is offered in cycle 1 and routed a cycle later. A queue of codes above 8 beats is a
    # memory; an element of more than a beat waits for its second one.
    late = (name in ("wide", "broad", "codes64")) + (name in ("wide", "codes64"))
    first = 2 + KVFormat(CONFIGS[name]).value_scale_bytes // BEAT_BYTES + 2 + late
    assert run.first_output_cycle == {f"{name}__work": first}
