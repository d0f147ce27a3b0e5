"""Reads of an AXI4 master: parts of requests to AR, and R to answers."""

from amaranth.hdl import Array, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.counters import Counter
from hw.memory.axi.page_split import part_layout
from hw.memory.axi.port import CACHE_BITS, INCREMENTING, RESPONSE_ERROR_BIT, axi_port
from hw.memory.axi.slots import Slots
from hw.memory.channel_port import channel_response
from hw.memory.port import BEAT_INDEX_BITS, BURST_BEATS, REQUEST_BURSTS


class ReadSide(wiring.Component):
    """Latency 1 cycle, part to AR and R to answer; one part and one word a cycle.

    Both parts of a request have the same ID, so their words come in order; those of different IDs
    may come in any order and mixed.

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
    response : Out(stream of channel_response)
        Must always be ready.
    ar*, r*
        The signals of AXI4. ``rready`` is always 1.
    counters
        Bursts, words, words with an error, and words with an ID that is not under way, which are
        dropped.
    """

    def __init__(self, id_bits: int, *, gear: int, axi_id_bits: int) -> None:
        self._id_bits = id_bits
        self._gear = gear
        self._axi_id_bits = axi_id_bits
        self.counters = (
            Counter("read_bursts", "bursts that AR took", unit="bursts"),
            Counter("read_words", "words that R brought", unit="words"),
            Counter("read_errors", "words of R with SLVERR or DECERR", unit="words"),
            Counter("read_strays", "words of R with an ID that is not under way", unit="words"),
        )
        port = axi_port(axi_id_bits, gear)
        super().__init__(
            {
                "parts": In(stream.Signature(part_layout(id_bits))),
                "response": Out(stream.Signature(channel_response(id_bits, gear))),
                **{name: member for name, member in port.items() if name.startswith(("ar", "r"))},
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        words_of_burst = BURST_BEATS // self._gear
        m.submodules.slots = slots = Slots(self._axi_id_bits)
        part = self.parts.payload
        free, send = Signal(), Signal()
        m.d.comb += [
            free.eq(~self.arvalid | self.arready),
            self.parts.ready.eq(free & slots.available),
            send.eq(self.parts.valid & self.parts.ready),
            slots.first.eq(part.first),
            slots.take.eq(send),
            self.arsize.eq((self._gear * 16).bit_length() - 1),
            self.arburst.eq(INCREMENTING),
            self.arcache.eq(CACHE_BITS),
        ]
        with m.If(free):
            m.d.sync += [
                self.arvalid.eq(send),
                self.arid.eq(slots.slot),
                self.araddr.eq(part.address),
                self.arlen.eq((part.bursts_less_one + 1) * words_of_burst - 1),
            ]

        # Per slot: whose words come, which is the next one, and how many come after it.
        count = range(1 << self._axi_id_bits)
        longest = range(REQUEST_BURSTS * words_of_burst)
        owner = Array(Signal(self._id_bits, name=f"owner_{i}") for i in count)
        beat = Array(Signal(BEAT_INDEX_BITS, name=f"beat_{i}") for i in count)
        more = Array(Signal(longest, name=f"more_{i}") for i in count)
        with m.If(send & part.first):
            m.d.sync += [
                owner[slots.slot].eq(part.id),
                beat[slots.slot].eq(0),
                more[slots.slot].eq((part.request_bursts_less_one + 1) * words_of_burst - 1),
            ]
        known = Signal()
        answer = self.response
        m.d.comb += [
            self.rready.eq(1),
            known.eq(self.rvalid & slots.busy.bit_select(self.rid, 1)),
            slots.give_back.eq(known & (more[self.rid] == 0)),
            slots.back.eq(self.rid),
        ]
        m.d.sync += [
            answer.valid.eq(known),
            answer.payload.data.eq(self.rdata),
            answer.payload.id.eq(owner[self.rid]),
            answer.payload.beat.eq(beat[self.rid]),
            answer.payload.error.eq(self.rresp[RESPONSE_ERROR_BIT]),
        ]
        with m.If(known):
            m.d.sync += [
                beat[self.rid].eq(beat[self.rid] + self._gear),
                more[self.rid].eq(more[self.rid] - 1),
            ]
        bursts, words, errors, strays = (counter.event for counter in self.counters)
        m.d.comb += [
            bursts.eq(self.arvalid & self.arready),
            words.eq(known),
            errors.eq(known & self.rresp[RESPONSE_ERROR_BIT]),
            strays.eq(self.rvalid & ~known),
        ]
        return m
