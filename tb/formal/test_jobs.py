"""JobIntake and JobRetire: every job passes once, in order, with its own slot.

The descriptor holds free bits where a check or an identity needs them and is legal otherwise. The
claims hold under any back-pressure and any reset.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from amaranth.hdl import Mux, Signal

from hw.config import preset
from hw.cores.job_intake import JobIntake
from hw.cores.job_retire import JobRetire
from hw.cores.lanes import LANES
from hw.formats import Status
from tb.formal.bench import Bench
from tb.formal.mutant import mutant
from tb.formal.prove import prove, refute

CONFIG = replace(preset("tiny"), name="small", rows=1, budget=24, max_context=64, jobs_in_flight=2)
JOBS = CONFIG.jobs_in_flight
BEATS = CONFIG.rows * CONFIG.head_dim // LANES

IN_TURN = "a job is loaded, then ticketed, then planned if it is not refused, each once"
ROOM = "no more jobs are in flight than there are slots"
SLOT = "slots are given out in turn"
OWN = "ticket and plan are those of the job"
REFUSED = "a wrong configuration is refused, and what is legal is not"
TAKEN = "a job is taken when there is room and none is in progress"
FIRST = "a completion comes out when its job is complete, not before"
STATUS = "the status says whether the job met a memory error"

STATISTICS = "statistics leave with their job"


def intake(unit: JobIntake) -> Bench:
    """Say what the intake promises."""
    bench = Bench(unit)
    m = bench.module
    job, load, ticket, planned = (
        bench.stream(name) for name in ("job", "load", "ticket", "planned")
    )
    mark, wrong = bench.free("mark"), bench.free("wrong")
    descriptor = Signal.like(job.payload)
    m.d.comb += [
        descriptor.job_id[0].eq(mark),
        descriptor.config_hash.eq(CONFIG.config_hash ^ wrong),
        descriptor.context.eq(1),
        descriptor.tail_address[5].eq(mark),
    ]
    bench.tie("job__payload", descriptor)
    came, loaded, sent, left = (
        stream.valid & stream.ready for stream in (job, load, ticket, planned)
    )

    # The job in progress, and those that may be retired.
    busy, is_loaded, is_sent = Signal(), Signal(), Signal()
    its_mark, its_wrong = Signal(), Signal()
    slot = Signal(range(JOBS))
    in_flight, waiting = Signal(range(JOBS + 2)), Signal(range(JOBS + 2))
    retired = bench.free("completes") & (waiting != 0)
    bench.tie("retired", retired)
    over = Mux(its_wrong, sent, left)
    m.d.sync += [
        in_flight.eq(in_flight + came - retired),
        waiting.eq(waiting + sent - retired),
        busy.eq((busy & ~over) | came),
        is_loaded.eq((is_loaded | loaded) & ~over),
        is_sent.eq((is_sent | sent) & ~over),
    ]
    with m.If(came):
        m.d.sync += [its_mark.eq(mark), its_wrong.eq(wrong)]
    with m.If(over):
        m.d.sync += slot.eq(slot + 1)

    status = ticket.payload.status
    bench.check(
        IN_TURN,
        (~job.ready | ~busy)
        & (~load.valid | (busy & ~is_loaded))
        & (~ticket.valid | (busy & is_loaded & ~is_sent))
        & (~planned.valid | (busy & is_sent & ~its_wrong)),
    )
    bench.check(ROOM, in_flight <= JOBS)
    bench.check(TAKEN, busy | (in_flight == JOBS) | job.ready)
    bench.check(
        SLOT,
        (~load.valid | (load.payload == slot))
        & (~ticket.valid | (ticket.payload.slot == slot))
        & (~planned.valid | (planned.payload.slot == slot)),
    )
    bench.check(
        OWN,
        (~ticket.valid | (ticket.payload.job_id == its_mark))
        & (~planned.valid | (planned.payload.tail_address[5] == its_mark)),
    )
    expected = Mux(its_wrong, Status.CONFIG_MISMATCH, Status.OK)
    bench.check(REFUSED, ~ticket.valid | (status == expected))
    bench.check_stream_rule("load", "ticket", "planned")
    return bench


def retire(unit: JobRetire) -> Bench:
    """Say what the retiring side promises."""
    bench = Bench(unit)
    m = bench.module
    ticket, statistics, completion = (
        bench.stream(name) for name in ("ticket", "statistics", "completion")
    )
    bench.assume_stream_rule("ticket", "statistics")
    finish = ticket.valid & ticket.ready
    refused = Signal()
    m.d.comb += refused.eq(ticket.payload.status == Status.CONFIG_MISMATCH)
    legal = (ticket.payload.status == Status.OK) | refused
    bench.assume(~ticket.valid | legal)

    # Tickets come with their slot, in turn; outputs are those of the jobs in flight.
    slot = Signal(range(JOBS))
    with m.If(finish):
        m.d.sync += slot.eq(slot + 1)
    bench.assume(~ticket.valid | (ticket.payload.slot == slot))
    sent = Signal(range(JOBS * BEATS + 1))
    beat = bench.free("beat") & (sent != JOBS * BEATS)
    bench.tie("output_sent", beat)
    m.d.sync += sent.eq(sent + beat - Mux(finish & ~refused, BEATS, 0))

    # Faults of the oldest job.
    met = Signal(JOBS)
    fault = unit.memory_error << unit.memory_error_slot
    m.d.sync += met.eq((met & ~(finish << slot)) | fault)

    # The completion in the register.
    full, mark, failed = Signal(), Signal(), Signal()
    with m.If(completion.ready):
        m.d.sync += full.eq(0)
    with m.If(finish):
        m.d.sync += [
            full.eq(1),
            mark.eq(ticket.payload.job_id[0]),
            failed.eq(met.bit_select(slot, 1) & ~refused),
        ]
    complete = refused | ((sent >= BEATS) & statistics.valid)
    room = ~full | completion.ready
    bench.check(FIRST, finish == (ticket.valid & complete & room))
    bench.check(IN_TURN, (completion.valid == full) & (unit.retired == finish))
    bench.check(OWN, ~full | (completion.payload.job_id[0] == mark))
    bench.check(STATUS, ~full | ((completion.payload.status == Status.MEMORY_ERROR) == failed))
    bench.check(STATISTICS, statistics.ready == (finish & ~refused))
    return bench


def test_intake() -> None:
    """For all time, by property directed reachability; 442 flip-flops."""
    prove(intake(JobIntake(CONFIG)))


def test_retire() -> None:
    """For all time, by property directed reachability; 35 flip-flops."""
    prove(retire(JobRetire(CONFIG)))


#: What goes wrong, the claim that shows it, and the fault as a change of the source.
INTAKE_FAULTS = {
    "a refused job is planned": (IN_TURN, "with m.If(refused):", "with m.If(0):"),
    "a job is not loaded": (IN_TURN, 'm.next = "LOAD"', 'm.next = "TICKET"'),
    "one job too many": (ROOM, "in_flight != config.jobs_in_flight", "in_flight != 3"),
    "retired jobs keep their slot": (TAKEN, "advance - self.retired", "advance"),
    "the slot of a refused job is used again": (
        SLOT,
        """                        m.d.sync += slot.eq(slot + 1)
                        m.next = "IDLE"
                    with m.Else""",
        """                        m.next = "IDLE"
                    with m.Else""",
    ),
    "the identity is lost": (OWN, "payload.job_id.eq(job.job_id)", "payload.job_id.eq(0)"),
    "a wrong configuration passes": (REFUSED, "job.config_hash != config", "0 & config"),
    "the load does not wait": (
        "load stays until its transfer",
        "with m.If(self.load.ready):",
        "with m.If(1):",
    ),
}
RETIRE_FAULTS = {
    "a beat early": (FIRST, "sent >= beats", "sent >= beats - 1"),
    "the beats are counted twice": (FIRST, "sent - beats + self.output_sent", "sent"),
    "a completion overwrites another": (
        FIRST,
        "self.retired.eq(register.input.valid & register.input.ready)",
        "self.retired.eq(register.input.valid)",
    ),
    "the identity is lost": (OWN, "completion.job_id.eq(ticket.job_id)", "completion.job_id.eq(0)"),
    "a fault stays for the next job": (STATUS, ", memory_errors[slot].eq(0)", ""),
    "a refused job takes statistics": (
        STATISTICS,
        "self.statistics.ready.eq(finish)",
        "self.statistics.ready.eq(self.retired)",
    ),
}


@pytest.mark.parametrize("fault", INTAKE_FAULTS)
def test_faulty_intake_is_refuted(fault: str) -> None:
    """A counterexample of at most 60 cycles, by bounded model checking."""
    claim, old, new = INTAKE_FAULTS[fault]
    refute(intake(mutant(JobIntake, old, new)(CONFIG)), claim, cycles=60)


@pytest.mark.parametrize("fault", RETIRE_FAULTS)
def test_faulty_retire_is_refuted(fault: str) -> None:
    """A counterexample of at most 60 cycles, by bounded model checking."""
    claim, old, new = RETIRE_FAULTS[fault]
    refute(retire(mutant(JobRetire, old, new)(CONFIG)), claim, cycles=60)
