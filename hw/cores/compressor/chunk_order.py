"""The order of a chunk by saliency."""

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import BEAT_BITS, AttentionConfig
from hw.cores.compressor.payloads import chunk_order
from hw.formats import SALIENCY_BITS
from hw.streams import StreamFIFO

_LANES = BEAT_BITS // SALIENCY_BITS


class ChunkOrder(wiring.Component):
    """Tokens of a chunk by saliency, largest first, equal ones by place.

    A chunk of C tokens takes C cycles, and one until the order is taken; it is there C + 1 cycles
    after the first beat. The beats of a chunk are taken as they come. A sorted list takes a token a
    cycle: it goes behind all that are not smaller.

    Parameters
    ----------
    config
        ``chunk``.

    Members
    -------
    saliencies : In(stream)
        ``C / 4`` beats of four unsigned 32-bit numbers, token after token.
    order : Out(stream)
        For each rank the place of its token.
    """

    def __init__(self, config: AttentionConfig) -> None:
        self._chunk = config.chunk
        super().__init__(
            {
                "saliencies": In(stream.Signature(data.ArrayLayout(SALIENCY_BITS, _LANES))),
                "order": Out(stream.Signature(chunk_order(config))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        beat = self.saliencies.payload.shape()
        m.submodules.beats = beats = StreamFIFO(beat, depth=max(2, self._chunk // _LANES))
        wiring.connect(m, wiring.flipped(self.saliencies), beats.input)
        saliencies = beats.output
        place = Signal(range(self._chunk))
        full = Signal()
        take = Signal()
        number = Signal(SALIENCY_BITS)
        m.d.comb += [
            take.eq(saliencies.valid & ~full),
            number.eq(saliencies.payload[place[: _LANES.bit_length() - 1]]),
            saliencies.ready.eq(~full & (place % _LANES == _LANES - 1)),
            self.order.valid.eq(full),
        ]
        with m.If(take):
            m.d.sync += [place.eq(place + 1), full.eq(place == self._chunk - 1)]

        entry = data.StructLayout({"saliency": SALIENCY_BITS, "place": place.shape(), "used": 1})
        new = Signal(entry)
        m.d.comb += [new.saliency.eq(number), new.place.eq(place), new.used.eq(1)]
        before: Value = new.as_value()
        stays_before: Value | None = None
        for rank in range(self._chunk):
            held = Signal(entry, name=f"entry_{rank}")
            stays = Signal(name=f"stays_{rank}")
            m.d.comb += [
                stays.eq(held.used & (held.saliency >= number)),
                self.order.payload[rank].eq(held.place),
            ]
            # Behind the new one everything moves by one.
            moved = before if stays_before is None else Mux(stays_before, new.as_value(), before)
            with m.If(take & ~stays):
                m.d.sync += held.eq(moved)
            before, stays_before = held.as_value(), stays
            with m.If(self.order.valid & self.order.ready):
                m.d.sync += [held.used.eq(0), full.eq(0)]
        return m
