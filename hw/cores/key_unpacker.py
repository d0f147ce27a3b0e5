"""Beats of a key block become steps of the PE array."""

from enum import IntEnum

from amaranth.hdl import Array, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import BEAT_BYTES, AttentionConfig
from hw.cores.payloads import BEAT, PAIR, SegmentKind, segment_header, work_layout
from hw.formats import FP16_BITS, KVFormat, StepKind


class Section(IntEnum):
    """Part of a key block."""

    KEY_SCALES = 0
    VALUE_SCALES = 1
    CODES = 2


class KeyUnpacker(wiring.Component):
    """Latency 0: a code beat becomes a step in the same cycle; one beat a cycle.

    The scales of a block come first, make no steps, and are held until its last code beat has gone;
    a dense block has none. Base keys that the block has not yet are dropped; absent tokens of a
    tail block pass, marked not present.

    Parameters
    ----------
    config : AttentionConfig

    Members
    -------
    header : stream of ``segment_header``; taken with the segment's last beat
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
        beats, work, header = self.beats, self.work, self.header.payload

        pairs_per_beat = BEAT_BYTES * 8 // PAIR.size
        scale_beats = layout.key_scale_bytes // BEAT_BYTES
        value_scale_beats = layout.tail_scale_bytes // BEAT_BYTES
        scales_per_beat = min(config.chunk, BEAT_BYTES * 8 // FP16_BITS)
        beats_per_key = config.head_dim // BEAT_BYTES
        beats_per_group = config.group // BEAT_BYTES

        pairs = Signal(data.ArrayLayout(PAIR, scale_beats * pairs_per_beat))
        value_scales = Signal(data.ArrayLayout(FP16_BITS, config.chunk))
        scale_beat = Signal(range(max(2, scale_beats)))
        code_beat = Signal(range(2 * beats_per_key))
        key = Signal(range(config.chunk))
        #: The last code beat is through; the rest of the segment is padding.
        padding = Signal()

        tail = header.kind == SegmentKind.TAIL_KEYS
        # 16-bit codes come as two byte planes, low beat and high beat of 16 channels.
        high = code_beat[0]
        beat = Signal(range(max(2, beats_per_key)))
        m.d.comb += beat.eq(Mux(header.wide, code_beat >> 1, code_beat))
        present = key <= header.present_less_one
        group = beat // beats_per_group
        key_end = (beat == beats_per_key - 1) & (high | ~header.wide)
        last_present = key == Mux(tail, config.chunk - 1, header.present_less_one)
        pair_index = key * config.groups + group
        flat = Array([pairs[i] for i in range(config.chunk * config.groups)])
        group_end = beat % beats_per_group == beats_per_group - 1

        m.d.comb += [
            work.payload.kind.eq(StepKind.KEYS),
            work.payload.digits.eq(beats.payload.data),
            work.payload.signed.eq(header.dense & (high | ~header.wide)),
            work.payload.wide.eq(header.wide),
            work.payload.group.eq(group),
            work.payload.part.eq(beat % beats_per_group if beats_per_group > 1 else 0),
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
            work.payload.pairs[0].eq(Mux(header.dense, 0, flat[pair_index].as_value())),
            work.payload.key.value_scale.eq(
                Mux(
                    tail & ~header.dense,
                    Array([value_scales[i] for i in range(config.chunk)])[key],
                    0,
                )
            ),
        ]

        take = beats.valid & beats.ready
        needed = ~padding & (tail | present)
        section = Signal(Section)
        m.d.comb += self.header.ready.eq(take & beats.payload.last)
        with m.If((section == Section.CODES) | header.dense):
            m.d.comb += [
                work.valid.eq(beats.valid & self.header.valid & needed),
                beats.ready.eq(self.header.valid & (work.ready | ~needed)),
            ]
            with m.If(take):
                m.d.sync += code_beat.eq(code_beat + 1)
                with m.If(key_end):
                    m.d.sync += [code_beat.eq(0), key.eq(key + 1)]
                    with m.If(key == config.chunk - 1):
                        m.d.sync += padding.eq(1)
                with m.If(beats.payload.last):
                    m.d.sync += [padding.eq(0), key.eq(0), code_beat.eq(0)]
                    m.d.sync += section.eq(Section.KEY_SCALES)
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
                m.d.sync += scale_beat.eq(scale_beat + 1)
                with m.If(scale_beat == scale_beats - 1):
                    m.d.sync += scale_beat.eq(0)
                    m.d.sync += section.eq(Mux(tail, Section.VALUE_SCALES, Section.CODES))
        with m.Else():
            m.d.comb += beats.ready.eq(1)
            with m.If(take):
                bits = scales_per_beat * FP16_BITS
                for i in range(value_scale_beats):
                    with m.If(scale_beat == i):
                        m.d.sync += value_scales.as_value()[i * bits : (i + 1) * bits].eq(
                            beats.payload.data
                        )
                m.d.sync += scale_beat.eq(scale_beat + 1)
                with m.If(scale_beat == value_scale_beats - 1):
                    m.d.sync += [scale_beat.eq(0), section.eq(Section.CODES)]
        return m
