"""Checked writes: the requests of a writer, their data, and how they ended."""

from amaranth.hdl import Elaboratable, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.memory.kv_mmu.config import MmuConfig
from hw.memory.kv_mmu.page_splitter import PageSplitter
from hw.memory.kv_mmu.shared_translator import translation
from hw.memory.port import BURST_BEATS, REQUEST_BURSTS, port_request, write_port
from hw.streams import StreamFIFO, StreamRegister

_BEATS = REQUEST_BURSTS * BURST_BEATS
#: Parts whose data are still to come.
_DECIDED = 4


class WritePath(wiring.Component):
    """One request per cycle, one beat per cycle; 4 cycles from a request to the memory.

    A request is cut at the end of a page and its parts are checked. Data pass once their part was
    granted and the memory took it; those of a refused part are dropped. A request of which a part
    was refused, or failed in the memory, ends with an error; the other part may be written.

    Parameters
    ----------
    config
    tag_bits
        Bits of the writer's tags; those at the memory have one more.

    Members
    -------
    writer : In(write_port)
        Virtual addresses. A tag is free again with its ``written``.
    memory : Out(write_port)
    translate : Out(translation)
    counters
    """

    def __init__(self, config: MmuConfig, *, tag_bits: int) -> None:
        self._config = config
        self._tag_bits = tag_bits
        self._splitter = PageSplitter(config, tag_bits=tag_bits)
        self.counters = self._splitter.counters
        super().__init__(
            {
                "writer": In(write_port(tag_bits)),
                "memory": Out(write_port(tag_bits + 1)),
                "translate": Out(translation(tag_bits + 1)),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.splitter = splitter = self._splitter
        m.submodules.taken = taken = StreamRegister(port_request(self._tag_bits))
        connect(m, flipped(self.writer.request), taken.input)
        connect(m, taken.output, splitter.request)
        # A part is asked for when there is room for its decision: a writer whose data are late then
        # waits here, and not in the translator, where it would hold up the reads.
        room = Signal(range(_DECIDED + 1), init=_DECIDED)
        request = self.translate.request
        m.d.comb += [
            request.payload.eq(splitter.part.payload),
            request.valid.eq(splitter.part.valid & (room != 0)),
            splitter.part.ready.eq(request.ready & (room != 0)),
        ]
        granted, refused = self.translate.granted, self.translate.refused
        asked, written = self.memory.request, self.memory.written

        # Decisions, in the order of the parts, steer the data.
        decision = data.StructLayout({"passes": 1, "last": range(_BEATS)})
        m.submodules.decisions = decisions = StreamFIFO(decision, depth=_DECIDED)
        decided = decisions.input
        part = Mux(granted.valid, granted.payload.bursts_less_one, refused.payload.bursts_less_one)
        ends = Signal()
        m.d.comb += [
            decided.payload.passes.eq(granted.valid),
            decided.payload.last.eq((part + 1) * BURST_BEATS - 1),
            decided.valid.eq((granted.valid & asked.ready) | ends),
            asked.valid.eq(granted.valid),
            asked.payload.eq(granted.payload),
            granted.ready.eq(asked.ready),
            # A refused part ends in a cycle in which none ends in the memory.
            ends.eq(refused.valid & ~written.valid),
            refused.ready.eq(ends),
        ]
        current = decisions.output
        beat = Signal(range(_BEATS))
        source, sink = self.writer.data, self.memory.data
        moves = source.valid & source.ready
        m.d.sync += room.eq(room - (request.valid & request.ready) + current.ready)
        m.d.comb += [
            sink.payload.eq(source.payload),
            sink.valid.eq(source.valid & current.valid & current.payload.passes),
            source.ready.eq(current.valid & (sink.ready | ~current.payload.passes)),
            current.ready.eq(moves & (beat == current.payload.last)),
        ]
        with m.If(moves):
            m.d.sync += beat.eq(Mux(current.ready, 0, beat + 1))

        # The end of a request is the end of its last part. A bit for each tag.
        tags = 1 << self._tag_bits
        two, failed = Signal(tags), Signal(tags)
        start = splitter.part.payload.tag[: self._tag_bits]
        begins = request.valid & request.ready & splitter.first
        ended = written.valid | ends
        tag = Mux(written.valid, written.payload.tag, refused.payload.tag)[: self._tag_bits]
        error = Mux(written.valid, written.payload.error, 1)
        m.d.comb += written.ready.eq(1)
        m.d.sync += [
            two.eq(
                (two & ~(begins << start | ended << tag)) | (begins & splitter.crosses) << start
            ),
            failed.eq((failed & ~(begins << start)) | (ended & error) << tag),
            self.writer.written.valid.eq(ended & ~two.bit_select(tag, 1)),
        ]
        with m.If(ended):
            m.d.sync += [
                self.writer.written.payload.tag.eq(tag),
                self.writer.written.payload.error.eq(error | failed.bit_select(tag, 1)),
            ]
        return m
