"""Writes bursts of several sources in runs."""

from collections.abc import Sequence

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.config import BEAT_BITS, BEAT_BYTES, BURST_BYTES
from hw.cores.compressor.payloads import BURST, BURST_ADDRESS_BITS, BURST_BITS, ENABLED_BYTES
from hw.memory.port import BURST_BEATS, REQUEST_BURSTS, write_port
from hw.memory.round_robin import RoundRobin
from hw.streams import StreamFIFO

#: Runs that are complete and wait for their turn.
_WAITING = 4


class RecordWriter(wiring.Component):
    """One burst a cycle in, one beat a cycle out; a run leaves 2 cycles after its last burst.

    Successive bursts of a record are gathered to a run, which is written with one request: its data
    are all there then, so it holds up no other writer behind the port. A record has room for two
    runs; a source waits only while both are on their way. The sources take turns.

    Parameters
    ----------
    records : sequence of int
        For each source the records that it fills side by side.
    run : int
        Most bursts of a run: 2, 4, 8 or 16.
    tag_bits : int
        Bits of a tag: 2 to this power writes may be under way.

    Members
    -------
    bursts : In(stream of BURST) per source
    memory : Out(write_port)
        ``written.ready`` is always 1.
    idle : Out(1)
        All runs that are complete are written.
    fence : In(1)
        Asks, for a cycle, only while ``fenced`` is high, for the runs that are complete by then.
    fenced : Out(1)
        Those runs are written, whatever came behind them.
    failed : Out(1)
        A write ends with an error in this cycle.

    Raises
    ------
    ValueError
        A parameter has an illegal value.
    """

    def __init__(self, *, records: Sequence[int], run: int, tag_bits: int) -> None:
        if not records or any(count < 1 for count in records):
            raise ValueError(f"records must have a source of at least 1 each, not {records!r}")
        legal = (2, 4, 8, 16)
        if run not in legal:
            raise ValueError(f"run must be one of {legal}, not {run!r}")
        assert max(legal) <= REQUEST_BURSTS
        self._records = tuple(records)
        self._run = run
        self._tags = 1 << tag_bits
        super().__init__(
            {
                "bursts": In(stream.Signature(BURST)).array(len(records)),
                "memory": Out(write_port(tag_bits)),
                "idle": Out(1),
                "fence": In(1),
                "fenced": Out(1),
                "failed": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        lanes = sum(self._records)
        # A number of a single one has a bit, too: a wire without would have a descending range.
        lane_range = range(max(2, lanes))
        index = range(self._run)
        #: A run: its record among all, which of the two, its bursts less one, its address; and on
        #: which side of the last fence it is.
        run = data.StructLayout(
            {
                "half": 1,
                "lane": lane_range,
                "last": index,
                "address": BURST_ADDRESS_BITS,
                "side": 1,
            }
        )
        held = data.StructLayout({"data": BURST_BITS, "enable": BURST_BYTES // ENABLED_BYTES})
        m.submodules.store = store = Memory(
            shape=held, depth=max(2, lanes * 2 * self._run), init=[]
        )
        m.submodules.runs = runs = StreamFIFO(run, depth=_WAITING)
        # Per record the bursts of the run that grows, where it lies, and the halves that are full.
        count = Array(Signal(index, name=f"count_{i}") for i in range(lanes))
        half = Array(Signal(name=f"half_{i}") for i in range(lanes))
        full = Array(Signal(2, name=f"full_{i}") for i in range(lanes))

        # Sources with room take turns.
        starts = [sum(self._records[:i]) for i in range(len(self._records))]
        lane_of = []
        possible = []
        for start, records, source in zip(starts, self._records, self.bursts, strict=True):
            lane = Signal(lane_range, name=f"lane_{start}")
            m.d.comb += lane.eq(start + (source.p.record if records > 1 else 0))
            lane_of.append(lane)
            room = ~full[lane].bit_select(half[lane], 1)
            possible.append(source.valid & room & runs.input.ready)
        m.submodules.turn = turn = RoundRobin(len(starts))
        chosen = turn.grant
        m.d.comb += [turn.waiting.eq(Cat(*possible)), turn.enable.eq(1)]
        m.d.comb += [source.ready.eq(chosen[i]) for i, source in enumerate(self.bursts)]
        burst = Signal(BURST)
        lane = Signal(lane_range)
        m.d.comb += [
            burst.eq(self._pick(chosen, [s.payload.as_value() for s in self.bursts])),
            lane.eq(self._pick(chosen, lane_of)),
        ]
        take = chosen.any()
        completes = burst.end | (count[lane] == self._run - 1)
        write = store.write_port()
        m.d.comb += [
            write.en.eq(take),
            write.addr.eq(Cat(count[lane], half[lane], lane)),
            write.data.data.eq(burst.data),
            write.data.enable.eq(burst.enable),
            runs.input.valid.eq(take & completes),
            runs.input.p.half.eq(half[lane]),
            runs.input.p.lane.eq(lane),
            runs.input.p.last.eq(count[lane]),
            runs.input.p.address.eq(burst.address - count[lane]),
            runs.input.p.side.eq(self._side(m, runs.input.valid)),
        ]
        with m.If(take):
            m.d.sync += [
                count[lane].eq(Mux(completes, 0, count[lane] + 1)),
                half[lane].eq(half[lane] ^ completes),
            ]
        sent = self._send(m, store, runs)
        for i, bits in enumerate(full):
            set_half = (take & completes & (lane == i)) << half[i]
            clear_half = (sent.valid & (sent.lane == i)) << sent.half
            m.d.sync += bits.eq((bits | set_half) & ~clear_half)
        return m

    def _side(self, m: Module, completes: Value) -> Signal:
        """The side of a run that is complete now; counts the runs of each that are not written."""
        side = Signal()
        with m.If(self.fence):
            m.d.sync += side.eq(~side)
        self._side_of_end = Signal()
        none = []
        for of in range(2):
            pending = Signal(range(self._tags + _WAITING + 1), name=f"pending_{of}")
            ends = self.memory.written.valid & (self._side_of_end == of)
            m.d.sync += pending.eq(pending + (completes & (side == of)) - ends)
            none.append(pending == 0)
        m.d.comb += [self.idle.eq(none[0] & none[1]), self.fenced.eq(Mux(side, none[0], none[1]))]
        return side

    @staticmethod
    def _pick(chosen: Value, values: Sequence[Value]) -> Value:
        """The one of ``values`` whose bit of ``chosen`` is 1."""
        picked: Value = Const(0, 1)
        for i, value in enumerate(values):
            picked = picked | (value & chosen[i].replicate(len(value)))
        return picked

    def _send(self, m: Module, store: Memory, runs: StreamFIFO) -> data.View:
        """Requests and words of the runs; the half that is free again."""
        request, words, written = self.memory.request, self.memory.data, self.memory.written
        run = Signal(runs.output.payload.shape())
        #: A bit for each tag: whether it is under way, and the side of its run.
        busy, sides = Signal(self._tags), Signal(self._tags)
        tag = Signal(range(self._tags))
        next_tag = Signal.like(tag)
        asking, giving = Signal(), Signal()
        number, beat = Signal.like(run.last), Signal(range(BURST_BEATS))
        take, step, end = Signal(), Signal(), Signal()
        read = store.read_port()
        new = runs.output.payload
        m.d.comb += [
            next_tag.eq(tag + 1),
            step.eq(giving & words.ready & (beat == BURST_BEATS - 1)),
            end.eq(step & (number == run.last)),
            take.eq(
                runs.output.valid
                & ~busy.bit_select(next_tag, 1)
                & (~asking | request.ready)
                & (~giving | end)
            ),
            runs.output.ready.eq(take),
            read.en.eq(take | step),
            read.addr.eq(
                Mux(
                    take,
                    Cat(Const(0, len(number)), new.half, new.lane),
                    Cat((number + 1)[: len(number)], run.half, run.lane),
                )
            ),
        ]
        with m.If(request.ready):
            m.d.sync += asking.eq(0)
        with m.If(giving & words.ready):
            m.d.sync += [beat.eq(beat + 1), number.eq(number + step), giving.eq(~end)]
        m.d.sync += busy.eq((busy & ~(written.valid << written.p.tag)) | take << next_tag)
        with m.If(take):
            m.d.sync += [
                run.eq(new),
                asking.eq(1),
                giving.eq(1),
                number.eq(0),
                tag.eq(next_tag),
                sides.eq((sides & ~(1 << next_tag)) | new.side << next_tag),
            ]
        enables = Cat(bit.replicate(ENABLED_BYTES) for bit in read.data.enable)
        m.d.comb += [
            request.valid.eq(asking),
            request.p.address.eq(run.address << (BURST_BYTES - 1).bit_length()),
            request.p.bursts_less_one.eq(run.last),
            request.p.tag.eq(tag),
            words.valid.eq(giving),
            words.p.data.eq(read.data.data.word_select(beat, BEAT_BITS)),
            words.p.enable.eq(enables.word_select(beat, BEAT_BYTES)),
            written.ready.eq(1),
            self._side_of_end.eq(sides.bit_select(written.p.tag, 1)),
            self.failed.eq(written.valid & written.p.error),
        ]
        sent = Signal(
            data.StructLayout({"valid": 1, "half": 1, "lane": run.lane.shape()}), name="sent"
        )
        m.d.comb += [sent.valid.eq(end), sent.half.eq(run.half), sent.lane.eq(run.lane)]
        return sent
