"""Job intake: every status, at every boundary, and what an accepted job looks like."""

import random
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from typing import Any

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from golden.memory_image.job import JobDescriptor
from golden.twin.sequence import PlannedJob
from hw.config import BURST_BYTES, AttentionConfig, preset
from hw.cores.job_intake import JobIntake, ticket_layout
from hw.cores.payloads import job_layout, planned_job, slot_bits
from hw.formats import FP16_BITS, KVFormat, Mode, Status
from tb.harness import Hang, pack, simulate, unpack
from tb.harness.slow import slow_among

CONFIGS = {
    "tiny": preset("tiny"),
    "lm": preset("lm"),
    "chunk4": replace(preset("tiny"), rows=8, head_dim=96, chunk=4),
    "chunk16": replace(preset("tiny"), chunk=16, budget=48),
    # Addresses and layers up to the ends of their fields.
    "widest": replace(
        preset("tiny"), rows=1, layers=256, kv_heads=256, jobs_in_flight=2, memory_bytes=1 << 32
    ),
}


class IntakeBench(wiring.Component):
    """The intake with ``retired`` as a stream: an item frees a slot once one is taken."""

    def __init__(self, config: AttentionConfig) -> None:
        self._intake = JobIntake(config)
        self._slots = config.jobs_in_flight
        members = dict(self._intake.signature.members)
        del members["retired"]
        super().__init__({**members, "retire": In(stream.Signature(1)), "most": Out(4)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.intake = intake = self._intake
        for name in ("job", "load", "planned", "ticket"):
            inner, outer = getattr(intake, name), wiring.flipped(getattr(self, name))
            wiring.connect(m, *((outer, inner) if name == "job" else (inner, outer)))
        # Only a job whose ticket is out can end.
        ended = Signal(4)
        held = Signal(4)
        ticketed = self.ticket.valid & self.ticket.ready
        m.d.comb += [
            self.query_scale.eq(intake.query_scale),
            self.value_scale.eq(intake.value_scale),
            self.ticket_mode.eq(intake.ticket_mode),
            self.retire.ready.eq(ended != 0),
            intake.retired.eq(self.retire.valid & self.retire.ready),
        ]
        m.d.sync += [
            ended.eq(ended + ticketed - intake.retired),
            held.eq(held + (self.job.valid & self.job.ready) - intake.retired),
        ]
        with m.If(held > self.most):
            m.d.sync += self.most.eq(held)
        return m


@cache
def device(name: str) -> IntakeBench:
    """One component per configuration, so that all runs share its elaboration and build."""
    return IntakeBench(CONFIGS[name])


def is_finite(scale: int) -> bool:
    """Whether an FP16 pattern is neither an infinity nor a NaN."""
    return scale >> 10 & 31 != 31


def status_of(job: JobDescriptor, config: AttentionConfig) -> Status:
    """The status that the contract gives a descriptor: the lowest code that applies."""
    if job.config_hash != config.config_hash:
        return Status.CONFIG_MISMATCH
    if job.mode not in list(Mode):
        return Status.MODE_RANGE
    if not 1 <= job.context <= config.max_context:
        return Status.CONTEXT_RANGE
    if job.layer >= config.layers:
        return Status.LAYER_RANGE
    if job.kv_head >= config.kv_heads:
        return Status.HEAD_RANGE
    sizes = KVFormat(config).region_bytes(job.context, Mode(job.mode))
    for region, size in sizes.items():
        address = getattr(job, f"{region}_address")
        if size and (address % BURST_BYTES or address + size > config.memory_bytes):
            return Status.ADDRESS_RANGE
    used = (*job.query_scale, *((job.value_scale,) if job.mode != Mode.KVO else ()))
    return Status.OK if all(map(is_finite, used)) else Status.SCALE_NOT_FINITE


def good(config: AttentionConfig, job_id: int = 0, **fields: Any) -> JobDescriptor:
    """A job without a fault, or with those in ``fields``."""
    facts: dict[str, Any] = {
        "job_id": job_id,
        "config_hash": config.config_hash,
        "layer": config.layers - 1,
        "kv_head": config.kv_heads - 1,
        "mode": Mode.KVO,
        "context": config.max_context,
        "base_address": 0,
        "chunk_address": BURST_BYTES,
        "tail_address": 2 * BURST_BYTES,
        "value_scale": 0x3800 + job_id % 256,
        "query_scale": tuple(0x3C00 + row for row in range(config.rows)),
    }
    return JobDescriptor(**{**facts, **fields})


def boundary_jobs(config: AttentionConfig) -> list[tuple[JobDescriptor, Status]]:
    """Both sides of every limit, with the status that is expected of each."""
    w, memory = config.window, config.memory_bytes
    ok = Status.OK
    jobs: list[tuple[JobDescriptor, Status]] = []

    def add(status: Status, **fields: Any) -> None:
        jobs.append((good(config, len(jobs), **fields), status))

    add(Status.CONFIG_MISMATCH, config_hash=config.config_hash ^ 1)
    add(Status.CONFIG_MISMATCH, config_hash=config.config_hash ^ 1 << 31)
    # All bits of the mode count, not just those that tell the legal ones apart.
    for number in (3, 4, 5, 6, 128, 129, 130, 255):
        add(Status.MODE_RANGE, mode=number)
    for mode in Mode:
        for context in (1, 7, 8, 9, w, 2 * w - 1, 2 * w, 2 * w + 1, 3 * w, 3 * w + 1):
            add(ok, mode=mode, context=context)
        add(ok, mode=mode, context=config.max_context - 1)
        add(ok, mode=mode, context=config.max_context)
        for context in (0, config.max_context + 1, (1 << 16) - 1):
            add(Status.CONTEXT_RANGE, mode=mode, context=context)
    for field, limit, status in (
        ("layer", config.layers, Status.LAYER_RANGE),
        ("kv_head", config.kv_heads, Status.HEAD_RANGE),
    ):
        add(ok, **{field: 0})
        for number in {limit, 255} if limit < 256 else ():
            add(status, **{field: number})
    contexts = (1, 2 * w, 2 * w + 1, config.max_context)
    for mode, context in product(Mode, contexts):
        for region, size in KVFormat(config).region_bytes(context, mode).items():
            where = {"mode": mode, "context": context}
            field = f"{region}_address"
            last = memory - size
            # A region without content is not checked, wherever it is said to be.
            bad = Status.ADDRESS_RANGE if size else ok
            if size:
                add(ok, **where, **{field: last})
            for address in (last + BURST_BYTES, last + 1, last - 1, 1, 16, (1 << 32) - 1, 1 << 31):
                inside = size and address % BURST_BYTES == 0 and address + size <= memory
                if address < 1 << 32:
                    add(ok if inside else bad, **where, **{field: address})
    for mode, bits in product(Mode, (0x7C00, 0xFC00, 0x7E00, 0x7FFF)):
        for row in range(config.rows):
            scales = tuple(bits if row == other else 0x7BFF for other in range(config.rows))
            add(Status.SCALE_NOT_FINITE, mode=mode, query_scale=scales)
        # The compressed cache brings its own scales, and this one is not looked at.
        unused = mode == Mode.KVO
        add(ok if unused else Status.SCALE_NOT_FINITE, mode=mode, value_scale=bits)
        add(ok, mode=mode, value_scale=0x7BFF | bits & 1 << 15)
    # Everything wrong at once, then less and less of it.
    wrong: dict[Status, dict[str, Any]] = {
        Status.CONFIG_MISMATCH: {"config_hash": 0},
        Status.MODE_RANGE: {"mode": 255},
        Status.CONTEXT_RANGE: {"context": 0},
        Status.LAYER_RANGE: {"layer": 255},
        Status.HEAD_RANGE: {"kv_head": 255},
        Status.ADDRESS_RANGE: {"tail_address": 1},
        Status.SCALE_NOT_FINITE: {"query_scale": (0x7C00,) * config.rows, "value_scale": 0x7C00},
    }
    assert list(wrong) == sorted(wrong)
    if config.layers == 256:
        del wrong[Status.LAYER_RANGE], wrong[Status.HEAD_RANGE]
    for mode in Mode:
        for status in wrong:
            fields: dict[str, Any] = {"mode": mode}
            for other, change in wrong.items():
                fields |= change if other >= status else {}
            add(status, **fields)
    return jobs


@dataclass
class Expected:
    """What follows from descriptors."""

    ticket: list[dict[str, Any]]
    planned: list[dict[str, Any]]
    load: list[int]
    query_scale: dict[int, tuple[int, ...]]
    value_scale: dict[int, int]


def expected(jobs: list[JobDescriptor], config: AttentionConfig) -> Expected:
    """Slots are given in turn; a refused job takes one and loads its queries, but has no plan."""
    found = Expected([], [], [], {}, {})
    for index, job in enumerate(jobs):
        status, slot = status_of(job, config), index % config.jobs_in_flight
        found.load.append(slot)
        found.query_scale[slot] = job.query_scale
        found.value_scale[slot] = job.value_scale
        found.ticket.append({"job_id": job.job_id, "slot": slot, "status": status})
        if status in (Status.OK, Status.SCALE_NOT_FINITE):
            addresses = (job.base_address, job.chunk_address, job.tail_address)
            mode = Mode(job.mode)
            plan = PlannedJob.at(job.context, config, slot=slot, addresses=addresses, mode=mode)
            found.planned.append(vars(plan))
    return found


def check(name: str, jobs: list[JobDescriptor], **options: Any) -> Any:
    """Run the jobs and compare every item and the scales at the end; the run comes back."""
    config = CONFIGS[name]
    wanted = expected(jobs, config)
    run = simulate(
        device(name),
        name=f"job_intake_{name}",
        inputs={"job": [job.pack(config) for job in jobs], "retire": [0] * len(jobs)},
        outputs={
            "load": len(jobs),
            "planned": len(wanted.planned),
            "ticket": len(jobs),
        },
        observe=["query_scale", "value_scale", "most"],
        **options,
    )
    assert [unpack(ticket_layout(config), x) for x in run.outputs["ticket"]] == wanted.ticket
    assert [unpack(planned_job(config), x) for x in run.outputs["planned"]] == wanted.planned
    assert run.outputs["load"] == wanted.load
    row_bits = FP16_BITS * config.rows
    for slot, scales in wanted.query_scale.items():
        found = run.observed["query_scale"] >> slot * row_bits
        for row, scale in enumerate(scales):
            assert found >> row * FP16_BITS & 0xFFFF == scale
    for slot, scale in wanted.value_scale.items():
        assert run.observed["value_scale"] >> slot * FP16_BITS & 0xFFFF == scale
    assert run.observed["most"] <= config.jobs_in_flight
    return run


def random_jobs(config: AttentionConfig, seed: int, count: int) -> list[JobDescriptor]:
    """Jobs of which about half have some fault."""
    print(f"job intake jobs of seed {seed}")
    generator = random.Random(seed)
    pool = [job for job, _ in boundary_jobs(config)]
    return [replace(generator.choice(pool), job_id=generator.getrandbits(16)) for _ in range(count)]


@pytest.mark.parametrize("name", CONFIGS)
def test_derived_widths(name: str) -> None:
    config = CONFIGS[name]
    ports = dict(JobIntake(config).signature.members)
    assert ports.pop("query_scale").shape.size == 16 * config.rows * config.jobs_in_flight
    assert ports.pop("value_scale").shape.size == 16 * config.jobs_in_flight
    assert ports.pop("retired").shape == 1
    widths = {port: len(ports[port].signature.create().payload) for port in ("load",)}
    widths |= {
        port: ports[port].signature.members["payload"].shape.size
        for port in ("job", "planned", "ticket")
    }
    slot = slot_bits(config)
    chunks, tail = config.max_chunks.bit_length(), config.max_context.bit_length()
    assert widths == {
        "load": slot,
        "job": 16 + 32 + 8 + 8 + 8 + 16 + 3 * 32 + 16 + 16 * config.rows,
        "planned": slot + chunks + tail + 3 * 32 + 2,
        "ticket": 16 + slot + 4,
    }
    assert job_layout(config).size == widths["job"]


@pytest.mark.parametrize("name", slow_among(CONFIGS, ("lm", "chunk4")))
def test_every_boundary(name: str) -> None:
    config = CONFIGS[name]
    jobs = boundary_jobs(config)
    for job, status in jobs:
        assert status_of(job, config) is status
    run = check(name, [job for job, _ in jobs])
    seen = {Status(x["status"]) for x in expected([j for j, _ in jobs], config).ticket}
    unseen = {Status.MEMORY_ERROR}
    if config.layers == 256:
        unseen |= {Status.LAYER_RANGE, Status.HEAD_RANGE}
    assert seen == {status for status in Status if not status.of_the_mmu} - unseen
    assert run.observed["most"] >= 1


@pytest.mark.parametrize(
    "stall", [0.5, {"retire": 0.98}, {"load": 0.9, "planned": 0.9, "ticket": 0.9}], ids=str
)
def test_stalls(stall: Any) -> None:
    run = check("tiny", random_jobs(CONFIGS["tiny"], 2, 40), stall=stall, seed=21)
    if stall == {"retire": 0.98}:
        assert run.observed["most"] == CONFIGS["tiny"].jobs_in_flight


@pytest.mark.parametrize("cycle", [2, 4, 5, 33])
def test_reset_in_flight(cycle: int) -> None:
    """States of the first job, and one among many; the slots start again from 0."""
    check("tiny", random_jobs(CONFIGS["tiny"], 3, 12), seed=cycle, reset_at=cycle)


@pytest.mark.parametrize("name", ["tiny", "widest"])
def test_takes_no_more_jobs_than_slots(name: str) -> None:
    config = CONFIGS[name]
    slots = config.jobs_in_flight
    with pytest.raises(Hang, match=rf"input 'job' took {slots} of {slots + 1} items"):
        simulate(
            device(name),
            name=f"job_intake_{name}",
            inputs={"job": [good(config).pack(config)] * (slots + 1), "retire": []},
            outputs={"load": slots, "planned": slots, "ticket": slots},
            max_cycles=200,
        )


def test_pace() -> None:
    """An accepted job takes 5 cycles when its queries are there at once, a refused one 4."""
    config = CONFIGS["tiny"]
    run = check("tiny", [good(config)] * 6)
    # Taken in cycle 1; query slot in 3, ticket in 4, plan in 5.
    assert run.first_output_cycle == {"load": 3, "ticket": 4, "planned": 5}
    assert run.cycles == 5 * 6 + 1
    run = check("tiny", [good(config, layer=255)] * 6)
    assert run.cycles == 4 * 6 + 2


def test_dense_jobs_by_hand() -> None:
    """Tiny at 33 tokens: five blocks of 512 B with 8-bit codes, of 1024 B with 16-bit codes."""
    config = CONFIGS["tiny"]
    memory = config.memory_bytes
    nowhere = {"base_address": 1, "chunk_address": (1 << 32) - 1, "context": 33}
    sizes = {Mode.DENSE8: 5 * 512, Mode.DENSE16: 5 * 1024}
    jobs = [
        good(config, mode=mode, tail_address=memory - size + offset, **nowhere)
        for mode, size in sizes.items()
        for offset in (0, BURST_BYTES)
    ]
    # The same addresses, looked at in the mode that has regions there.
    jobs.append(replace(jobs[0], mode=Mode.KVO))
    run = check("tiny", jobs)
    tickets = [unpack(ticket_layout(config), x)["status"] for x in run.outputs["ticket"]]
    wrong = Status.ADDRESS_RANGE
    assert tickets == [Status.OK, wrong, Status.OK, wrong, wrong]
    plans = [unpack(planned_job(config), x) for x in run.outputs["planned"]]
    assert [(x["mode"], x["slot"]) for x in plans] == [(Mode.DENSE8, 0), (Mode.DENSE16, 2)]
    assert {(x["chunks"], x["tail"]) for x in plans} == {(0, 33)}


def test_descriptor_fields_lie_as_the_contract_says() -> None:
    config = CONFIGS["tiny"]
    changes = {"mode": 0x80, "value_scale": 0x3333, "query_scale": (0x1111, 0x2222)}
    job = good(config, 0xABCD, base_address=0x12345678, **changes)
    fields = unpack(job_layout(config), job.pack(config))
    assert fields["job_id"] == 0xABCD
    assert fields["mode"] == 0x80
    assert fields["value_scale"] == 0x3333
    assert fields["base_address"] == 0x12345678
    assert fields["query_scale"] == 0x22221111
    assert pack(job_layout(config), fields) == job.pack(config)
