"""The query store: loads and reads of all slots, at once too, stalls, resets, exact cycles."""

from __future__ import annotations

import random
from functools import cache
from typing import Any

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import AttentionConfig
from hw.constants import QUERY_MAX
from hw.cores.payloads import slot_bits
from hw.cores.query_store import QUERY_BEAT, QueryStore, operand_layout, query_sum_layout
from tb.cores.segments import CONFIGS
from tb.cores.side_by_side import SideBySide
from tb.harness import Run, pack, simulate, unpack

STORES = {
    **CONFIGS,
    "one_row": AttentionConfig(rows=1, jobs_in_flight=2),
    "three_rows": AttentionConfig(rows=3, head_dim=32),
}
LOAD_BITS = 8

#: Slot and queries ``[row][channel]``.
Load = tuple[int, list[list[int]]]


def read_layout(config: AttentionConfig) -> data.StructLayout:
    return data.StructLayout({"slot": slot_bits(config), "group": range(max(2, config.groups))})


def result_layout(config: AttentionConfig) -> data.StructLayout:
    return data.StructLayout(
        {"operand": operand_layout(config), "query_sum": query_sum_layout(config)}
    )


class Read(wiring.Component):
    """The store, its read port as two streams; reads wait for ``loads`` loads."""

    def __init__(self, config: AttentionConfig) -> None:
        self._store = QueryStore(config)
        super().__init__(
            {
                "load": In(stream.Signature(slot_bits(config))),
                "query": In(stream.Signature(QUERY_BEAT)),
                "loads": In(LOAD_BITS),
                "read": In(stream.Signature(read_layout(config))),
                "result": Out(stream.Signature(result_layout(config))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.store = store = self._store
        wiring.connect(m, wiring.flipped(self.load), store.load)
        wiring.connect(m, wiring.flipped(self.query), store.query)
        loaded = Signal(LOAD_BITS)
        with m.If(store.load.valid & store.load.ready):
            m.d.sync += loaded.eq(loaded + 1)
        free = ~self.result.valid | self.result.ready
        m.d.comb += [
            self.read.ready.eq(free & (loaded >= self.loads)),
            store.read_enable.eq(self.read.valid & self.read.ready),
            store.read_slot.eq(self.read.payload.slot),
            store.read_group.eq(self.read.payload.group),
            self.result.payload.operand.eq(store.operand),
            self.result.payload.query_sum.eq(store.query_sum),
        ]
        with m.If(free):
            m.d.sync += self.result.valid.eq(store.read_enable)
        return m


@cache
def bench() -> SideBySide:
    return SideBySide({name: Read(config) for name, config in STORES.items()})


def random_load(rng: random.Random, config: AttentionConfig, slot: int) -> Load:
    """Queries of any size, or a row of nothing but one extreme."""
    rows = []
    for _ in range(config.rows):
        extreme = rng.choice((None, None, 0, QUERY_MAX, -QUERY_MAX))
        rows.append(
            [
                rng.randint(-QUERY_MAX, QUERY_MAX) if extreme is None else extreme
                for _ in range(config.head_dim)
            ]
        )
    return slot, rows


def beats(load: Load) -> list[int]:
    return [
        pack(QUERY_BEAT, [code & 0xFFFF for code in row[start : start + 8]])
        for row in load[1]
        for start in range(0, len(row), 8)
    ]


def result(config: AttentionConfig, queries: list[list[int]], group: int) -> dict[str, Any]:
    part = slice(group * config.group, (group + 1) * config.group)
    return {
        "operand": [[code & 0xFFF for code in row[part]] for row in queries],
        "query_sum": [sum(row[part]) for row in queries],
    }


def play(
    loads: dict[str, list[Load]],
    reads: dict[str, list[tuple[int, int]]],
    *,
    wait: dict[str, int] | None = None,
    **options: Any,
) -> Run:
    """Load, read ``(slot, group)`` after ``wait`` loads or all, compare with the last loads."""
    inputs: dict[str, list[int]] = {}
    wanted: dict[str, list[dict[str, Any]]] = {}
    for name, config in STORES.items():
        each = loads.get(name, [])
        held = dict(each)
        asked = reads.get(name, [])
        inputs[f"{name}__load"] = [slot for slot, _ in each]
        inputs[f"{name}__query"] = [beat for load in each for beat in beats(load)]
        inputs[f"{name}__read"] = [
            pack(read_layout(config), {"slot": slot, "group": group}) for slot, group in asked
        ]
        wanted[f"{name}__result"] = [result(config, held[slot], group) for slot, group in asked]
    run = simulate(
        bench(),
        name="query_store",
        inputs=inputs,
        outputs={stream: len(items) for stream, items in wanted.items()},
        settings={
            f"{name}__loads": (wait or {}).get(name, len(loads.get(name, []))) for name in STORES
        },
        **options,
    )
    for name, config in STORES.items():
        stream = f"{name}__result"
        got = [unpack(result_layout(config), item) for item in run.outputs[stream]]
        assert got == wanted[stream], name
    return run


def all_reads(rng: random.Random, config: AttentionConfig, slots: int) -> list[tuple[int, int]]:
    reads = [(slot, group) for slot in range(slots) for group in range(config.groups)] * 2
    return rng.sample(reads, len(reads))


@pytest.mark.parametrize("name", STORES)
def test_payload_widths(name: str) -> None:
    config = STORES[name]
    store = QueryStore(config)
    assert store.query.payload.shape().size == 128
    assert len(store.load.payload) == (config.jobs_in_flight - 1).bit_length()
    assert store.operand.shape().size == config.rows * config.group * 12
    assert store.query_sum.shape().size == config.rows * 20


@pytest.mark.parametrize("stall", [0.0, 0.5, 0.9])
def test_every_slot_and_group(stall: float, seed: int) -> None:
    """Each slot is loaded twice, so that its second queries must have replaced the first."""
    print(f"seed {seed}")
    rng = random.Random(seed)
    loads, reads = {}, {}
    for name, config in STORES.items():
        slots = list(range(config.jobs_in_flight)) * 2
        loads[name] = [random_load(rng, config, slot) for slot in rng.sample(slots, len(slots))]
        reads[name] = all_reads(rng, config, config.jobs_in_flight)
    play(loads, reads, stall=stall, seed=seed)


def test_reads_beside_loads_of_other_slots(seed: int) -> None:
    """Slot 0 is read again and again while the other slots are loaded."""
    print(f"seed {seed}")
    rng = random.Random(seed)
    loads, reads = {}, {}
    for name, config in STORES.items():
        others = [rng.randrange(1, config.jobs_in_flight) for _ in range(4)]
        loads[name] = [random_load(rng, config, slot) for slot in [0, *others]]
        reads[name] = [(0, rng.randrange(config.groups)) for _ in range(100)]
    stall = {f"{name}__result": 0.3 for name in STORES}
    play(loads, reads, wait=dict.fromkeys(STORES, 1), stall=stall, seed=seed)


@pytest.mark.parametrize("reset_at", [5, 40])
def test_reset_in_flight(reset_at: int, seed: int) -> None:
    print(f"seed {seed}")
    rng = random.Random(seed + reset_at)
    loads, reads = {}, {}
    for name, config in STORES.items():
        loads[name] = [random_load(rng, config, slot) for slot in range(config.jobs_in_flight)]
        reads[name] = all_reads(rng, config, config.jobs_in_flight)
    play(loads, reads, stall=0.2, seed=seed, reset_at=reset_at)


@pytest.mark.parametrize("name", ["tiny", "lm"])
def test_exact_cycles(name: str) -> None:
    config = STORES[name]
    rng = random.Random(1)
    loads = [random_load(rng, config, slot) for slot in range(config.jobs_in_flight)]
    reads = all_reads(rng, config, config.jobs_in_flight)
    run = play({name: loads}, {name: reads})
    # The first beat is offered in cycle 1; the load ends with its last beat; a read takes a cycle.
    loaded = 1 + config.jobs_in_flight * config.rows * config.head_dim // 8
    assert run.first_output_cycle == {f"{name}__result": loaded + 1}
    assert run.cycles == loaded + 1 + len(reads)
