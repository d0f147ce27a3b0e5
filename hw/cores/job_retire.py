"""Jobs end: outputs are counted, faults collected, completions sent in descriptor order."""

from amaranth.hdl import Array, Module, Signal, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import AttentionConfig
from hw.constants import MAXIMUM_BITS
from hw.cores.job_intake import ticket_layout
from hw.cores.lanes import LANES
from hw.cores.payloads import slot_bits
from hw.cores.softmax import statistics_layout
from hw.counters import Counter
from hw.formats import Status
from hw.streams import StreamRegister


def completion_layout(config: AttentionConfig) -> data.StructLayout:
    """How a job ended, and the softmax statistics of its rows (zero for a refused job)."""
    return data.StructLayout(
        {
            "job_id": 16,
            "status": Status,
            "maximum": data.ArrayLayout(signed(MAXIMUM_BITS), config.rows),
            "sum": data.ArrayLayout(unsigned(config.sum_bits), config.rows),
        }
    )


class JobRetire(wiring.Component):
    """One completion per job, 2 cycles after its last output beat; at most one a cycle.

    A refused job's completion comes 1 cycle after its ticket, and so does that of a job whose
    ticket or statistics come last. Outputs of later jobs are counted while a completion waits.

    Parameters
    ----------
    config : AttentionConfig

    Members
    -------
    ticket : stream of ``ticket_layout``
    statistics : stream of ``statistics_layout``, one per accepted job
    output_sent : in, an output beat was transferred
    memory_error, memory_error_slot, scale_error, scale_error_slot : in
    completion : stream of ``completion_layout``
    retired : out, for one cycle: the oldest slot is free again
    """

    def __init__(self, config: AttentionConfig) -> None:
        self._config = config
        self.completed = Counter("jobs_completed", "jobs completed with status OK", unit="jobs")
        self.failed = Counter(
            "jobs_failed", "jobs that ran but met a memory error or a bad scale", unit="jobs"
        )
        self.counters = [self.completed, self.failed]
        slot = slot_bits(config)
        super().__init__(
            {
                "ticket": In(stream.Signature(ticket_layout(config))),
                "statistics": In(stream.Signature(statistics_layout(config))),
                "output_sent": In(1),
                "memory_error": In(1),
                "memory_error_slot": In(slot),
                "scale_error": In(1),
                "scale_error_slot": In(slot),
                "completion": Out(stream.Signature(completion_layout(config))),
                "retired": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        beats = config.rows * config.head_dim // LANES
        ticket = self.ticket.payload
        # The register keeps a completion as it is while it waits, whatever faults come meanwhile.
        m.submodules.register = register = StreamRegister(completion_layout(config))
        wiring.connect(m, register.output, wiring.flipped(self.completion))
        completion = register.input.payload

        # Outputs come job after job, so one count serves all that wait for their completion.
        sent = Signal(range(config.jobs_in_flight * beats + 1))
        finish = Signal()
        with m.If(finish):
            m.d.sync += sent.eq(sent - beats + self.output_sent)
        with m.Else():
            m.d.sync += sent.eq(sent + self.output_sent)

        scale_errors = Signal(config.jobs_in_flight)
        memory_errors = Signal(config.jobs_in_flight)
        for slot in range(config.jobs_in_flight):
            with m.If(self.retired & (ticket.slot == slot)):
                m.d.sync += [scale_errors[slot].eq(0), memory_errors[slot].eq(0)]
            with m.If(self.scale_error & (self.scale_error_slot == slot)):
                m.d.sync += scale_errors[slot].eq(1)
            with m.If(self.memory_error & (self.memory_error_slot == slot)):
                m.d.sync += memory_errors[slot].eq(1)

        refused = (ticket.status != Status.OK) & (ticket.status != Status.SCALE_NOT_FINITE)
        done = (sent >= beats) & self.statistics.valid
        m.d.comb += [
            register.input.valid.eq(self.ticket.valid & (refused | done)),
            completion.job_id.eq(ticket.job_id),
            completion.status.eq(ticket.status),
            self.retired.eq(register.input.valid & register.input.ready),
            self.ticket.ready.eq(self.retired),
            finish.eq(self.retired & ~refused),
            self.statistics.ready.eq(finish),
        ]
        with m.If(~refused):
            m.d.comb += [
                completion.maximum.eq(self.statistics.payload.maximum),
                completion.sum.eq(self.statistics.payload.sum),
            ]
            # Data that came with an error say nothing, so they cannot blame a scale.
            with m.If(Array(list(memory_errors))[ticket.slot]):
                m.d.comb += completion.status.eq(Status.MEMORY_ERROR)
            with m.Elif(Array(list(scale_errors))[ticket.slot]):
                m.d.comb += completion.status.eq(Status.SCALE_NOT_FINITE)
        succeeded = completion.status == Status.OK
        m.d.comb += [
            self.completed.event.eq(finish & succeeded),
            self.failed.event.eq(finish & ~succeeded),
        ]
        return m
