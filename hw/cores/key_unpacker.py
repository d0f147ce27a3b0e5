"""Beats of a key block become steps of the PE array."""

from enum import IntEnum

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value, ValueLike
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import BEAT_BITS, BEAT_BYTES, DIGITS, AttentionConfig
from hw.cores.payloads import BEAT, PAIR, SegmentKind, segment_header, work_layout
from hw.formats import FP16_BITS, KVFormat, StepKind


class Section(IntEnum):
    """Part of a key block; a base key block has scales and codes only."""

    SALIENCY = 0
    KEY_SCALES = 1
    VALUE_SCALES = 2
    PADDING = 3
    CODES = 4


class KeyUnpacker(wiring.Component):
    """Latency 0: a code beat becomes a step in the same cycle; one beat a cycle.

    A beat of 4-bit codes holds 32 channels: two steps, where groups have 16.

    The scales of a block come first, make no steps, and are held until its last code beat has gone;
    a dense block has none. Base keys that the block has not yet are dropped; absent tokens of a
    tail block pass, marked not present, with scales of 0 whatever the memory holds.

    Parameters
    ----------
    config : AttentionConfig

    Members
    -------
    header : stream of ``segment_header``; taken with the segment's last beat
    beats : stream of ``BEAT``
    work : stream of ``work_layout``
    saliency : stream of 16 bytes, the saliency section of each tail block
    """

    def __init__(self, config: AttentionConfig) -> None:
        self._config = config
        super().__init__(
            {
                "header": In(stream.Signature(segment_header(config))),
                "beats": In(stream.Signature(BEAT)),
                "work": Out(stream.Signature(work_layout(config))),
                "saliency": Out(stream.Signature(BEAT_BITS)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, layout = self._config, KVFormat(self._config)
        beats, work, header = self.beats, self.work, self.header.payload

        pairs_per_beat = BEAT_BYTES * 8 // PAIR.size
        scale_beats = layout.key_scale_bytes // BEAT_BYTES
        value_scale_beats = layout.tail_scale_bytes // BEAT_BYTES
        saliency_beats = layout.saliency_bytes // BEAT_BYTES
        sections = layout.saliency_bytes + layout.key_scale_bytes + layout.tail_scale_bytes
        padding_beats = (layout.tail_header_bytes - sections) // BEAT_BYTES
        scales_per_beat = min(config.chunk, BEAT_BYTES * 8 // FP16_BITS)
        beats_per_key = config.head_dim // BEAT_BYTES
        beats_per_group = config.group // BEAT_BYTES
        packed = config.key_bits == 4
        # Of 4-bit codes.
        channels = min(config.group, DIGITS // 2)
        steps_per_beat = BEAT_BITS // (4 * channels)
        steps_per_key = config.head_dim // channels
        steps_per_group = config.group // channels

        pairs = Signal(data.ArrayLayout(PAIR, scale_beats * pairs_per_beat))
        value_scales = Signal(data.ArrayLayout(FP16_BITS, config.chunk))
        scale_beat = Signal(range(max(2, scale_beats, saliency_beats)))
        #: Steps of the key that have gone.
        code_step = Signal(range(2 * beats_per_key))
        key = Signal(range(config.chunk))
        #: The last code beat is through; the rest of the segment is padding.
        padding = Signal()

        tail = header.kind == SegmentKind.TAIL_KEYS
        # 16-bit codes come as two byte planes, low beat and high beat of 16 channels.
        high = code_step[0]
        beat = Signal(range(max(2, beats_per_key)))
        m.d.comb += beat.eq(Mux(header.wide, code_step >> 1, code_step))
        present = key <= header.present_less_one
        needed = ~padding & (tail | present)
        group: Value = beat // beats_per_group
        part: Value = beat % beats_per_group if beats_per_group > 1 else Const(0)
        key_end: Value = (beat == beats_per_key - 1) & (high | ~header.wide)
        group_end: Value = beat % beats_per_group == beats_per_group - 1
        kind: Value = Const(StepKind.KEYS)
        digits: Value = beats.payload.data
        #: The step takes the beat.
        beat_end: Value = Const(1)
        if packed:
            dense = header.dense
            group = Mux(dense, group, code_step // steps_per_group)
            part = Mux(dense, part, code_step % steps_per_group if steps_per_group > 1 else 0)
            key_end = Mux(dense, key_end, code_step == steps_per_key - 1)
            group_end = code_step % steps_per_group == steps_per_group - 1
            kind = Mux(dense, StepKind.KEYS, StepKind.KEY_DIGITS)
            halves = [
                _code_digits(beats.payload.data, first, channels)
                for first in range(0, steps_per_beat * channels, channels)
            ]
            if steps_per_beat > 1:
                beat_end = dense | high | ~needed
            digits = Mux(dense, digits, Mux(high, halves[-1], halves[0]))
        last_present = key == Mux(tail, config.chunk - 1, header.present_less_one)
        pair_index = key * config.groups + group
        flat = Array([pairs[i] for i in range(config.chunk * config.groups)])

        m.d.comb += [
            work.payload.kind.eq(kind),
            work.payload.digits.eq(digits),
            work.payload.signed.eq(header.dense & (high | ~header.wide)),
            work.payload.wide.eq(header.wide),
            work.payload.group.eq(group),
            work.payload.part.eq(part),
            work.payload.last.eq(last_present & key_end),
            work.payload.key.base.eq(~tail),
            work.payload.key.tail.eq(tail),
            work.payload.key.dense.eq(header.dense),
            work.payload.key.slot.eq(header.slot),
            # A dense key is one group of all channels.
            work.payload.key.group_end.eq(Mux(header.dense, key_end, group_end)),
            work.payload.key.key_end.eq(key_end),
            work.payload.key.present.eq(present),
            work.payload.key.first.eq(header.first & (tail | (key == 0))),
            work.payload.key.last.eq(header.last & (tail | last_present)),
            # What an earlier block left behind is no scale of a dense key.
            work.payload.pairs[0].eq(Mux(header.dense | ~present, 0, flat[pair_index].as_value())),
            work.payload.key.value_scale.eq(
                Mux(
                    tail & ~header.dense & present,
                    Array([value_scales[i] for i in range(config.chunk)])[key],
                    0,
                )
            ),
        ]

        m.d.comb += self.saliency.payload.eq(beats.payload.data)
        take = beats.valid & beats.ready
        state = Signal(Section)
        section = Mux(~tail & (state == Section.SALIENCY), Section.KEY_SCALES, state)
        m.d.comb += self.header.ready.eq(take & beats.payload.last)

        def count(size: int, following: ValueLike) -> None:
            """Count the beat in a section of ``size`` beats; behind it comes ``following``."""
            m.d.sync += scale_beat.eq(scale_beat + 1)
            with m.If(scale_beat == size - 1):
                m.d.sync += [scale_beat.eq(0), state.eq(following)]

        after_scales = Section.PADDING if padding_beats else Section.CODES
        with m.If((section == Section.CODES) | header.dense):
            m.d.comb += [
                work.valid.eq(beats.valid & self.header.valid & needed),
                beats.ready.eq(self.header.valid & beat_end & (work.ready | ~needed)),
            ]
            with m.If(Mux(beat_end, take, work.valid & work.ready)):
                m.d.sync += code_step.eq(code_step + 1)
                with m.If(key_end):
                    m.d.sync += [code_step.eq(0), key.eq(key + 1)]
                    with m.If(key == config.chunk - 1):
                        m.d.sync += padding.eq(1)
                with m.If(beats.payload.last & beat_end):
                    m.d.sync += [padding.eq(0), key.eq(0), code_step.eq(0)]
                    m.d.sync += state.eq(Section.SALIENCY)
        with m.Elif(section == Section.SALIENCY):
            m.d.comb += [
                self.saliency.valid.eq(beats.valid & self.header.valid),
                beats.ready.eq(self.header.valid & self.saliency.ready),
            ]
            with m.If(take):
                count(saliency_beats, Section.KEY_SCALES)
        with m.Elif(section == Section.KEY_SCALES):
            m.d.comb += beats.ready.eq(self.header.valid)
            with m.If(take):
                with m.Switch(scale_beat):
                    for i in range(scale_beats):
                        with m.Case(i):
                            first = i * pairs_per_beat
                            m.d.sync += pairs.as_value()[
                                first * PAIR.size : (first + pairs_per_beat) * PAIR.size
                            ].eq(beats.payload.data)
                count(scale_beats, Mux(tail, Section.VALUE_SCALES, Section.CODES))
        with m.Elif(section == Section.VALUE_SCALES):
            m.d.comb += beats.ready.eq(1)
            with m.If(take):
                bits = scales_per_beat * FP16_BITS
                for i in range(value_scale_beats):
                    with m.If(scale_beat == i):
                        m.d.sync += value_scales.as_value()[i * bits : (i + 1) * bits].eq(
                            beats.payload.data
                        )
                count(value_scale_beats, after_scales)
        if padding_beats:
            with m.Elif(section == Section.PADDING):
                m.d.comb += beats.ready.eq(1)
                with m.If(take):
                    count(padding_beats, Section.CODES)
        return m


def _code_digits(beat: Value, first: int, channels: int) -> Value:
    """The digits of ``channels`` 4-bit codes, from ``first`` on: the low ones, then the others."""
    starts = [4 * code for code in range(first, first + channels)]
    planes = [Cat(*(beat[start + bit : start + bit + 2] for start in starts)) for bit in (0, 2)]
    return Cat(*(Cat(plane, Const(0, DIGITS - len(plane))) for plane in planes))
