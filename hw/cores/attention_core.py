"""The attention core: compressed KV cache in, attention output out."""

from amaranth.hdl import Module
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.config import AttentionConfig
from hw.cores.attention_jobs import admit_jobs, announce_jobs, finish_jobs
from hw.cores.attention_scores import route_scaled_sums, select_chunks, tap_scores, use_scores
from hw.cores.attention_units import AttentionUnits
from hw.cores.job_admission import announced_layout
from hw.cores.job_retire import completion_layout
from hw.cores.normaliser import OUTPUT_LAYOUT
from hw.cores.payloads import chunk_bits, job_layout, planned_job, segment_header, slot_uses
from hw.cores.query_store import QUERY_BEAT
from hw.cores.saliency_update import SALIENCY_BEAT
from hw.cores.victim_select import victim_layout
from hw.counters import Counter, CounterBank
from hw.memory.port import memory_port
from hw.streams import StreamFIFO, StreamRegister

#: Segments whose headers may wait for their beats: covers the memory's latency with short records.
SEGMENTS_AHEAD = 16


class AttentionCore(wiring.Component):
    """Decode attention over a compressed KV cache: one beat of 16 bytes per cycle from memory.

    Latency of a job alone: its beats, the memory's latency about twice, and about 300 cycles for
    selection, softmax and normalisation; with two jobs or more in flight only the beats count.

    descriptor -> sequencer -> memory -> unpacker -> PE array -> scale bank -> scores -> softmax ->
    PE array -> accumulators -> output; docs/contracts.md defines every stream and number.

    Parameters
    ----------
    config : AttentionConfig
    page_bytes : int or None
        No memory request crosses a multiple of this, see `Fetch`.
    writes : bool
        Whether the core is part of a `DecodeCore`, and has the members that are for it.

    Members
    -------
    job, query, selection, output, completion : stream
    memory : memory port
    counter_address, counter_data, counter_clear
        Registers of the counter bank, listed in the register map.
    announced : Out(stream of ``announced_layout``), only with ``writes``
        Every job, in order, once it is checked.
    admitted : In(stream of ``planned_job``), only with ``writes``
        Those not refused, once their caches can be read.
    saliency : Out(stream of ``SALIENCY_BEAT``), only with ``writes``
        New saliencies of the tail blocks of each job in mode `KVO` or `SLOTS` that was not refused,
        from the oldest block on; those of the last two jobs may wait.
    slot_uses : In(`slot_uses`), victim : Out(`victim_layout`), only with ``writes`` and ``slots``
        Of each job in mode `SLOTS`: which slots stay, and which one leaves.
    """

    def __init__(
        self, config: AttentionConfig, page_bytes: int | None = None, *, writes: bool = False
    ) -> None:
        self._config = config
        self._writes = writes
        self._units = AttentionUnits(config, page_bytes)
        self._cycles = Counter("cycles", "clock cycles since reset or clear")
        self._output_stall = Counter("output_stall", "cycles in which an output beat had to wait")
        self._counters = CounterBank(
            config,
            counters={"core": [self._cycles, self._output_stall], **self._units.counters},
        )
        bank = self._counters.signature.members
        selection = data.StructLayout({"chunk": chunk_bits(config), "last": 1})
        writing = {
            "announced": Out(stream.Signature(announced_layout(config))),
            "admitted": In(stream.Signature(planned_job(config))),
            "saliency": Out(stream.Signature(SALIENCY_BEAT)),
        }
        if config.slots:
            writing |= {"slot_uses": In(slot_uses(config)), "victim": Out(victim_layout(config))}
        super().__init__(
            {
                **(writing if writes else {}),
                "job": In(stream.Signature(job_layout(config))),
                "query": In(stream.Signature(QUERY_BEAT)),
                "memory": Out(memory_port(config)),
                "selection": Out(stream.Signature(selection)),
                "output": Out(stream.Signature(OUTPUT_LAYOUT)),
                "completion": Out(stream.Signature(completion_layout(config))),
                "counter_address": In(bank["address"].shape),
                "counter_data": Out(bank["read_data"].shape),
                "counter_clear": In(1),
            }
        )

    @property
    def config(self) -> AttentionConfig:
        """The configuration it was built for."""
        return self._config

    @property
    def counters(self) -> list[dict[str, object]]:
        """The registers behind ``counter_address``, in address order."""
        return self._counters.describe()

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, units = self._config, self._units
        units.add_to(m)

        # Jobs: descriptor and queries in, tickets to the end of the line.
        m.submodules.tickets = tickets = StreamFIFO(
            units.intake.ticket.payload.shape(), depth=config.jobs_in_flight
        )
        connect(m, flipped(self.job), units.intake.job)
        connect(m, flipped(self.query), units.query_store.query)
        connect(m, units.intake.load, units.query_store.load)
        connect(m, tickets.output, units.retire.ticket)
        if self._writes:
            announce_jobs(m, units, tickets, self)
        else:
            admit_jobs(m, units, tickets)

        # Memory: segments out, beats back, headers beside them.
        m.submodules.headers = headers = StreamFIFO(segment_header(config), depth=SEGMENTS_AHEAD)
        connect(m, units.sequencer.segments, units.fetch.segments)
        connect(m, units.sequencer.header, headers.input)
        connect(m, headers.output, units.unpacker.header)
        connect(m, units.fetch.memory, flipped(self.memory))
        connect(m, units.fetch.beats, units.unpacker.beats)

        # Products: operands, PE array, scale bank.
        store, operands = units.query_store, units.operands
        connect(m, units.unpacker.work, operands.work)
        m.d.comb += [
            store.read_enable.eq(operands.read_enable),
            store.read_slot.eq(operands.read_slot),
            store.read_group.eq(operands.read_group),
            operands.operand.eq(store.operand),
            operands.query_sum.eq(store.query_sum),
        ]
        connect(m, operands.step, units.pe_array.step)
        connect(m, units.pe_array.result, units.collector.result)
        connect(m, units.collector.sums, units.scale_bank.sums)
        route_scaled_sums(m, config, units)

        # Scores: estimates to the selector, the others to the softmax.
        connect(m, units.key_accumulator.key_sums, units.score_unit.key_sums)
        connect(m, units.score_unit.candidates, units.selector.candidates)
        select_chunks(m, config, units, self.selection)
        m.d.comb += [
            units.score_unit.query_scale.eq(units.intake.query_scale),
            units.score_unit.value_scale.eq(units.intake.value_scale),
        ]
        if self._writes:
            tap_scores(m, config, units, self)
        else:
            use_scores(m, units)

        # Values: weights back to the operands, contributions to the accumulators.
        m.submodules.units = order = StreamFIFO(units.merge.unit.payload.shape(), depth=4)
        connect(m, units.softmax.weights, operands.weights)
        connect(m, operands.unit, order.input)
        connect(m, order.output, units.merge.unit)
        # Joining the bytes of tail values, and aligning them, takes a cycle each.
        tail = units.merge.tail
        m.submodules.tail_register = tails = StreamRegister(tail.payload.shape())
        connect(m, units.collector.tail, tails.input)
        connect(m, tails.output, tail)
        connect(m, units.merge.contributions, units.accumulator.contributions)
        connect(m, units.accumulator.accumulator, units.normaliser.accumulator)
        finish_jobs(m, units, self)

        m.submodules.counters = bank = self._counters
        m.d.comb += [
            bank.address.eq(self.counter_address),
            self.counter_data.eq(bank.read_data),
            bank.clear.eq(self.counter_clear),
            self._cycles.event.eq(1),
            self._output_stall.event.eq(self.output.valid & ~self.output.ready),
        ]
        return m
