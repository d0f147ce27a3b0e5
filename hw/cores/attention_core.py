"""The attention core: compressed KV cache in, attention output out."""

from amaranth.hdl import Array, Cat, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import AttentionConfig
from hw.cores.contribution_merge import ContributionMerge
from hw.cores.dot_collector import DotCollector
from hw.cores.job_admission import announced_layout
from hw.cores.job_intake import JobIntake
from hw.cores.job_retire import JobRetire, completion_layout
from hw.cores.key_accumulator import KeyAccumulator
from hw.cores.normaliser import OUTPUT_LAYOUT, Normaliser
from hw.cores.operand_select import OperandSelect
from hw.cores.payloads import (
    chunk_bits,
    job_layout,
    planned_job,
    scaled_tag,
    segment_header,
    slot_uses,
    step_tag,
)
from hw.cores.pe_array import PEArray
from hw.cores.query_store import QUERY_BEAT, QueryStore
from hw.cores.saliency_update import SALIENCY_BEAT, SaliencyUpdate
from hw.cores.scale_bank import ScaleBank
from hw.cores.score_tap import ScoreTap
from hw.cores.score_unit import ScoreUnit
from hw.cores.selector import Selector
from hw.cores.sequencer import Sequencer
from hw.cores.slot_votes import SlotVotes
from hw.cores.softmax import Softmax
from hw.cores.sum_reciprocal import SumReciprocal
from hw.cores.unpacker import Unpacker
from hw.cores.value_accumulator import ValueAccumulator
from hw.cores.victim_select import VictimSelect, victim_layout
from hw.counters import Counter, CounterBank
from hw.formats import Status, StepKind
from hw.memory.fetch import Fetch
from hw.memory.port import memory_port
from hw.streams import StreamFIFO

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
        self._intake = JobIntake(config)
        self._retire = JobRetire(config)
        self._sequencer = Sequencer(config)
        self._fetch = Fetch(config, page_bytes)
        self._unpacker = Unpacker(config)
        self._operands = OperandSelect(config)
        self._accumulator = ValueAccumulator(config)
        self._normaliser = Normaliser(config)
        self._cycles = Counter("cycles", "clock cycles since reset or clear")
        self._output_stall = Counter("output_stall", "cycles in which an output beat had to wait")
        self._counters = CounterBank(
            config,
            counters={
                "core": [self._cycles, self._output_stall],
                "intake": self._intake.counters,
                "retire": self._retire.counters,
                "sequencer": self._sequencer.counters,
                "fetch": self._fetch.counters,
                "unpacker": self._unpacker.counters,
                "operands": self._operands.counters,
                "accumulator": self._accumulator.counters,
            },
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
        config = self._config
        m.submodules.intake = intake = self._intake
        m.submodules.retire = retire = self._retire
        m.submodules.sequencer = sequencer = self._sequencer
        m.submodules.fetch = fetch = self._fetch
        m.submodules.unpacker = unpacker = self._unpacker
        m.submodules.operands = operands = self._operands
        m.submodules.accumulator = accumulator = self._accumulator
        m.submodules.normaliser = normaliser = self._normaliser
        m.submodules.counters = bank = self._counters
        m.submodules.query_store = store = QueryStore(config)
        m.submodules.pe_array = pe_array = PEArray(config, tag_bits=step_tag(config).size)
        m.submodules.collector = collector = DotCollector(config)
        m.submodules.scale_bank = scale_bank = ScaleBank(config, tag_bits=scaled_tag(config).size)
        m.submodules.key_accumulator = key_accumulator = KeyAccumulator(config)
        m.submodules.score_unit = score_unit = ScoreUnit(config)
        m.submodules.selector = selector = Selector(config)
        m.submodules.softmax = softmax = Softmax(config)
        m.submodules.merge = merge = ContributionMerge(config)

        # Jobs: descriptor and queries in, tickets to the end of the line.
        m.submodules.tickets = tickets = StreamFIFO(
            intake.ticket.payload.shape(), depth=config.jobs_in_flight
        )
        wiring.connect(m, wiring.flipped(self.job), intake.job)
        wiring.connect(m, wiring.flipped(self.query), store.query)
        wiring.connect(m, intake.load, store.load)
        wiring.connect(m, tickets.output, retire.ticket)
        self._connect_admission(m, tickets)
        wiring.connect(m, retire.completion, wiring.flipped(self.completion))
        m.d.comb += [
            intake.retired.eq(retire.retired),
            score_unit.query_scale.eq(intake.query_scale),
            score_unit.value_scale.eq(intake.value_scale),
            retire.memory_error.eq(unpacker.memory_error),
            retire.memory_error_slot.eq(unpacker.memory_error_slot),
            retire.scale_error.eq(unpacker.scale_error),
            retire.scale_error_slot.eq(unpacker.scale_error_slot),
        ]

        # Memory: segments out, beats back, headers beside them.
        m.submodules.headers = headers = StreamFIFO(segment_header(config), depth=SEGMENTS_AHEAD)
        wiring.connect(m, sequencer.segments, fetch.segments)
        wiring.connect(m, sequencer.header, headers.input)
        wiring.connect(m, headers.output, unpacker.header)
        wiring.connect(m, fetch.memory, wiring.flipped(self.memory))
        wiring.connect(m, fetch.beats, unpacker.beats)

        # Products: operands, PE array, scale bank.
        wiring.connect(m, unpacker.work, operands.work)
        m.d.comb += [
            store.read_enable.eq(operands.read_enable),
            store.read_slot.eq(operands.read_slot),
            store.read_group.eq(operands.read_group),
            operands.operand.eq(store.operand),
            operands.query_sum.eq(store.query_sum),
        ]
        wiring.connect(m, operands.step, pe_array.step)
        wiring.connect(m, pe_array.result, collector.result)
        wiring.connect(m, collector.sums, scale_bank.sums)

        # Scaled sums: keys to the key accumulator, values to the merge.
        scaled = scale_bank.scaled
        tag = data.View(scaled_tag(config), scaled.payload.tag)
        is_value = tag.kind == StepKind.VALUES
        m.d.comb += [
            key_accumulator.scaled.payload.key.eq(tag.key),
            key_accumulator.scaled.valid.eq(scaled.valid & ~is_value),
            merge.scaled.payload.eq(scaled.payload.y),
            merge.scaled.valid.eq(scaled.valid & is_value),
        ]
        for row in range(config.rows):
            m.d.comb += key_accumulator.scaled.payload.y[row].eq(scaled.payload.y[row][0])
        with m.If(is_value):
            m.d.comb += scaled.ready.eq(merge.scaled.ready)
        with m.Else():
            m.d.comb += scaled.ready.eq(key_accumulator.scaled.ready)

        # Scores: estimates to the selector, the others to the softmax.
        wiring.connect(m, key_accumulator.key_sums, score_unit.key_sums)
        wiring.connect(m, score_unit.candidates, selector.candidates)
        m.submodules.reciprocal = reciprocal = SumReciprocal(config)
        self._connect_scores(m, score_unit, softmax, reciprocal, normaliser)
        self._connect_selection(m, selector, sequencer, key_accumulator)

        # Values: weights back to the operands, contributions to the accumulators.
        m.submodules.units = units = StreamFIFO(merge.unit.payload.shape(), depth=4)
        wiring.connect(m, softmax.weights, operands.weights)
        wiring.connect(m, operands.unit, units.input)
        wiring.connect(m, units.output, merge.unit)
        wiring.connect(m, collector.tail, merge.tail)
        wiring.connect(m, merge.contributions, accumulator.contributions)
        wiring.connect(m, accumulator.accumulator, normaliser.accumulator)

        self._connect_results(m, softmax, reciprocal, normaliser, retire)
        m.d.comb += [
            bank.address.eq(self.counter_address),
            self.counter_data.eq(bank.read_data),
            bank.clear.eq(self.counter_clear),
            self._cycles.event.eq(1),
            self._output_stall.event.eq(self.output.valid & ~self.output.ready),
        ]
        return m

    def _connect_admission(self, m: Module, tickets: StreamFIFO) -> None:
        """Checked jobs go to the sequencer, or ask outside first."""
        intake, sequencer = self._intake, self._sequencer
        ticket, planned = intake.ticket, intake.planned
        if not self._writes:
            wiring.connect(m, ticket, tickets.input)
            wiring.connect(m, planned, sequencer.planned)
            return
        announced = self.announced
        wiring.connect(m, wiring.flipped(self.admitted), sequencer.planned)
        # The intake offers a ticket, and when it was taken the job if it was not refused.
        refused = Signal()
        codes = [ticket.payload.status == code for code in Status if code.refused]
        allowed = ~refused | announced.ready
        m.d.comb += [
            refused.eq(Cat(*codes).any()),
            tickets.input.payload.eq(ticket.payload),
            tickets.input.valid.eq(ticket.valid & allowed),
            ticket.ready.eq(tickets.input.ready & allowed),
            announced.valid.eq(planned.valid | (ticket.valid & refused & tickets.input.ready)),
            announced.payload.refused.eq(~planned.valid),
            announced.payload.mode.eq(intake.ticket_mode),
            announced.payload.job.eq(planned.payload),
            announced.payload.value_scale.eq(Array(list(intake.value_scale))[planned.payload.slot]),
            planned.ready.eq(announced.ready),
        ]

    def _connect_scores(
        self,
        m: Module,
        score_unit: ScoreUnit,
        softmax: Softmax,
        reciprocal: SumReciprocal,
        normaliser: Normaliser,
    ) -> None:
        """Scores go to the softmax and, for what the tail received of them, to the tap."""
        config, scores = self._config, score_unit.scores
        if not self._writes:
            wiring.connect(m, scores, softmax.scores)
            wiring.connect(m, reciprocal.reciprocals, normaliser.reciprocals)
            m.d.comb += self._unpacker.saliency.ready.eq(1)
            return
        m.submodules.tap = tap = ScoreTap(config, depth=config.tail_tokens)
        m.submodules.saliency_update = update = SaliencyUpdate(config)
        wiring.connect(m, self._unpacker.saliency, update.before)
        given = tap.received
        if config.votes:
            m.submodules.slot_votes = votes = SlotVotes(config)
            wiring.connect(m, tap.received, votes.received)
            m.d.comb += votes.uses.eq(self.slot_uses)
            given = votes.votes
        wiring.connect(m, given, update.received)
        wiring.connect(m, update.after, wiring.flipped(self.saliency))
        if config.slots:
            m.submodules.victim_select = select = VictimSelect(config)
            m.d.comb += [
                update.uses.eq(self.slot_uses),
                select.uses.eq(self.slot_uses),
                select.scores.eq(update.scores),
                self.victim.eq(select.victim),
            ]
        found = reciprocal.reciprocals
        for source, sinks in (
            (scores, (softmax.scores, tap.scores)),
            (found, (normaliser.reciprocals, tap.reciprocals)),
        ):
            one, other = sinks
            m.d.comb += [
                one.valid.eq(source.valid & other.ready),
                other.valid.eq(source.valid & one.ready),
                source.ready.eq(one.ready & other.ready),
            ]
        token = Signal(range(config.chunk))
        with m.If(scores.valid & scores.ready):
            m.d.sync += token.eq(token + 1)
        m.d.comb += [
            softmax.scores.payload.eq(scores.payload),
            tap.scores.payload.score.eq(scores.payload.score),
            tap.scores.payload.kept.eq(score_unit.salient),
            tap.scores.payload.last.eq(scores.payload.last & (token == config.chunk - 1)),
            tap.scores.payload.slot.eq(scores.payload.slot),
            normaliser.reciprocals.payload.eq(found.payload),
            tap.reciprocals.payload.eq(found.payload),
        ]

    def _connect_selection(
        self,
        m: Module,
        selector: Selector,
        sequencer: Sequencer,
        key_accumulator: KeyAccumulator,
    ) -> None:
        """Send each selected chunk to the sequencer and out, its key sums to the accumulator.

        Both queues hold the lists of two jobs: one in its formal pass, one that waits for it.
        """
        depth = 2 * self._config.top_chunks
        m.submodules.chunks = chunks = StreamFIFO(sequencer.selected.payload.shape(), depth=depth)
        m.submodules.bases = bases = StreamFIFO(key_accumulator.base.payload.shape(), depth=depth)
        wiring.connect(m, chunks.output, sequencer.selected)
        wiring.connect(m, bases.output, key_accumulator.base)
        selected = selector.selected
        room = chunks.input.ready & bases.input.ready
        m.d.comb += [
            self.selection.valid.eq(selected.valid & room),
            self.selection.payload.chunk.eq(selected.payload.chunk),
            self.selection.payload.last.eq(selected.payload.last),
            selected.ready.eq(self.selection.ready & room),
            chunks.input.payload.chunk.eq(selected.payload.chunk),
            chunks.input.payload.last.eq(selected.payload.last),
            chunks.input.valid.eq(selected.valid & selected.ready),
            bases.input.payload.eq(selected.payload.key_sum),
            bases.input.valid.eq(selected.valid & selected.ready),
        ]

    def _connect_results(
        self,
        m: Module,
        softmax: Softmax,
        reciprocal: SumReciprocal,
        normaliser: Normaliser,
        retire: JobRetire,
    ) -> None:
        """Statistics go to the completion and, as reciprocals, to the normaliser."""
        m.submodules.statistics = queue = StreamFIFO(softmax.statistics.payload.shape(), depth=2)
        wiring.connect(m, queue.output, retire.statistics)
        statistics = softmax.statistics
        m.d.comb += [
            queue.input.payload.eq(statistics.payload),
            queue.input.valid.eq(statistics.valid & reciprocal.sums.ready),
            reciprocal.sums.payload.sum.eq(statistics.payload.sum),
            reciprocal.sums.payload.maximum.eq(statistics.payload.maximum),
            reciprocal.sums.valid.eq(statistics.valid & queue.input.ready),
            statistics.ready.eq(queue.input.ready & reciprocal.sums.ready),
        ]
        sent = Signal()
        wiring.connect(m, normaliser.output, wiring.flipped(self.output))
        m.d.comb += [
            sent.eq(self.output.valid & self.output.ready),
            retire.output_sent.eq(sent),
        ]
