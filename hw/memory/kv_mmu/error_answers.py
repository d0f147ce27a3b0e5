"""Answers refused requests beside the memory's answers."""

from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.memory.port import BEAT_INDEX_BITS, BURST_BEATS, port_request, read_response


class ErrorAnswers(wiring.Component):
    """Answers leave 1 cycle after they came; those of refused requests in the cycles between.

    The memory's answers cannot wait, and do not. A requester has room for a bounded number of
    beats; while one of its requests is not answered, the others run out, so there is a gap.

    Parameters
    ----------
    tag_bits
        Bits of a tag.

    Members
    -------
    refused : In(stream of port_request)
        Taken with its last beat.
    answer : In(stream of read_response)
        Of the memory; always ready.
    response : Out(stream of read_response)
        To the requester, which is always ready.
    """

    def __init__(self, *, tag_bits: int) -> None:
        super().__init__(
            {
                "refused": In(stream.Signature(port_request(tag_bits))),
                "answer": In(stream.Signature(read_response(tag_bits))),
                "response": Out(stream.Signature(read_response(tag_bits))),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        beat = Signal(BEAT_INDEX_BITS)
        error = Signal(self.answer.payload.shape())
        sends = Signal()
        request = self.refused.payload
        m.d.comb += [
            self.answer.ready.eq(1),
            sends.eq(self.refused.valid & ~self.answer.valid),
            error.tag.eq(request.tag),
            error.beat.eq(beat),
            error.error.eq(1),
            self.refused.ready.eq(
                sends & (beat == Cat(Const(1).replicate(BURST_BEATS // 2), request.bursts_less_one))
            ),
        ]
        m.d.sync += [
            self.response.valid.eq(self.answer.valid | sends),
            self.response.payload.eq(Mux(self.answer.valid, self.answer.payload, error)),
        ]
        with m.If(sends):
            m.d.sync += beat.eq(Mux(self.refused.ready, 0, beat + 1))
        return m
