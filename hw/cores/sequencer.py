"""The order of all memory reads, and with it of everything that the core does."""

from amaranth.hdl import Module, Mux, Signal, ValueLike
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import BURST_BYTES, AttentionConfig
from hw.cores.payloads import SegmentKind, chunk_bits, planned_job, segment_header
from hw.counters import Counter
from hw.formats import KVFormat, Mode
from hw.memory.fetch import SEGMENT_LAYOUT


class Sequencer(wiring.Component):
    """Latency 2 cycles from a job to its first segment, then one segment every 2 cycles at most.

    Two software pipelines hide every latency behind the beat stream. Between jobs: the estimates of
    the next job are read before the formal pass of the current one, so that selection has a whole
    pass of time. Within the formal pass: the keys of unit ``u + 1`` are read before the values of
    unit ``u``, so that the softmax has a unit of time. A formal pass starts with the tail, which
    needs no selection, from its oldest block around the ring. The value scales of a group are read
    before the values of the first of its chunks that follow each other.

    Parameters
    ----------
    config : AttentionConfig

    Members
    -------
    planned : stream of ``planned_job``
    selected : stream of {``chunk``, ``last``} of each job with closed chunks in turn, in the order
        of the formal pass
    segments : stream of {``address``, ``bursts``} to the fetch unit
    header : stream of ``segment_header`` to the unpacker
    """

    def __init__(self, config: AttentionConfig) -> None:
        self._config = config
        self.selection_wait = Counter(
            "selection_wait", "cycles in which the formal pass waited for the selection"
        )
        self.idle = Counter("sequencer_idle", "cycles without a job")
        self.counters = [self.selection_wait, self.idle]
        selected = data.StructLayout({"chunk": chunk_bits(config), "last": 1})
        super().__init__(
            {
                "planned": In(stream.Signature(planned_job(config))),
                "selected": In(stream.Signature(selected)),
                "segments": Out(stream.Signature(SEGMENT_LAYOUT)),
                "header": Out(stream.Signature(segment_header(config))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, layout = self._config, KVFormat(self._config)
        #: The job whose base keys are being read, and the job after its estimates.
        estimated = Signal(planned_job(config))
        formal = Signal(planned_job(config))
        has_estimated = Signal()
        has_formal = Signal()

        # One segment register; segment and header leave together or one after the other.
        address = Signal(32)
        bursts = Signal.like(self.segments.payload.bursts)
        header = Signal(segment_header(config))
        segment_due = Signal()
        header_due = Signal()
        m.d.comb += [
            self.segments.payload.address.eq(address),
            self.segments.payload.bursts.eq(bursts),
            self.segments.valid.eq(segment_due),
            self.header.payload.eq(header),
            self.header.valid.eq(header_due),
        ]
        with m.If(self.segments.ready):
            m.d.sync += segment_due.eq(0)
        with m.If(self.header.ready):
            m.d.sync += header_due.eq(0)
        free = ~segment_due & ~header_due

        def emit(
            kind: ValueLike,
            where: ValueLike,
            size: ValueLike,
            present: ValueLike,
            **others: ValueLike,
        ) -> None:
            fields = {"kind": kind, "present_less_one": present, "slot": formal.slot}
            fields |= {"first": 0, "last": 0, "dense": 0, "wide": 0, **others}
            m.d.sync += [
                address.eq(where),
                bursts.eq(size),
                *(header[name].eq(field) for name, field in fields.items()),
                segment_due.eq(1),
                header_due.eq(1),
            ]

        #: Keys of the job that are still to be read in this pass, and where.
        left = Signal(range(config.max_context + 1))
        where = Signal(32)
        first = Signal()
        last_block = left <= config.chunk
        whole = config.chunk - 1
        present = Mux(last_block, left - 1, whole)

        # A dense cache is read like a tail; its blocks have other sizes.
        dense = formal.mode != Mode.KVO
        block_sizes = {mode: layout.block_bytes(mode) for mode in Mode}
        sizes = [Signal(range(max(size) + 1)) for size in zip(*block_sizes.values(), strict=True)]
        with m.Switch(formal.mode):
            for mode, (keys, values) in block_sizes.items():
                with m.Case(mode):
                    m.d.comb += [sizes[0].eq(keys), sizes[1].eq(values)]
        key_bytes, value_bytes = sizes
        # The ring begins in its middle after an odd number of closed windows.
        half_ring = layout.tail_blocks // 2
        second_half = (formal.chunks >> (half_ring.bit_length() - 1)) & 1
        tail_block = Signal(range(layout.tail_blocks))
        wide_values = Mux(dense, formal.mode == Mode.DENSE16, config.tail_value_bits == 16)

        #: The unit whose values are to be read after the next unit's keys.
        value_due = Signal()
        value_tail = Signal()
        value_address = Signal(32)
        #: The values of the tail block whose keys were read last.
        own_values = Signal(32)
        keys_done = Signal()

        #: The value group of the unit whose keys were read last, where its scales lie, and whether
        #: they are to be read; and those of the unit whose values are due.
        group_shift = config.group_chunks.bit_length() - 1
        group = Signal(range(max(2, config.max_chunks >> group_shift)))
        in_group = Signal()
        scales = Signal(32)
        new_group = Signal()
        value_scales = Signal(32)
        scales_due = Signal()

        def emit_values() -> None:
            with m.If(value_tail):
                size = value_bytes // BURST_BYTES
                flags = {"dense": dense, "wide": wide_values}
                emit(SegmentKind.TAIL_VALUES, value_address, size, whole, **flags)
            with m.Else():
                size = layout.value_bytes // BURST_BYTES
                emit(SegmentKind.VALUES, value_address, size, whole)

        def emit_scales() -> None:
            size = layout.value_scale_bytes // BURST_BYTES
            emit(SegmentKind.VALUE_SCALES, value_scales, size, whole)
            m.d.sync += scales_due.eq(0)

        with m.FSM():
            with m.State("CHOOSE"):
                with m.If(self.planned.valid & ~has_estimated):
                    m.d.comb += self.planned.ready.eq(1)
                    m.d.sync += [
                        estimated.eq(self.planned.payload),
                        has_estimated.eq(1),
                        left.eq(self.planned.payload.chunks),
                        where.eq(self.planned.payload.base_address),
                        first.eq(1),
                    ]
                    m.next = "ESTIMATE"
                with m.Elif(has_formal):
                    m.d.sync += [
                        left.eq(formal.tail),
                        where.eq(
                            formal.tail_address
                            + Mux(second_half, half_ring * layout.tail_block_bytes, 0)
                        ),
                        tail_block.eq(Mux(second_half, half_ring, 0)),
                        first.eq(1),
                        value_due.eq(0),
                        keys_done.eq(0),
                        in_group.eq(0),
                        scales_due.eq(0),
                    ]
                    m.next = "TAIL"
                with m.Elif(has_estimated):
                    m.d.sync += [formal.eq(estimated), has_formal.eq(1), has_estimated.eq(0)]
                with m.Else():
                    m.d.comb += self.idle.event.eq(1)
            with m.State("ESTIMATE"):
                with m.If(left == 0):
                    m.next = "CHOOSE"
                with m.Elif(free):
                    size = layout.base_block_bytes // BURST_BYTES
                    flags = {"first": first, "last": last_block}
                    emit(SegmentKind.BASE_KEYS, where, size, present, slot=estimated.slot, **flags)
                    m.d.sync += [
                        left.eq(Mux(last_block, 0, left - config.chunk)),
                        where.eq(where + layout.base_block_bytes),
                        first.eq(0),
                    ]
            with m.State("TAIL"):
                with m.If(free):
                    flags = {
                        "first": first,
                        "last": last_block & (formal.chunks == 0),
                        "dense": dense,
                        "wide": formal.mode == Mode.DENSE16,
                    }
                    emit(SegmentKind.TAIL_KEYS, where, key_bytes // BURST_BYTES, present, **flags)
                    m.d.sync += [
                        left.eq(Mux(last_block, 0, left - config.chunk)),
                        where.eq(
                            Mux(
                                ~dense & (tail_block == layout.tail_blocks - 1),
                                formal.tail_address,
                                where + key_bytes + value_bytes,
                            )
                        ),
                        tail_block.eq(tail_block + 1),
                        own_values.eq(where + key_bytes),
                        first.eq(0),
                        keys_done.eq(flags["last"]),
                    ]
                    m.next = "TAIL_VALUES"
            with m.State("TAIL_VALUES"):
                # The values of the unit before; then note this one's.
                with m.If(free):
                    with m.If(value_due):
                        emit_values()
                    m.d.sync += [
                        value_due.eq(1),
                        value_tail.eq(1),
                        value_address.eq(own_values),
                    ]
                    with m.If(keys_done):
                        m.next = "LAST_VALUES"
                    with m.Elif(left == 0):
                        m.next = "CHUNK"
                    with m.Else():
                        m.next = "TAIL"
            with m.State("CHUNK"):
                m.d.comb += self.selection_wait.event.eq(free & ~self.selected.valid)
                with m.If(free & self.selected.valid):
                    m.d.comb += self.selected.ready.eq(1)
                    chunk = self.selected.payload.chunk
                    its_group = chunk >> group_shift
                    record = formal.chunk_address + its_group * layout.group_bytes
                    deltas = Signal(32)
                    within = chunk[:group_shift] * layout.chunk_bytes
                    m.d.comb += deltas.eq(record + within + layout.value_scale_bytes)
                    last_chunk = self.selected.payload.last
                    size = layout.delta_bytes // BURST_BYTES
                    emit(SegmentKind.DELTAS, deltas, size, whole, last=last_chunk)
                    m.d.sync += [
                        keys_done.eq(last_chunk),
                        where.eq(deltas + layout.delta_bytes),
                        group.eq(its_group),
                        in_group.eq(1),
                        scales.eq(record),
                        new_group.eq(~in_group | (group != its_group)),
                    ]
                    m.next = "CHUNK_VALUES"
            with m.State("CHUNK_VALUES"):
                with m.If(free & scales_due):
                    emit_scales()
                with m.Elif(free):
                    emit_values()
                    m.d.sync += [
                        value_tail.eq(0),
                        value_address.eq(where),
                        value_scales.eq(scales),
                        scales_due.eq(new_group),
                    ]
                    with m.If(keys_done):
                        m.next = "LAST_VALUES"
                    with m.Else():
                        m.next = "CHUNK"
            with m.State("LAST_VALUES"):
                with m.If(free & scales_due):
                    emit_scales()
                with m.Elif(free):
                    emit_values()
                    m.d.sync += has_formal.eq(0)
                    m.next = "CHOOSE"
        return m
