"""Cuts requests at the ends of pages and puts their answers together again."""

from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.config import BURST_BYTES
from hw.counters import Counter
from hw.memory.kv_mmu.config import MmuConfig
from hw.memory.port import BEAT_INDEX_BITS, BURST_BEATS, port_request, read_response

_BURST_SHIFT = BURST_BYTES.bit_length() - 1


class PageSplitter(wiring.Component):
    """Requests pass in the same cycle, one that crosses the end of a page takes 2; so do answers.

    A page is longer than a request, so a request has at most two parts. Their tags are that of the
    request and, above it, which part it is; the beats of the second part get the number that they
    have in the request, so they may come in any order.

    Parameters
    ----------
    config
    tag_bits
        Bits of a requester's tag; those of a part's tag are one more.

    Members
    -------
    request : In(stream of port_request)
    response : Out(stream of read_response)
        To the requester; it is always ready for what it asked for.
    part : Out(stream of port_request)
    first, crosses : Out(1)
        Whether ``part`` is the first one, and whether its request has two.
    answer : In(stream of read_response)
        Always ready.
    counters
    """

    def __init__(self, config: MmuConfig, *, tag_bits: int) -> None:
        self._config = config
        self._tag_bits = tag_bits
        self._split = Counter("split", "requests cut at the end of a page", unit="requests")
        self.counters = [self._split]
        super().__init__(
            {
                "request": In(stream.Signature(port_request(tag_bits))),
                "response": Out(stream.Signature(read_response(tag_bits))),
                "part": Out(stream.Signature(port_request(tag_bits + 1))),
                "first": Out(1),
                "crosses": Out(1),
                "answer": In(stream.Signature(read_response(tag_bits + 1))),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        shift = self._config.page_shift
        request, part = self.request.payload, self.part.payload
        bursts = request.bursts_less_one + 1
        #: Bursts of the request's page from its address on.
        room = Signal(range((1 << shift - _BURST_SHIFT) + 1))
        second = Signal()
        next_page = Cat(Const(0, shift), (request.address[shift:] + 1)[: 32 - shift])
        m.d.comb += [
            room.eq((1 << shift - _BURST_SHIFT) - request.address[_BURST_SHIFT:shift]),
            self.crosses.eq(bursts > room),
            self.first.eq(~second),
            self.part.valid.eq(self.request.valid),
            self.request.ready.eq(self.part.ready & (second | ~self.crosses)),
            part.address.eq(Mux(second, next_page, request.address)),
            part.bursts_less_one.eq(
                Mux(second, bursts - room, Mux(self.crosses, room, bursts)) - 1
            ),
            part.tag.eq(Cat(request.tag, second)),
            self._split.event.eq(self.part.valid & self.part.ready & second),
        ]
        with m.If(self.part.valid & self.part.ready):
            m.d.sync += second.eq(self.crosses & ~second)

        # Per tag, the beats of the first part.
        m.submodules.before = before = Memory(
            shape=BEAT_INDEX_BITS, depth=1 << self._tag_bits, init=[]
        )
        keep, kept = before.write_port(), before.read_port(domain="comb")
        answer = self.answer.payload
        tag = answer.tag[: self._tag_bits]
        m.d.comb += [
            keep.en.eq(self.part.valid & self.part.ready & ~second),
            keep.addr.eq(request.tag),
            keep.data.eq(room * BURST_BEATS),
            kept.addr.eq(tag),
        ]
        m.d.comb += [
            self.answer.ready.eq(1),
            self.response.valid.eq(self.answer.valid),
            self.response.payload.data.eq(answer.data),
            self.response.payload.tag.eq(tag),
            self.response.payload.beat.eq(
                answer.beat + Mux(answer.tag[self._tag_bits], kept.data, 0)
            ),
            self.response.payload.error.eq(answer.error),
        ]
        return m
