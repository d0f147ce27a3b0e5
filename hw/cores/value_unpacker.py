"""Beats of a value record become steps of the PE array."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import BEAT_BYTES, AttentionConfig
from hw.cores.gearbox import Gearbox
from hw.cores.lanes import LANES
from hw.cores.payloads import BEAT, PAIRS, segment_header, work_layout
from hw.formats import KVFormat, StepKind
from hw.streams import StreamFIFO


class ValueUnpacker(wiring.Component):
    """Latency 1 cycle from a scale beat; one beat a cycle, a step of four channels per scale beat.

    Chunks of 16 tokens take two steps of two channels per scale beat, and codes of 4 bits two steps
    (lower digits and mask, upper digits) instead of each, with a latency of 2; the scales of a
    record that have come before their steps wait in a queue, so that the beats of the next segment
    need not.

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

        m.submodules.codes = codes = StreamFIFO(BEAT, depth=code_beats + 2)
        elements_per_quad = max(1, config.chunk // 8)
        planes = config.value_bits // 2
        steps_per_quad = elements_per_quad * planes
        channels = LANES // elements_per_quad
        waiting = scale_beats - scale_beats // steps_per_quad
        m.submodules.scales = scales = StreamFIFO(BEAT, depth=waiting + 2)
        m.submodules.gearbox = gearbox = Gearbox(
            element_bits=channels * layout.value_channel_bits,
            elements=config.head_dim // channels,
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
                "codes": data.ArrayLayout(config.value_bits, config.chunk - 1),
                "mask": config.chunk - 1,
                "base": config.value_base_bits,
            }
        )
        element = data.View(data.ArrayLayout(channel, channels), gearbox.elements.payload.data)
        quad_step = Signal(range(max(2, steps_per_quad)))
        quad_end: Value = Const(1)
        element_end: Value = Const(1)
        upper: Value = Const(0, 1)
        if steps_per_quad > 1:
            quad_end = quad_step == steps_per_quad - 1
            with m.If(work.valid & work.ready):
                m.d.sync += quad_step.eq(Mux(quad_end, 0, quad_step + 1))
            m.d.comb += work.payload.key.group_end.eq(quad_end)
        if planes > 1:
            element_end = upper = quad_step[0]
        digits = Cat(*(_digits(element[i], 0) for i in range(channels)))
        if planes > 1:
            upper_digits = Cat(*(_digits(element[i], 1) for i in range(channels)))
            digits = Mux(upper, upper_digits, digits)
        ready = self.header.valid & gearbox.elements.valid & scales.output.valid
        step = work.valid & work.ready
        m.d.comb += [
            work.valid.eq(ready),
            gearbox.elements.ready.eq(step & element_end),
            scales.output.ready.eq(step & quad_end),
            self.header.ready.eq(step & work.payload.last),
            work.payload.kind.eq(StepKind.VALUES),
            work.payload.key.slot.eq(self.header.payload.slot),
            work.payload.digits.eq(digits),
            work.payload.upper.eq(upper),
            work.payload.pairs.eq(data.View(PAIRS, scales.output.payload.data)),
            work.payload.last.eq(gearbox.elements.payload.last & element_end),
        ]
        return m


def _digits(channel: data.View, plane: int) -> Value:
    """One step's digits of one channel, 16 or (chunks of 16 tokens) 32, see docs/contracts.md."""
    codes = [channel.codes[i][2 * plane : 2 * plane + 2] for i in range(len(channel.mask))]
    mask = [Cat(bit if plane == 0 else Const(0, 1), 0) for bit in channel.mask]
    missing = [Const(0, 2)] * max(0, 7 - len(codes))
    base = channel.base[4 * plane : 4 * plane + 4]
    first = [*codes[:7], *missing, *mask[:7], *missing, base]
    return Cat(*first, *codes[7:14], *mask[7:14], *codes[14:], *mask[14:])
