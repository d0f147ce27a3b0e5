"""The unpacker: segments of all kinds in any order, error pulses, counters, exact cycles."""

from __future__ import annotations

import random
from functools import cache
from typing import Any

import pytest
import torch
from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import BEAT_BITS, BEAT_BYTES, AttentionConfig
from hw.cores.payloads import BEAT, SegmentKind, segment_header, slot_bits, work_layout
from hw.cores.unpacker import Unpacker
from hw.formats import KVFormat
from tb.cores.segments import EXTREMES, FEW, Cache, Segment, play
from tb.cores.side_by_side import SideBySide
from tb.harness import Run, unpack

COUNT_BITS = 16
COUNTS = ("memory_errors", "scale_errors")
EVENTS = ("beats_taken", "starved", "blocked")


def counts_layout(config: AttentionConfig) -> data.ArrayLayout:
    return data.ArrayLayout(COUNT_BITS, config.jobs_in_flight)


class Counted(wiring.Component):
    """The unpacker; its error pulses are counted by slot, its events in total."""

    def __init__(self, config: AttentionConfig) -> None:
        self._unpacker = Unpacker(config)
        super().__init__(
            {
                "header": In(stream.Signature(segment_header(config))),
                "beats": In(stream.Signature(BEAT)),
                "work": Out(stream.Signature(work_layout(config))),
                "saliency": Out(stream.Signature(BEAT_BITS)),
                **{name: Out(counts_layout(config)) for name in COUNTS},
                **{name: Out(COUNT_BITS) for name in EVENTS},
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.unpacker = unpacker = self._unpacker
        wiring.connect(m, wiring.flipped(self.header), unpacker.header)
        wiring.connect(m, wiring.flipped(self.beats), unpacker.beats)
        wiring.connect(m, unpacker.work, wiring.flipped(self.work))
        wiring.connect(m, unpacker.saliency, wiring.flipped(self.saliency))
        for name in COUNTS:
            pulse = getattr(unpacker, name.removesuffix("s"))
            slot = getattr(unpacker, f"{name.removesuffix('s')}_slot")
            count = getattr(self, name)
            with m.If(pulse):
                m.d.sync += count[slot].eq(count[slot] + 1)
        for name in EVENTS:
            total = Signal(COUNT_BITS, name=f"total_{name}")
            m.d.sync += total.eq(total + getattr(unpacker, name).event)
            m.d.comb += getattr(self, name).eq(total)
        return m


@cache
def bench() -> SideBySide:
    return SideBySide({name: Counted(config) for name, config in FEW.items()})


def observed(run: Run, unit: str, name: str) -> Any:
    return unpack(counts_layout(FEW[unit]), run.observed[f"{unit}__{name}"])


def run_all(segments: dict[str, list[Segment]], **options: Any) -> Run:
    names = [f"{unit}__{name}" for unit in FEW for name in (*COUNTS, *EVENTS)]
    return play(bench(), "unpacker", segments, observe=names, **options)


def shuffled(
    rng: random.Random, unit: str, count: int, *, bad_scales: bool = False
) -> list[Segment]:
    """Segments of several caches in an order that no sequencer would choose."""
    config = FEW[unit]
    caches = [
        Cache(
            config,
            chunks=chunks,
            tail=tail,
            seed=rng.getrandbits(32),
            extreme=extreme,
            bad_scales=bad_scales,
        )
        for chunks, tail, extreme in zip((9, 8, 3, 12), (1, 16, 20, 7), EXTREMES, strict=True)
    ]
    segments: list[Segment] = []
    loaded: tuple[Cache, int] | None = None
    for index in range(count):
        cached = rng.choice(caches)
        slot = rng.randrange(config.jobs_in_flight)
        chunk = rng.randrange(cached.chunks)
        base_block = rng.randrange(-(-cached.chunks // config.chunk))
        tail_block = rng.randrange(-(-len(cached.tail.value_scale) // config.chunk))
        made = (
            lambda c=cached, b=base_block, s=slot: c.base_keys(b, s),
            lambda c=cached, b=tail_block, s=slot: c.tail_keys(b, s),
            lambda c=cached, b=tail_block, s=slot: c.tail_values(b, s),
            lambda c=cached, k=chunk, s=slot, i=index: c.deltas(k, s, last=i % 2 == 1),
            lambda c=cached, k=chunk, s=slot: c.values(k, s),
            lambda c=cached, b=tail_block, s=slot: c.dense_keys(b, s),
            lambda c=cached, b=tail_block, s=slot: c.dense_values(b, s),
        )[index if index < 7 else rng.randrange(7)]()
        group = cached, chunk // config.group_chunks
        if made.kind == SegmentKind.VALUES and (loaded != group or rng.random() < 0.5):
            segments.append(cached.value_scales(chunk, slot))
            loaded = group
        segments.append(made)
    return segments


def job(cached: Cache, selection: list[int], slot: int) -> list[Segment]:
    """The segments of a job in the order of the sequencer: the keys are a unit ahead."""
    c = cached.config
    segments = [cached.base_keys(block, slot) for block in range(-(-cached.chunks // c.chunk))]
    tail_blocks = range(-(-len(cached.tail.value_scale) // c.chunk))
    keys = [cached.tail_keys(block, slot) for block in tail_blocks]
    keys += [cached.deltas(k, slot, last=k == selection[-1]) for k in selection]
    values = [cached.tail_values(block, slot) for block in tail_blocks]
    values += [cached.values(k, slot) for k in selection]
    scales: list[list[Segment]] = [[] for _ in tail_blocks]
    before = None
    for k in selection:
        group = k // c.group_chunks
        scales.append([] if group == before else [cached.value_scales(k, slot)])
        before = group
    segments.append(keys[0])
    for unit, value in enumerate(values):
        segments += [*keys[unit + 1 : unit + 2], *scales[unit], value]
    return segments


def test_payload_widths() -> None:
    #: Bits of a slot, a group, a part of a group and a key of a block.
    sizes = {
        "tiny": (2, 1, 1, 3),
        "lm": (2, 1, 1, 3),
        "wide": (3, 3, 1, 3),
        "narrow": (2, 3, 1, 2),
        "codes64": (2, 2, 2, 4),
    }
    for name, (slots, groups, parts, keys) in sizes.items():
        config = FEW[name]
        assert slot_bits(config) == slots
        unpacker = Unpacker(config)
        assert unpacker.header.payload.shape().size == 3 + slots + keys + 2 + 2
        assert unpacker.beats.payload.shape().size == 128 + 2
        tag = 3 + slots + 6 + 16
        assert unpacker.work.payload.shape().size == 2 + 128 + 3 + 128 + groups + parts + tag + 1
        assert len(unpacker.memory_error_slot) == len(unpacker.scale_error_slot) == slots


@pytest.mark.parametrize("stall", [0.0, 0.5, 0.9])
def test_random_order(stall: float, seed: int) -> None:
    print(f"seed {seed}")
    rng = random.Random(seed + round(10 * stall))
    run = run_all({unit: shuffled(rng, unit, 15) for unit in FEW}, stall=stall, seed=seed)
    for unit, config in FEW.items():
        for name in COUNTS:
            assert observed(run, unit, name) == [0] * config.jobs_in_flight


@pytest.mark.parametrize("stream_name", ["header", "beats", "work", "saliency"])
def test_stalls_on_one_stream(stream_name: str, seed: int) -> None:
    print(f"seed {seed}")
    rng = random.Random(seed)
    stall = {f"{unit}__{stream_name}": 0.9 for unit in FEW}
    run_all({unit: shuffled(rng, unit, 10) for unit in FEW}, stall=stall, seed=seed)


@pytest.mark.parametrize("reset_at", [60, 211])
def test_reset_in_flight(reset_at: int, seed: int) -> None:
    print(f"seed {seed}")
    rng = random.Random(seed + reset_at)
    segments = {unit: shuffled(rng, unit, 12) for unit in FEW}
    run_all(segments, stall=0.3, seed=seed, reset_at=reset_at)


@pytest.mark.parametrize("stall", [0.0, 0.5])
def test_errors_are_told_with_their_slot(stall: float, seed: int) -> None:
    print(f"seed {seed}")
    rng = random.Random(seed)
    segments = {unit: shuffled(rng, unit, 15, bad_scales=True) for unit in FEW}
    errors = {
        unit: [
            [i for i in range(len(segment.data) // BEAT_BYTES) if rng.random() < 0.2]
            for segment in each
        ]
        for unit, each in segments.items()
    }
    run = run_all(segments, errors=errors, stall=stall, seed=seed)
    for unit, each in segments.items():
        marked = [0] * FEW[unit].jobs_in_flight
        not_finite = list(marked)
        for segment, indices in zip(each, errors[unit], strict=True):
            marked[segment.slot] += len(indices)
            steps = segment.steps
            numbers = torch.cat(
                (steps.scale, steps.minimum, steps.value_scale.unsqueeze(-1)), dim=-1
            )
            bad = (numbers & 0x7C00) == 0x7C00
            not_finite[segment.slot] += int(bad.any(-1).sum())
        assert sum(not_finite) > 10
        assert observed(run, unit, "memory_errors") == marked
        assert observed(run, unit, "scale_errors") == not_finite


@pytest.mark.parametrize(("unit", "late"), [("tiny", 27), ("lm", 31)])
def test_a_beat_in_every_cycle_of_a_job(unit: str, late: int) -> None:
    """Also across groups; a chunk without scales takes its steps if they are more."""
    config = FEW[unit]
    layout, group = KVFormat(config), config.group_chunks
    cached = Cache(config, chunks=16, tail=19, seed=1)
    cycles = []
    for selection in ([0, group], [0, group, 2 * group], [3 * group, 3 * group + 1, 0, group]):
        segments = job(cached, selection, slot=1)
        run = run_all({unit: segments})
        beats = sum(len(segment.data) for segment in segments) // BEAT_BYTES
        print(f"{unit}: {beats} beats, {run.cycles} cycles")
        assert run.observed[f"{unit}__beats_taken"] == beats
        assert run.observed[f"{unit}__starved"] == 0
        cycles.append(run.cycles - beats)
    # The job's first delta record has tail values behind it. They make steps from their first beat
    # on and so wait for the record's, which come from the third cycle on. A beat comes one cycle
    # after its header; the first tile is waited for 15 cycles, which the beats behind it are late;
    # the rest is latency and what is left of the last records' steps.
    waits = 2 + layout.delta_elements - layout.delta_bytes // BEAT_BYTES
    assert cycles[:2] == [waits + late] * 2
    steps = layout.delta_elements + config.head_dim // 4
    more = steps - layout.chunk_bytes // BEAT_BYTES
    assert waits + late < cycles[2] <= waits + late + more


@pytest.mark.parametrize(
    ("kind", "latencies"),
    [
        ("base_keys", {"tiny": 4, "lm": 4, "wide": 16, "narrow": 6, "codes64": 12}),
        ("tail_keys", {"tiny": 8, "lm": 8, "wide": 20, "narrow": 8, "codes64": 18}),
        # The rest of a tile.
        ("tail_values", {"tiny": 15, "lm": 15, "wide": 15, "narrow": 7, "codes64": 31}),
        ("deltas", {"tiny": 2, "lm": 2, "wide": 4, "narrow": 3, "codes64": 5}),
        # Beats of scales ahead.
        (
            "scaled_values",
            {"tiny": 8 + 2, "lm": 16 + 2, "wide": 32 + 4, "narrow": 24 + 2, "codes64": 48 + 4},
        ),
    ],
)
def test_latency(kind: str, latencies: dict[str, int]) -> None:
    """Cycles from a segment's first beat to its first step, less what every beat takes.

    That is C / 2 + 1 in the transposer and one in the output register.
    """
    segments = {}
    for unit, config in FEW.items():
        made = getattr(Cache(config, chunks=16, tail=16, seed=1), kind)(0)
        segments[unit] = made if isinstance(made, list) else [made]
    run = run_all(segments)
    first = {unit: run.first_output_cycle[f"{unit}__work"] for unit in FEW}
    assert first == {
        unit: 1 + 1 + FEW[unit].chunk // 2 + 1 + latency + 1 for unit, latency in latencies.items()
    }
