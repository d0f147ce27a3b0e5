"""JobGate and CommandUnit together: a sequence outlives its jobs.

Two job slots and four sequences; the walker, the pool and the table answer anything, and every
read of the layer map gives anything. So the claims hold whatever the memory holds. A core that
writes has a slot area as well, and prompts.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from amaranth.hdl import Array, Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import Out, connect, flipped

from hw.memory.kv_mmu.command_unit import CommandUnit
from hw.memory.kv_mmu.config import MmuConfig
from hw.memory.kv_mmu.formats import CommandStatus, Opcode, Region
from hw.memory.kv_mmu.job_gate import JobGate
from hw.memory.kv_mmu.job_rights import JobRights
from hw.memory.kv_mmu.page_pool import PoolOperation
from hw.memory.kv_mmu.ports import COMMAND
from tb.formal.bench import Bench
from tb.formal.mutant import mutant
from tb.formal.prove import prove, refute
from tb.formal.small import SmallConfig

CONFIG = MmuConfig(
    attention=SmallConfig(
        layers=2, kv_heads=1, head_dim=32, group=16, rows=1, max_context=64, jobs_in_flight=2
    ),
    sequences=4,
    pages=4,
    page_bytes=1024,
)
#: Of a core that writes: caches of constant size have places, prompts a job slot.
WRITING = replace(CONFIG, attention=replace(CONFIG.attention, slots=16), writes=True)

KEPT = "no page of a sequence is released while a job of it may access pages"
ALIVE = "a job that may access pages has a sequence that lives"
REFUSED = "a FREE is not answered OK when a job of the sequence was in flight all the time"
RIGHTS = "a job has no rights before it came and after its completion"
ORDER = "no more jobs are in the core than there are slots"


_STREAMS_IN = ("job", "core_completion", "walked")
_STREAMS_OUT = ("core_job", "completion", "walk")


class GateAndCommands(wiring.Component):
    """The two units, connected as in `KvMmu`."""

    def __init__(self, gate: JobGate, commands: CommandUnit, config: MmuConfig) -> None:
        self.gate, self.commands = gate, commands
        self._streams_in, self._streams_out = list(_STREAMS_IN), list(_STREAMS_OUT)
        if config.writes:
            self._streams_in += ["prompt", "core_imported", "grown"]
            self._streams_out += ["core_prompt", "imported", "grow"]
        sides: dict[str, Any] = {}
        for unit in (gate, commands):
            for name, member in unit.signature.members.items():
                if name not in ("live", "in_flight", "layer_change"):
                    sides[name] = member
        super().__init__(sides | {"live": Out(CONFIG.sequences)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.gate, m.submodules.commands = gate, commands = self.gate, self.commands
        m.d.comb += [
            gate.live.eq(commands.live),
            commands.in_flight.eq(gate.in_flight),
            gate.layer_change.eq(commands.layer_change),
            self.live.eq(commands.live),
            commands.match.eq(self.match),
        ]
        for name in self._streams_in:
            connect(m, flipped(getattr(self, name)), getattr(gate, name))
        for name in self._streams_out:
            connect(m, getattr(gate, name), flipped(getattr(self, name)))
        for inner, outer in zip(gate.slots, self.slots, strict=True):
            m.d.comb += outer.eq(inner)
        for name in ("command", "pooled", "entry_read"):
            connect(m, flipped(getattr(self, name)), getattr(commands, name))
        for name in ("reply", "pool", "check", "entry"):
            connect(m, getattr(commands, name), flipped(getattr(self, name)))
        return m


def isolating(
    gate: Any = JobGate, commands: Any = CommandUnit, config: MmuConfig = CONFIG
) -> Bench:
    """Say what the two units promise together."""
    bench = Bench(GateAndCommands(gate(config), commands(config), config))
    m = bench.module
    names = ("job", "core_job", "core_completion", "completion", "command", "reply", "pool")
    job, core_job, ended, completion, command, reply, pool = (bench.stream(n) for n in names)
    component: Any = bench.component
    bench.assume_stream_rule("job", "command")

    # The core: one completion per job, in order.
    in_core = Signal(range(4))
    sent, done = core_job.valid & core_job.ready, ended.valid & ended.ready
    m.d.sync += in_core.eq(in_core + sent - done)
    bench.tie("core_completion__valid", bench.free("ends") & (in_core != 0))
    bench.check(ORDER, in_core <= 2)

    # Jobs between descriptor and completion, as the system sees them.
    number = Signal(range(4))
    oldest, newest = Signal(1), Signal(1)
    jobs = Array(Signal(8, name=f"job_{i}") for i in range(2))
    come = job.valid & job.ready
    gone = completion.valid & completion.ready
    m.d.sync += [number.eq(number + come - gone), newest.eq(newest + come)]
    m.d.sync += oldest.eq(oldest + gone)
    with m.If(come):
        m.d.sync += jobs[newest].eq(job.payload.sequence)
    in_flight: list[Any] = [(number == 2) | ((number == 1) & (oldest == i)) for i in range(2)]
    named: list[Any] = [jobs[i] for i in range(2)]
    ends: list[Any] = [gone & (oldest == i) for i in range(2)]
    if config.writes:
        there, whose, over = following_prompts(bench)
        in_flight, named, ends = [*in_flight, there], [*named, whose], [*ends, over]
    slots = range(config.slots)

    rights = [Cat(component.slots[i].pages[r].any() for r in Region).any() for i in slots]
    sequences = [component.slots[i].sequence for i in slots]
    releases = pool.valid & (pool.payload.operation == PoolOperation.RELEASE)
    its = [rights[i] & (sequences[i] == pool.payload.place.sequence) for i in slots]
    bench.check(KEPT, ~releases | ~Cat(its).any())
    alive = [~rights[i] | component.live.bit_select(sequences[i], 1) for i in slots]
    bench.check(ALIVE, Cat(alive).all())
    bench.check(
        RIGHTS,
        Cat(~rights[i] | (in_flight[i] & (named[i] == sequences[i])) for i in slots).all(),
    )

    # A FREE, and whether some job of its sequence has been there since it was taken.
    asked = Signal(COMMAND)
    covered = Signal(config.slots)
    with m.If(command.valid & command.ready):
        m.d.sync += asked.eq(command.payload)
        for i in slots:
            here = in_flight[i] & (named[i] == command.payload.sequence)
            m.d.sync += covered[i].eq(here & ~ends[i])
    with m.Else():
        for i in slots:
            with m.If(ends[i]):
                m.d.sync += covered[i].eq(0)
    frees = reply.valid & (asked.opcode == Opcode.FREE) & (reply.payload.status == CommandStatus.OK)
    bench.check(REFUSED, ~frees | ~covered.any())
    return bench


def following_prompts(bench: Bench) -> tuple[Signal, Signal, Signal]:
    """Follow the prompts: whether one is in flight, of which sequence, and whether it ends."""
    m = bench.module
    names = ("prompt", "core_prompt", "imported")
    prompt, core_prompt, imported = (bench.stream(name) for name in names)
    bench.assume_stream_rule("prompt")
    in_core, there, whose, over = Signal(), Signal(), Signal(8), Signal()
    bench.tie("core_imported__valid", bench.free("prompt_ends") & in_core)
    m.d.comb += over.eq(imported.valid & imported.ready)
    with m.If(over):
        m.d.sync += [there.eq(0), in_core.eq(0)]
    with m.If(core_prompt.valid & core_prompt.ready):
        m.d.sync += in_core.eq(1)
    with m.If(prompt.valid & prompt.ready):
        m.d.sync += [there.eq(1), whose.eq(prompt.payload.sequence)]
    return there, whose, over


CLAIMS = (ORDER, KEPT, ALIVE, RIGHTS, REFUSED)


@pytest.mark.parametrize(
    "config", [CONFIG, pytest.param(WRITING, marks=pytest.mark.slow)], ids=["reads", "writes"]
)
def test_a_sequence_outlives_its_jobs(config: MmuConfig) -> None:
    """For all time, by property directed reachability."""
    prove(isolating(config=config), seconds=300, free_memories=True)


#: What goes wrong, the claim that shows it, and the fault as a change of the source of a unit.
FAULTS = {
    "FREE does not look at jobs": (
        KEPT,
        CommandUnit,
        "self.in_flight.bit_select(place.sequence, 1)",
        "0",
    ),
    "a sequence ends beside its jobs": (
        ALIVE,
        CommandUnit,
        "self.in_flight.bit_select(place.sequence, 1)",
        "0",
    ),
    "a job counts when it is in the core": (
        KEPT,
        JobRights,
        "uses = Cat(taken[i] & (sequence[i] == number) for i in range(slots))",
        "uses = Cat(limits[i][2].any() & (sequence[i] == number) for i in range(slots))",
    ),
    "rights outlive their job": (RIGHTS, JobRights, "limits[i][r].eq(0)", "limits[i][r].eq(1)"),
    "a sequence that does not live": (
        ALIVE,
        JobGate,
        "with m.If(arrival.known & arrival.legal)",
        "with m.If(arrival.legal)",
    ),
    "more jobs than slots": (
        ORDER,
        JobRights,
        "self.room.eq(~taken.bit_select(newest, 1))",
        "self.room.eq(1)",
    ),
    "a busy sequence is answered OK": (
        REFUSED,
        CommandUnit,
        "answer(CommandStatus.BUSY)",
        "answer(CommandStatus.OK)",
    ),
}


@pytest.mark.slow
def test_a_place_without_a_living_sequence_is_refuted() -> None:
    """The same where a job gets its place at once."""
    faulty = mutant(JobGate, "with m.If(arrival.known & arrival.legal)", "with m.If(arrival.legal)")
    bench = isolating(faulty, config=WRITING)
    component: Any = bench.component
    # Not by a job with pages.
    bench.assume(Cat(~slot.pages[Region.BASE].any() for slot in component.slots).all())
    bench.assume(~bench.stream("walk").valid)
    refute(bench, ALIVE, cycles=40, free_memories=True)


@pytest.mark.parametrize("fault", FAULTS)
def test_faulty_units_are_refuted(fault: str) -> None:
    """A counterexample of at most 40 cycles, by bounded model checking."""
    claim, unit, old, new = FAULTS[fault]
    faulty = mutant(unit, old, new)
    if unit is JobRights:
        faulty = type("FaultyGate", (JobGate,), {"rights": faulty})
    bench = isolating(**{"commands" if unit is CommandUnit else "gate": faulty})
    refute(bench, claim, cycles=40, free_memories=True)
