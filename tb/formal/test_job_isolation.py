"""JobGate and CommandUnit together: a sequence outlives its jobs.

Two job slots and four sequences; the walker, the pool and the table answer anything, and every
read of the layer map gives anything. So the claims hold whatever the memory holds.
"""

from __future__ import annotations

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

KEPT = "no page of a sequence is released while a job of it may access pages"
ALIVE = "a job that may access pages has a sequence that lives"
REFUSED = "a FREE is not answered OK when a job of the sequence was in flight all the time"
RIGHTS = "a job has no rights before it came and after its completion"
ORDER = "no more jobs are in the core than there are slots"


class GateAndCommands(wiring.Component):
    """The two units, connected as in `KvMmu`."""

    def __init__(self, gate: JobGate, commands: CommandUnit) -> None:
        self.gate, self.commands = gate, commands
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
        for name in ("job", "core_completion", "walked"):
            connect(m, flipped(getattr(self, name)), getattr(gate, name))
        for name in ("core_job", "completion", "walk"):
            connect(m, getattr(gate, name), flipped(getattr(self, name)))
        for inner, outer in zip(gate.slots, self.slots, strict=True):
            m.d.comb += outer.eq(inner)
        for name in ("command", "pooled", "entry_read"):
            connect(m, flipped(getattr(self, name)), getattr(commands, name))
        for name in ("reply", "pool", "check", "entry"):
            connect(m, getattr(commands, name), flipped(getattr(self, name)))
        return m


def isolating(gate: Any = JobGate, commands: Any = CommandUnit) -> Bench:
    """Say what the two units promise together."""
    bench = Bench(GateAndCommands(gate(CONFIG), commands(CONFIG)))
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
    in_flight = [(number == 2) | ((number == 1) & (oldest == i)) for i in range(2)]

    rights = [Cat(component.slots[i].pages[r].any() for r in Region).any() for i in range(2)]
    sequences = [component.slots[i].sequence for i in range(2)]
    releases = pool.valid & (pool.payload.operation == PoolOperation.RELEASE)
    its = [rights[i] & (sequences[i] == pool.payload.place.sequence) for i in range(2)]
    bench.check(KEPT, ~releases | ~Cat(its).any())
    alive = [~rights[i] | component.live.bit_select(sequences[i], 1) for i in range(2)]
    bench.check(ALIVE, Cat(alive).all())
    bench.check(
        RIGHTS,
        Cat(~rights[i] | (in_flight[i] & (jobs[i] == sequences[i])) for i in range(2)).all(),
    )

    # A FREE, and whether some job of its sequence has been there since it was taken.
    asked = Signal(COMMAND)
    covered = Signal(2)
    with m.If(command.valid & command.ready):
        m.d.sync += asked.eq(command.payload)
        for i in range(2):
            here = in_flight[i] & (jobs[i] == command.payload.sequence)
            m.d.sync += covered[i].eq(here & ~(gone & (oldest == i)))
    with m.Else():
        for i in range(2):
            with m.If(gone & (oldest == i)):
                m.d.sync += covered[i].eq(0)
    frees = reply.valid & (asked.opcode == Opcode.FREE) & (reply.payload.status == CommandStatus.OK)
    bench.check(REFUSED, ~frees | ~covered.any())
    return bench


CLAIMS = (ORDER, KEPT, ALIVE, RIGHTS, REFUSED)


def test_a_sequence_outlives_its_jobs() -> None:
    """For all time, by property directed reachability."""
    prove(isolating(), seconds=300, free_memories=True)


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
        "with m.If(known & legal)",
        "with m.If(legal)",
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


@pytest.mark.parametrize("fault", FAULTS)
def test_faulty_units_are_refuted(fault: str) -> None:
    """A counterexample of at most 40 cycles, by bounded model checking."""
    claim, unit, old, new = FAULTS[fault]
    faulty = mutant(unit, old, new)
    if unit is JobRights:
        faulty = type("FaultyGate", (JobGate,), {"rights": faulty})
    bench = isolating(**{"commands" if unit is CommandUnit else "gate": faulty})
    refute(bench, claim, cycles=40, free_memories=True)
