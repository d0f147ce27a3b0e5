"""Puts the answers of the memory back into the order of the requests."""

from amaranth.hdl import Array, Elaboratable, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.config import AttentionConfig
from hw.cores.payloads import BEAT
from hw.memory.port import BURST_BEATS, REQUEST_BURSTS, response_layout, tag_bits


class ReorderBuffer(wiring.Component):
    """A beat leaves 2 cycles after it came, at the earliest; one beat a cycle in and out.

    The buffer is a ring of beats. An allocation takes the lowest free tag and the next beats of the
    ring; a beat of an answer is written to its place, whatever the order of the tags and of the
    beats of one tag, and read in order.

    Parameters
    ----------
    config
        ``memory_tags`` and ``reorder_beats`` size the buffer.

    Members
    -------
    allocate : In(stream)
        ``bursts`` (1 to 16) of the next request, and ``final``: whether the last beat of its answer
        leaves with ``last``. Ready when a tag is free and the ring has room for the whole answer.
    tag : Out
        The tag that an allocation in this cycle gets.
    response : In(stream)
        Answers, every beat once, in any order; always ready.
    beats : Out(stream of BEAT)
        Beats in the order of the allocations.
    waiting : Out(1)
        Some allocated beat has not reached ``beats``.
    """

    def __init__(self, config: AttentionConfig) -> None:
        self._tags = config.memory_tags
        self._depth = config.reorder_beats
        super().__init__(
            {
                "allocate": In(
                    stream.Signature(
                        data.StructLayout({"bursts": range(REQUEST_BURSTS + 1), "final": 1})
                    )
                ),
                "tag": Out(tag_bits(config)),
                "response": In(stream.Signature(response_layout(config))),
                "beats": Out(stream.Signature(BEAT)),
                "waiting": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        pointer = range(self._depth)
        left = range(REQUEST_BURSTS * BURST_BEATS)
        # Per tag: where its beat 0 goes, the number of its last one, how many come after the next
        # one, and what allocate said.
        start = Array(Signal(pointer, name=f"start_{i}") for i in range(self._tags))
        last_beat = Array(Signal(left, name=f"last_beat_{i}") for i in range(self._tags))
        more_beats = Array(Signal(left, name=f"more_beats_{i}") for i in range(self._tags))
        final = Array(Signal(name=f"final_{i}") for i in range(self._tags))
        busy = Signal(self._tags)
        present = Signal(self._depth)
        free = Signal(range(self._depth + 1), init=self._depth)
        write_pointer = Signal(pointer)
        read_pointer = Signal(pointer)

        # Allocation.
        bursts = self.allocate.payload.bursts
        taken = Signal()
        size = Signal(range(REQUEST_BURSTS * BURST_BEATS + 1))
        for tag in reversed(range(self._tags)):
            with m.If(~busy[tag]):
                m.d.comb += self.tag.eq(tag)
        m.d.comb += [
            size.eq(bursts * BURST_BEATS),
            self.allocate.ready.eq(~busy.all() & (free >= size)),
            taken.eq(self.allocate.valid & self.allocate.ready),
            self.waiting.eq(free != self._depth),
        ]
        start_tag = Signal(self._tags)
        m.d.comb += start_tag.eq(taken << self.tag)
        with m.If(taken):
            m.d.sync += [
                write_pointer.eq(write_pointer + size),
                start[self.tag].eq(write_pointer),
                last_beat[self.tag].eq(size - 1),
                more_beats[self.tag].eq(size - 1),
                final[self.tag].eq(self.allocate.payload.final),
            ]

        # Arrival.
        m.submodules.ring = ring = Memory(shape=BEAT, depth=self._depth, init=[])
        write = ring.write_port()
        read = ring.read_port(transparent_for=())
        answer = self.response.payload
        end = Signal()
        end_tag = Signal(self._tags)
        arrived = Signal(self._depth)
        m.d.comb += [
            self.response.ready.eq(1),
            end.eq(more_beats[answer.tag] == 0),
            end_tag.eq((self.response.valid & end) << answer.tag),
            write.en.eq(self.response.valid),
            write.addr.eq(start[answer.tag] + answer.beat),
            write.data.data.eq(answer.data),
            write.data.error.eq(answer.error),
            write.data.last.eq(final[answer.tag] & (answer.beat == last_beat[answer.tag])),
            arrived.eq(self.response.valid << write.addr),
        ]
        with m.If(self.response.valid):
            m.d.sync += more_beats[answer.tag].eq(more_beats[answer.tag] - 1)
        m.d.sync += busy.eq((busy & ~end_tag) | start_tag)

        # Departure: the read port's output register is the register of ``beats``.
        advance = Signal()
        departing = Signal()
        departed = Signal(self._depth)
        m.d.comb += [
            advance.eq(~self.beats.valid | self.beats.ready),
            departing.eq(advance & present.bit_select(read_pointer, 1)),
            departed.eq(departing << read_pointer),
            read.addr.eq(read_pointer),
            read.en.eq(departing),
            self.beats.payload.eq(read.data),
        ]
        with m.If(advance):
            m.d.sync += self.beats.valid.eq(departing)
        m.d.sync += [
            read_pointer.eq(read_pointer + departing),
            present.eq((present & ~departed) | arrived),
            free.eq(free - Mux(taken, size, 0) + departing),
        ]
        return m
