"""Descriptors come in, are checked, and get a slot and their queries."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.arithmetic import fp16_is_finite
from hw.config import BURST_BYTES, AttentionConfig
from hw.cores.payloads import job_layout, planned_job, slot_bits
from hw.counters import Counter
from hw.formats import FP16_BITS, KVFormat, Mode, Status

ADDRESS_BITS = 32


def ticket_layout(config: AttentionConfig) -> data.StructLayout:
    """What the retiring side needs to know of a job."""
    return data.StructLayout({"job_id": 16, "slot": slot_bits(config), "status": Status})


class JobIntake(wiring.Component):
    """One job per ``rows * head_dim / 8 + 4`` cycles while slots are free, 1 less if it is refused.

    A refused job (docs/contracts.md, section 3) takes a slot and its query beats like any other,
    but only its ticket goes on.

    Parameters
    ----------
    config : AttentionConfig

    Members
    -------
    job : stream of ``job_layout``
    load : stream of a slot number, taken when the slot's queries are complete
    planned : stream of ``planned_job``
    ticket : stream of ``ticket_layout``, in the order of the descriptors
    ticket_mode : out, with ``ticket``: the mode as the descriptor has it, legal or not
    retired : in, for one cycle: the oldest slot is free again
    query_scale : out, FP16 of every (slot, row)
    value_scale : out, FP16 of every slot, for the dense modes
    """

    def __init__(self, config: AttentionConfig) -> None:
        self._config = config
        self.accepted = Counter("jobs_accepted", "jobs that passed the checks", unit="jobs")
        self.refused = Counter("jobs_refused", "jobs refused with a status", unit="jobs")
        self.counters = [self.accepted, self.refused]
        slot = slot_bits(config)
        jobs = config.jobs_in_flight
        scales = data.ArrayLayout(data.ArrayLayout(FP16_BITS, config.rows), jobs)
        super().__init__(
            {
                "job": In(stream.Signature(job_layout(config))),
                "load": Out(stream.Signature(slot)),
                "planned": Out(stream.Signature(planned_job(config))),
                "ticket": Out(stream.Signature(ticket_layout(config))),
                "ticket_mode": Out(8),
                "retired": In(1),
                "query_scale": Out(scales),
                "value_scale": Out(data.ArrayLayout(FP16_BITS, jobs)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, layout = self._config, KVFormat(self._config)
        job = Signal(job_layout(config))
        slot = Signal(slot_bits(config))
        in_flight = Signal(range(config.jobs_in_flight + 1))

        # Sizes that follow from the context; every divisor is a power of two.
        window_shift = config.window.bit_length() - 1
        chunk_shift = config.chunk.bit_length() - 1
        group_shift = config.value_group.bit_length() - 1
        planned = Signal(planned_job(config))
        windows = Signal(range(config.max_context // config.window + 1))
        before_last = (job.context - 1)[:16] >> window_shift
        closed = Signal(16)
        chunks = Signal(range(config.max_chunks + 1))
        tail = Signal(range(config.max_context + 1))
        base_blocks = Signal(range(config.max_chunks // config.chunk + 2))
        tail_blocks = Signal(range(config.max_context // config.chunk + 1))
        dense = job.mode != Mode.KVO
        block_bytes = Signal(range(max(sum(layout.block_bytes(mode)) for mode in Mode) + 1))
        with m.Switch(job.mode):
            for mode in Mode:
                with m.Case(mode):
                    m.d.comb += block_bytes.eq(sum(layout.block_bytes(mode)))
        m.d.comb += [
            windows.eq(Mux(dense | (before_last == 0), 0, before_last - 1)),
            closed.eq(windows << window_shift),
            chunks.eq(closed >> chunk_shift),
            tail.eq(job.context - closed),
            base_blocks.eq((chunks + config.chunk - 1) >> chunk_shift),
            tail_blocks.eq(
                Mux(windows == 0, (tail + config.chunk - 1) >> chunk_shift, layout.tail_blocks)
            ),
        ]

        ends = Signal(data.ArrayLayout(ADDRESS_BITS + 1, 3))
        regions = [
            (job.base_address, base_blocks, Const(layout.base_block_bytes)),
            (job.chunk_address, closed >> group_shift, Const(layout.group_bytes)),
            (job.tail_address, tail_blocks, block_bytes),
        ]

        def misplaced(index: int) -> Value:
            address, count, _ = regions[index]
            unaligned = address % BURST_BYTES != 0
            return (count != 0) & (unaligned | (ends[index] > config.memory_bytes))

        context_wrong = (job.context == 0) | (job.context > config.max_context)
        query_scales = [job.query_scale.word_select(row, FP16_BITS) for row in range(config.rows)]
        scales_finite = Cat(*(fp16_is_finite(scale) for scale in query_scales)).all()
        faults = [
            (job.config_hash != config.config_hash, Status.CONFIG_MISMATCH),
            (job.mode > max(Mode), Status.MODE_RANGE),
            (context_wrong, Status.CONTEXT_RANGE),
            (job.layer >= config.layers, Status.LAYER_RANGE),
            (job.kv_head >= config.kv_heads, Status.HEAD_RANGE),
            (Cat(*(misplaced(i) for i in range(3))).any(), Status.ADDRESS_RANGE),
            (
                ~scales_finite | (dense & ~fp16_is_finite(job.value_scale)),
                Status.SCALE_NOT_FINITE,
            ),
        ]
        status = Signal(Status)
        for wrong, code in reversed(faults):
            with m.If(wrong):
                m.d.comb += status.eq(code)
        refused = (status != Status.OK) & (status != Status.SCALE_NOT_FINITE)

        m.d.comb += [
            planned.slot.eq(slot),
            planned.chunks.eq(chunks),
            planned.tail.eq(tail),
            planned.base_address.eq(job.base_address),
            planned.chunk_address.eq(job.chunk_address),
            planned.tail_address.eq(job.tail_address),
            planned.mode.eq(job.mode),
            self.planned.payload.eq(planned),
            self.load.payload.eq(slot),
            self.ticket.payload.job_id.eq(job.job_id),
            self.ticket.payload.slot.eq(slot),
            self.ticket.payload.status.eq(status),
            self.ticket_mode.eq(job.mode),
        ]
        advance = Signal()
        m.d.sync += in_flight.eq(in_flight + advance - self.retired)

        scales = Array([self.query_scale[i] for i in range(config.jobs_in_flight)])
        value_scales = Array([self.value_scale[i] for i in range(config.jobs_in_flight)])
        with m.FSM():
            with m.State("IDLE"):
                room = in_flight != config.jobs_in_flight
                m.d.comb += self.job.ready.eq(room)
                with m.If(self.job.valid & room):
                    m.d.sync += job.eq(self.job.payload)
                    m.d.comb += advance.eq(1)
                    m.next = "SIZE"
            with m.State("SIZE"):
                for i, (address, count, size) in enumerate(regions):
                    m.d.sync += ends[i].eq(address + count * size)
                m.d.sync += scales[slot].eq(job.query_scale)
                m.d.sync += value_scales[slot].eq(job.value_scale)
                m.next = "LOAD"
            with m.State("LOAD"):
                m.d.comb += self.load.valid.eq(1)
                with m.If(self.load.ready):
                    m.next = "TICKET"
            with m.State("TICKET"):
                m.d.comb += self.ticket.valid.eq(1)
                with m.If(self.ticket.ready):
                    m.d.comb += [
                        self.accepted.event.eq(~refused),
                        self.refused.event.eq(refused),
                    ]
                    with m.If(refused):
                        m.d.sync += slot.eq(slot + 1)
                        m.next = "IDLE"
                    with m.Else():
                        m.next = "PLAN"
            with m.State("PLAN"):
                m.d.comb += self.planned.valid.eq(1)
                with m.If(self.planned.ready):
                    m.d.sync += slot.eq(slot + 1)
                    m.next = "IDLE"
        return m
