"""The attention core behind the MMU: pages anywhere in the channel, the same results to the bit."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import replace
from typing import Any

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import connect, flipped
from amaranth.sim import Simulator

from golden.cache_formats import CACHE_FORMATS, run_job
from golden.memory_image import JobDescriptor, MemoryImage, query_beats
from golden.memory_image.pages import PagedImage, pack_system_job
from golden.tensors import random as random_tensors
from golden.workload import case_from_tensors
from hw.config import preset
from hw.cores.attention_core import AttentionCore
from hw.formats import Mode, Status
from hw.memory.kv_mmu.config import MmuConfig
from hw.memory.kv_mmu.kv_mmu import KvMmu
from tb.memory.kv_mmu.memory_model import ReadModel, Request, TableModel
from tb.memory.kv_mmu.pins import Pins

#: The core's addresses are virtual: all of them are legal.
CORE = replace(preset("tiny"), memory_bytes=1 << 32)
CONFIG = MmuConfig(attention=CORE, page_bytes=1024, pages=64, sequences=4)


class CoreBehindMmu(wiring.Component):
    """Core and MMU, connected as in a slice."""

    def __init__(self, config: MmuConfig) -> None:
        self._core = AttentionCore(config.attention)
        self._mmu = KvMmu(config)
        members = self._core.signature.members
        mmu = self._mmu.signature.members
        sides: dict[str, Any] = {name: members[name] for name in ("query", "selection", "output")}
        for name in ("job", "completion", "command", "reply", "memory", "table", "table_write"):
            sides[name] = mmu[name]
        super().__init__(sides)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.core = core = self._core
        m.submodules.mmu = mmu = self._mmu
        for name in ("query", "selection", "output"):
            theirs, ours = getattr(core, name), flipped(getattr(self, name))
            connect(m, theirs, ours)
        for name in ("job", "completion", "command", "reply", "memory", "table", "table_write"):
            connect(m, getattr(mmu, name), flipped(getattr(self, name)))
        connect(m, mmu.core_job, core.job)
        connect(m, core.completion, mmu.core_completion)
        asked, answer = core.memory.request, core.memory.response
        m.d.comb += [
            mmu.core.request.payload.eq(asked.payload),
            mmu.core.request.valid.eq(asked.valid),
            asked.ready.eq(mmu.core.request.ready),
            answer.valid.eq(mmu.core.response.valid),
            mmu.core.response.ready.eq(answer.ready),
        ]
        for name, _ in answer.payload.shape():
            m.d.comb += answer.payload[name].eq(mmu.core.response.payload[name])
        return m


def numbers(payload: int, count: int, bits: int, *, is_signed: bool) -> list[int]:
    """Split a packed payload into numbers."""
    found = [payload >> bits * i & ((1 << bits) - 1) for i in range(count)]
    half = 1 << (bits - 1)
    return [(n ^ half) - half for n in found] if is_signed else found


@pytest.mark.slow
def test_results_are_those_of_the_contiguous_image() -> None:
    rng = random.Random(1)
    image, paged = MemoryImage(CORE), PagedImage(CONFIG)
    jobs, queries, expected = [], [], []
    places = [(0, 0, 0, 96), (2, 3, 1, 75), (0, 1, 0, 16), (2, 3, 0, 51)]
    for sequence in (0, 2):
        paged.create(sequence)
    for number, (sequence, layer, head, context) in enumerate(places):
        tensors = random_tensors(CORE, context, number)
        mode = (Mode.KVO, Mode.KVO, Mode.DENSE8, Mode.KVO)[number]
        case = case_from_tensors("random", tensors, CORE, mode=mode)
        codes, scale, result = run_job(case.query, case.cache, CORE)
        placement = image.place(case.cache)
        paged.place(image, placement, sequence=sequence, layer=layer, kv_head=head)
        job = JobDescriptor.at(
            placement,
            scale,
            CORE,
            job_id=number,
            layer=layer,
            kv_head=head,
            value_scale=CACHE_FORMATS[mode].value_scale(case.cache),
        )
        jobs.append(pack_system_job(job, sequence, CONFIG))
        queries += query_beats(codes)
        expected.append((Status.OK, result.output.flatten().tolist()))
        if number == 1:
            # One without pages in between: refused, its query beats consumed.
            jobs.append(pack_system_job(replace(job, layer=0), sequence, CONFIG))
            queries += query_beats(codes)
            expected.append((Status.PAGE_FAULT, []))
    contents = paged.contents()

    def beat_at(address: int) -> int:
        page = address - (address - CONFIG.first_page) % CONFIG.page_bytes
        start = address - page
        return int.from_bytes(contents[page][start : start + 16], "little")

    pins = Pins(CoreBehindMmu(CONFIG))
    table = TableModel(rng, tag_bits=1)
    reads = {
        "memory": ReadModel(rng, beat_at, 0.1),
        "table": ReadModel(rng, table.contents, 0.1),
    }
    sources = {
        "command": deque(command.pack() for command in paged.commands),
        "job": deque(jobs),
        "query": deque(queries),
    }
    replies: list[int] = []
    outputs: list[int] = []
    completions: list[int] = []

    async def bench(context: Any) -> None:
        for now in range(60_000):
            offers = {name: queue[0] if queue else None for name, queue in sources.items()}
            if len(replies) < len(paged.commands):
                offers["job"] = None
            for name, item in offers.items():
                pins.offer(name, item)
            for name in ("reply", "selection", "output", "completion"):
                pins.set(f"{name}__ready", rng.random() < 0.8)
            for name, model in reads.items():
                pins.set(f"{name}__request__ready", model.ready())
                beat = model.answer(now)
                pins.set(f"{name}__response__valid", beat is not None)
                if beat is not None:
                    pins.set_fields(f"{name}__response__payload", vars(beat))
            pins.set("table_write__request__ready", table.ready())
            pins.set("table_write__data__ready", table.ready())
            pins.offer("table_write__written", table.written(now))
            pins.exchange(context)
            for name, queue in sources.items():
                if pins.moved(name) is not None:
                    queue.popleft()
            for name, sink in (
                ("reply", replies),
                ("output", outputs),
                ("completion", completions),
            ):
                item = pins.moved(name)
                if item is not None:
                    sink.append(item)
            for name in ("memory", "table", "table_write"):
                if pins.moved(f"{name}__request") is not None:
                    fields = pins.get_fields(f"{name}__request__payload")
                    request = Request(
                        fields["address"], fields["bursts_less_one"] + 1, fields["tag"]
                    )
                    if name == "table_write":
                        table.take(request)
                    else:
                        reads[name].take(request, now)
            data = pins.moved("table_write__data")
            if data is not None:
                table.take_beat(data & ((1 << 128) - 1), data >> 128, now)
            await context.tick()
            if len(completions) == len(jobs):
                print(f"{now} cycles")
                return
        raise AssertionError(f"{len(completions)} of {len(jobs)} jobs after {now} cycles")

    simulator = Simulator(pins.top)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert len(replies) == len(paged.replies)
    assert [Status(completion >> 16 & 15) for completion in completions] == [
        status for status, _ in expected
    ]
    got = [n for beat in outputs for n in numbers(beat, 4, 32, is_signed=True)]
    assert got == [n for _, output in expected for n in output]
