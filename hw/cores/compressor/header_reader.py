"""Sections of the headers of tail blocks."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.arithmetic import fp16_is_finite
from hw.config import BEAT_BITS, BEAT_BYTES, AttentionConfig
from hw.cores.payloads import BEAT
from hw.formats import FP16_BITS, SALIENCY_BITS, KVFormat

_NUMBERS = BEAT_BITS // FP16_BITS


class HeaderReader(wiring.Component):
    """Hands out the sections of headers; no latency, one beat a cycle.

    Parameters
    ----------
    config
        Gives the sizes of the sections.

    Members
    -------
    beats : In(stream of BEAT)
        Headers of tail blocks, whole bursts each.
    saliencies : Out(stream)
        Four unsigned 32-bit numbers a beat.
    pairs, value_scales : Out(stream of 128 bits)
        Beats of the scales of keys, and of values.
    not_finite : Out(1)
        A scale or a minimum of the beat that moves is an infinity or a NaN.
    """

    def __init__(self, config: AttentionConfig) -> None:
        layout = KVFormat(config)
        sizes = (layout.saliency_bytes, layout.key_scale_bytes, layout.tail_scale_bytes)
        self._beats = tuple(size // BEAT_BYTES for size in sizes)
        self._total = layout.tail_header_bytes // BEAT_BYTES
        #: Value scales of a beat; what lies behind them has no meaning.
        self._scales = min(config.chunk, _NUMBERS)
        numbers = data.ArrayLayout(SALIENCY_BITS, BEAT_BITS // SALIENCY_BITS)
        super().__init__(
            {
                "beats": In(stream.Signature(BEAT)),
                "saliencies": Out(stream.Signature(numbers)),
                "pairs": Out(stream.Signature(BEAT_BITS)),
                "value_scales": Out(stream.Signature(BEAT_BITS)),
                "not_finite": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        beats = self.beats
        place = Signal(range(self._total))
        ready: Value = Const(1, 1)
        here = []
        end = 0
        for section, count in zip(
            (self.saliencies, self.pairs, self.value_scales), self._beats, strict=True
        ):
            now = Signal(name=f"section_{end}")
            m.d.comb += [
                now.eq((place >= end) & (place < end + count)),
                section.valid.eq(beats.valid & now),
                Value.cast(section.payload).eq(beats.p.data),
            ]
            ready = Mux(now, section.ready, ready)
            here.append(now)
            end += count
        halves = [beats.p.data.word_select(i, FP16_BITS) for i in range(_NUMBERS)]
        bad = [~fp16_is_finite(half) for half in halves]
        _, pairs, value_scales = here
        moves = beats.valid & beats.ready
        m.d.comb += [
            beats.ready.eq(ready),
            self.not_finite.eq(
                moves & ((pairs & Cat(bad).any()) | (value_scales & Cat(bad[: self._scales]).any()))
            ),
        ]
        with m.If(moves):
            m.d.sync += place.eq(Mux(place == self._total - 1, 0, place + 1))
        return m
