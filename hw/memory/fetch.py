"""Fetches segments of memory as an ordered stream of beats."""

from amaranth.hdl import Elaboratable, Module, Mux, Signal, ValueLike
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.config import BURST_BYTES, AttentionConfig
from hw.cores.payloads import BEAT
from hw.counters import Counter
from hw.memory.port import ADDRESS_BITS, REQUEST_BURSTS, memory_port
from hw.memory.reorder_buffer import ReorderBuffer

#: A run of bursts: byte address (burst-aligned) and 1 to 511 bursts; no section of a record has
#: more than 256.
SEGMENT_LAYOUT = data.StructLayout({"address": ADDRESS_BITS, "bursts": 9})


class Fetch(wiring.Component):
    """Latency 2 cycles, segment to request and answer to beat; one request and one beat a cycle.

    A segment is cut into requests of at most 16 bursts, and at page boundaries. A request goes out
    when a tag is free and the reorder buffer has room for its whole answer, so the memory may
    answer at any time, in any order. The beats leave in the order of the segments.

    Parameters
    ----------
    config
        ``memory_tags`` and ``reorder_beats`` size the buffer.
    page_bytes
        No request crosses a multiple of this: a power of two, at least 32. None: they may.

    Members
    -------
    segments : In(stream of SEGMENT_LAYOUT)
        What to fetch, 1 to 511 bursts each (0 is not legal).
    memory : Out(memory_port)
        The memory port; ``memory.response.ready`` is always 1. Reset both sides together: answers
        that come after a reset of this side alone would be taken for those of new requests.
    beats : Out(stream of BEAT)
        The beats of the segments; ``last`` marks the last one of each.
    counters
        Counts requests, beats, and cycles in which the reader waits for a beat on order.

    Raises
    ------
    ValueError
        ``page_bytes`` is not legal.
    """

    def __init__(self, config: AttentionConfig, page_bytes: int | None = None) -> None:
        if page_bytes is not None and (
            not isinstance(page_bytes, int)
            or not BURST_BYTES <= page_bytes <= 1 << ADDRESS_BITS
            or page_bytes & (page_bytes - 1)
        ):
            raise ValueError(
                f"page_bytes must be None or a power of two from {BURST_BYTES} to 2**32, "
                f"not {page_bytes!r}"
            )
        self._config = config
        self._page_bytes = page_bytes
        self.counters = (
            Counter("requests", "requests that the memory took", unit="requests"),
            Counter("beats", "beats handed to the reader", unit="beats"),
            Counter("starved", "cycles in which the reader was ready for a beat still on order"),
        )
        super().__init__(
            {
                "segments": In(stream.Signature(SEGMENT_LAYOUT)),
                "memory": Out(memory_port(config)),
                "beats": Out(stream.Signature(BEAT)),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.buffer = buffer = ReorderBuffer(self._config)
        segment = Signal(SEGMENT_LAYOUT)
        active = Signal()
        step = Signal()
        final = Signal()
        bursts = Signal(range(REQUEST_BURSTS + 1))
        request = self.memory.request
        free_to_send = Signal()

        longest: ValueLike = REQUEST_BURSTS
        if self._page_bytes is not None:
            # Bursts from the address to the end of its page.
            page_bursts = self._page_bytes // BURST_BYTES
            to_end = page_bursts - (segment.address // BURST_BYTES) % page_bursts
            longest = Mux(to_end < REQUEST_BURSTS, to_end, REQUEST_BURSTS)
        m.d.comb += [
            final.eq(segment.bursts <= longest),
            bursts.eq(Mux(final, segment.bursts, longest)),
            free_to_send.eq(~request.valid | request.ready),
            buffer.allocate.payload.bursts.eq(bursts),
            buffer.allocate.payload.final.eq(final),
            buffer.allocate.valid.eq(active & free_to_send),
            step.eq(buffer.allocate.valid & buffer.allocate.ready),
            self.segments.ready.eq(~active | (step & final)),
        ]
        with m.If(self.segments.ready):
            m.d.sync += [active.eq(self.segments.valid), segment.eq(self.segments.payload)]
        with m.Elif(step):
            m.d.sync += [
                segment.address.eq(segment.address + longest * BURST_BYTES),
                segment.bursts.eq(segment.bursts - longest),
            ]
        # The request has a register: the lowest free tag may change while the memory is not ready.
        with m.If(free_to_send):
            m.d.sync += [
                request.valid.eq(step),
                request.payload.address.eq(segment.address),
                request.payload.bursts_less_one.eq(bursts - 1),
                request.payload.tag.eq(buffer.tag),
            ]
        connect(m, flipped(self.memory.response), buffer.response)
        connect(m, buffer.beats, flipped(self.beats))

        requests, beats, starved = (counter.event for counter in self.counters)
        m.d.comb += [
            requests.eq(request.valid & request.ready),
            beats.eq(self.beats.valid & self.beats.ready),
            starved.eq(self.beats.ready & ~self.beats.valid & buffer.waiting),
        ]
        return m
