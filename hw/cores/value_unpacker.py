"""Beats of a value record become steps of the PE array."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import BEAT_BYTES, AttentionConfig
from hw.cores.gearbox import Gearbox
from hw.cores.lanes import LANES
from hw.cores.payloads import BEAT, PAIRS, segment_header, work_layout
from hw.formats import VALUE_BASE_BITS, VALUE_BITS, KVFormat, StepKind
from hw.streams import StreamFIFO


class ValueUnpacker(wiring.Component):
    """Latency 1 cycle from a scale beat; one beat a cycle, a step of four channels per scale beat.

    The code section of a record comes first and is held in a queue. Each beat of scales that
    follows then meets the codes of its four channels, so that products and scales never wait for
    each other behind the PE array.

    Parameters
    ----------
    config : AttentionConfig

    Members
    -------
    header : stream of ``segment_header``; taken with the record's last step
    beats : stream of ``BEAT``
    work : stream of ``work_layout``
    """

    def __init__(self, config: AttentionConfig) -> None:
        self._config = config
        super().__init__(
            {
                "header": In(stream.Signature(segment_header(config))),
                "beats": In(stream.Signature(BEAT)),
                "work": Out(stream.Signature(work_layout(config))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, layout = self._config, KVFormat(self._config)
        beats, work = self.beats, self.work
        code_beats = layout.value_code_bytes // BEAT_BYTES
        scale_beats = layout.value_scale_bytes // BEAT_BYTES
        quads = config.head_dim // LANES

        m.submodules.codes = codes = StreamFIFO(BEAT, depth=code_beats + 2)
        m.submodules.scales = scales = StreamFIFO(BEAT, depth=2)
        m.submodules.gearbox = gearbox = Gearbox(
            element_bits=LANES * layout.value_channel_bits, elements=quads
        )
        wiring.connect(m, codes.output, gearbox.beats)

        # Which section a beat belongs to follows from its place in the record.
        place = Signal(range(code_beats + scale_beats + 1))
        in_codes = place < code_beats
        in_scales = ~in_codes & (place < code_beats + scale_beats)
        m.d.comb += [
            codes.input.payload.eq(beats.payload),
            codes.input.payload.last.eq(place == code_beats - 1),
            codes.input.valid.eq(beats.valid & in_codes),
            scales.input.payload.eq(beats.payload),
            scales.input.valid.eq(beats.valid & in_scales),
        ]
        with m.If(in_codes):
            m.d.comb += beats.ready.eq(codes.input.ready)
        with m.Elif(in_scales):
            m.d.comb += beats.ready.eq(scales.input.ready)
        with m.Else():
            m.d.comb += beats.ready.eq(1)
        with m.If(beats.valid & beats.ready):
            # Saturates in the padding, whatever its length.
            with m.If(place != code_beats + scale_beats):
                m.d.sync += place.eq(place + 1)
            with m.If(beats.payload.last):
                m.d.sync += place.eq(0)

        channel = data.StructLayout(
            {
                "codes": data.ArrayLayout(VALUE_BITS, config.chunk - 1),
                "mask": config.chunk - 1,
                "base": VALUE_BASE_BITS,
            }
        )
        quad = data.View(data.ArrayLayout(channel, LANES), gearbox.elements.payload.data)
        digits = [
            Cat(quad[i].codes.as_value(), *(Cat(bit, 0) for bit in quad[i].mask), quad[i].base)
            for i in range(LANES)
        ]
        ready = self.header.valid & gearbox.elements.valid & scales.output.valid
        step = work.valid & work.ready
        m.d.comb += [
            work.valid.eq(ready),
            gearbox.elements.ready.eq(step),
            scales.output.ready.eq(step),
            self.header.ready.eq(step & work.payload.last),
            work.payload.kind.eq(StepKind.VALUES),
            work.payload.key.slot.eq(self.header.payload.slot),
            work.payload.digits.eq(Cat(*digits)),
            work.payload.pairs.eq(data.View(PAIRS, scales.output.payload.data)),
            work.payload.last.eq(gearbox.elements.payload.last),
        ]
        return m
