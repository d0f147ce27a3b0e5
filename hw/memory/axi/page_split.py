"""Cuts requests where AXI4 bursts must end."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import BURST_BYTES
from hw.memory.axi.port import PAGE_BYTES
from hw.memory.channel_port import channel_request
from hw.memory.port import ADDRESS_BITS, BURSTS_LESS_ONE_BITS, REQUEST_BURSTS


def part_layout(id_bits: int) -> data.StructLayout:
    """A request, or the part of it in one page of 4 KiB."""
    return data.StructLayout(
        {
            "address": ADDRESS_BITS,
            "bursts_less_one": BURSTS_LESS_ONE_BITS,
            #: Of the whole request.
            "request_bursts_less_one": BURSTS_LESS_ONE_BITS,
            "id": id_bits,
            "write": 1,
            #: The first part, the last one of its request; there are one or two.
            "first": 1,
            "last": 1,
        }
    )


class PageSplit(wiring.Component):
    """Latency 1 cycle; one part a cycle.

    Parameters
    ----------
    id_bits : int
        Bits of the requests' ``id``.

    Members
    -------
    requests : In(stream of channel_request)
    parts : Out(stream of part_layout)
    """

    def __init__(self, id_bits: int) -> None:
        super().__init__(
            {
                "requests": In(stream.Signature(channel_request(id_bits))),
                "parts": Out(stream.Signature(part_layout(id_bits))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        held = Signal.like(self.requests.payload)
        later = Signal()
        whole = Signal(BURSTS_LESS_ONE_BITS)
        page_bursts = PAGE_BYTES // BURST_BYTES
        to_end = Signal(range(page_bursts + 1))
        size_less_one = Signal(BURSTS_LESS_ONE_BITS)
        part = self.parts.payload
        step = Signal()
        m.d.comb += [
            to_end.eq(page_bursts - (held.address // BURST_BYTES) % page_bursts),
            part.last.eq(held.bursts_less_one < to_end),
            size_less_one.eq(Mux(part.last, held.bursts_less_one, to_end - 1)),
            part.address.eq(held.address),
            part.bursts_less_one.eq(size_less_one),
            part.request_bursts_less_one.eq(whole),
            part.id.eq(held.id),
            part.write.eq(held.write),
            part.first.eq(~later),
            step.eq(self.parts.valid & self.parts.ready),
            self.requests.ready.eq(~self.parts.valid | (step & part.last)),
        ]
        with m.If(self.requests.ready):
            m.d.sync += [
                self.parts.valid.eq(self.requests.valid),
                held.eq(self.requests.payload),
                whole.eq(self.requests.payload.bursts_less_one),
                later.eq(0),
            ]
        with m.Elif(step):
            taken = Signal(range(REQUEST_BURSTS + 1))
            m.d.comb += taken.eq(size_less_one + 1)
            m.d.sync += [
                held.address.eq(held.address + taken * BURST_BYTES),
                held.bursts_less_one.eq(held.bursts_less_one - taken),
                later.eq(1),
            ]
        return m
