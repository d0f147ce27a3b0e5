"""Writes of an AXI4 master: parts of requests to AW, words to W, and B to the ends of writes."""

from amaranth.hdl import Array, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import BEAT_BITS, BEAT_BYTES
from hw.counters import Counter
from hw.memory.axi.page_split import part_layout
from hw.memory.axi.port import CACHE_BITS, INCREMENTING, RESPONSE_ERROR_BIT, axi_port
from hw.memory.axi.slots import Slots
from hw.memory.channel_port import channel_written
from hw.memory.port import BURST_BEATS, REQUEST_BURSTS, write_data
from hw.streams import StreamFIFO, StreamRegister

#: Bursts whose words may be outstanding at W.
BURSTS_AHEAD = 8


class WriteSide(wiring.Component):
    """Latency 1 cycle, part to AW, word to W and B to the end; one part and one word a cycle.

    W follows AW's order, but does not wait for it. Both parts of a request have the same ID; the
    write has ended when both of their responses have come, with an error if either has one.

    Parameters
    ----------
    id_bits : int
        Bits of the requests' ``id``.
    gear : int
        Beats of 16 bytes in a word: 1 or 2.
    axi_id_bits : int
        Bits of an ID on the bus; 2**axi_id_bits requests may be under way.

    Members
    -------
    parts : In(stream of part_layout)
    data : In(stream of write_data)
        The words of the parts, in order.
    written : Out(stream of channel_written)
        Must always be ready.
    aw*, w*, b*
        The signals of AXI4. ``bready`` is always 1.
    counters
        Bursts, words, responses with an error, and responses with an ID that is not under way,
        which are dropped.
    """

    def __init__(self, id_bits: int, *, gear: int, axi_id_bits: int) -> None:
        self._id_bits = id_bits
        self._gear = gear
        self._axi_id_bits = axi_id_bits
        self.counters = (
            Counter("write_bursts", "bursts that AW took", unit="bursts"),
            Counter("write_words", "words that W took", unit="words"),
            Counter("write_errors", "responses of B with SLVERR or DECERR", unit="responses"),
            Counter("write_strays", "responses of B with an ID not under way", unit="responses"),
        )
        port = axi_port(axi_id_bits, gear)
        super().__init__(
            {
                "parts": In(stream.Signature(part_layout(id_bits))),
                "data": In(stream.Signature(write_data(gear))),
                "written": Out(stream.Signature(channel_written(id_bits))),
                **{name: member for name, member in port.items() if name[0] in "wb"},
                **{name: member for name, member in port.items() if name.startswith("aw")},
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        words_of_burst = BURST_BEATS // self._gear
        words = range(REQUEST_BURSTS * words_of_burst)
        m.submodules.slots = slots = Slots(self._axi_id_bits)
        m.submodules.lengths = lengths = StreamFIFO(len(words).bit_length() - 1, depth=BURSTS_AHEAD)
        part = self.parts.payload
        free, send = Signal(), Signal()
        words_less_one = Signal(words)
        m.d.comb += [
            words_less_one.eq((part.bursts_less_one + 1) * words_of_burst - 1),
            free.eq(~self.awvalid | self.awready),
            self.parts.ready.eq(free & slots.available & lengths.input.ready),
            send.eq(self.parts.valid & self.parts.ready),
            slots.first.eq(part.first),
            slots.take.eq(send),
            lengths.input.valid.eq(send),
            lengths.input.payload.eq(words_less_one),
            self.awsize.eq((self._gear * 16).bit_length() - 1),
            self.awburst.eq(INCREMENTING),
            self.awcache.eq(CACHE_BITS),
        ]
        with m.If(free):
            m.d.sync += [
                self.awvalid.eq(send),
                self.awid.eq(slots.slot),
                self.awaddr.eq(part.address),
                self.awlen.eq(words_less_one),
            ]
        self._send_words(m, words, lengths)
        self._end_writes(m, slots, send)

        bursts, word_count, _, _ = (counter.event for counter in self.counters)
        m.d.comb += [
            bursts.eq(self.awvalid & self.awready),
            word_count.eq(self.wvalid & self.wready),
        ]
        return m

    def _send_words(self, m: Module, words: range, lengths: StreamFIFO) -> None:
        """Give every burst its words, the last one marked."""
        layout = data.StructLayout(
            {
                "data": self._gear * BEAT_BITS,
                "strobe": self._gear * BEAT_BYTES,
                "last": 1,
            }
        )
        m.submodules.register = register = StreamRegister(layout)
        word = Signal(words)
        moved = Signal()
        into, out = register.input, register.output
        m.d.comb += [
            into.payload.data.eq(self.data.payload.data),
            into.payload.strobe.eq(self.data.payload.enable),
            into.payload.last.eq(word == lengths.output.payload),
            into.valid.eq(self.data.valid & lengths.output.valid),
            self.data.ready.eq(into.ready & lengths.output.valid),
            moved.eq(into.valid & into.ready),
            lengths.output.ready.eq(moved & into.payload.last),
            self.wdata.eq(out.payload.data),
            self.wstrb.eq(out.payload.strobe),
            self.wlast.eq(out.payload.last),
            self.wvalid.eq(out.valid),
            out.ready.eq(self.wready),
        ]
        with m.If(moved):
            m.d.sync += word.eq(word + 1)
            with m.If(into.payload.last):
                m.d.sync += word.eq(0)

    def _end_writes(self, m: Module, slots: Slots, send: Signal) -> None:
        """Join the responses of a request's parts."""
        part = self.parts.payload
        count = range(1 << self._axi_id_bits)
        owner = Array(Signal(self._id_bits, name=f"owner_{i}") for i in count)
        more = Array(Signal(name=f"more_{i}") for i in count)
        failed = Array(Signal(name=f"failed_{i}") for i in count)
        known, error = Signal(), Signal()
        m.d.comb += [
            self.bready.eq(1),
            known.eq(self.bvalid & slots.busy.bit_select(self.bid, 1)),
            error.eq(self.bresp[RESPONSE_ERROR_BIT]),
            slots.give_back.eq(known & ~more[self.bid]),
            slots.back.eq(self.bid),
        ]
        m.d.sync += [
            self.written.valid.eq(slots.give_back),
            self.written.payload.id.eq(owner[self.bid]),
            self.written.payload.error.eq(error | failed[self.bid]),
        ]
        with m.If(known):
            m.d.sync += [more[self.bid].eq(0), failed[self.bid].eq(error)]
        with m.If(send & part.first):
            m.d.sync += [
                owner[slots.slot].eq(part.id),
                more[slots.slot].eq(~part.last),
                failed[slots.slot].eq(0),
            ]
        _, _, errors, strays = (counter.event for counter in self.counters)
        m.d.comb += [errors.eq(known & error), strays.eq(self.bvalid & ~known)]
