"""Beats of a value record become steps of the PE array."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.config import BEAT_BITS, BEAT_BYTES, AttentionConfig
from hw.cores.gearbox import Gearbox
from hw.cores.lanes import LANES
from hw.cores.payloads import BEAT, PAIRS, segment_header, work_layout
from hw.formats import KVFormat, StepKind
from hw.streams import StreamFIFO


class ValueUnpacker(wiring.Component):
    """Latency 2 cycles, 3 with a queue above 8 beats; a step of four channels a cycle.

    Chunks of 16 tokens take two steps of two channels, and codes of 4 bits two steps (lower digits
    and mask, upper digits) instead of each. Elements of more than a beat cost one more cycle at the
    start of each record. Scales are taken a beat a cycle, but not before the steps of all earlier
    records have left.

    The scales of a value group come first and stay for all of its chunks that follow.

    Parameters
    ----------
    config : AttentionConfig

    Members
    -------
    header : stream of ``segment_header``; taken with the record's last step
    beats : stream of ``BEAT``, value records
    scales : stream of ``BEAT``, the value scales of a group, before the records they are for
    work : stream of ``work_layout``
    """

    def __init__(self, config: AttentionConfig) -> None:
        self._config = config
        super().__init__(
            {
                "header": In(stream.Signature(segment_header(config))),
                "beats": In(stream.Signature(BEAT)),
                "scales": In(stream.Signature(BEAT)),
                "work": Out(stream.Signature(work_layout(config))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, layout = self._config, KVFormat(self._config)
        beats, work = self.beats, self.work
        code_beats = layout.value_code_bytes // BEAT_BYTES
        quads = config.head_dim // LANES

        elements_per_quad = max(1, config.chunk // 8)
        planes = config.value_bits // 2
        steps_per_quad = elements_per_quad * planes
        channels = LANES // elements_per_quad
        # Steps come slower than beats. What is left when the record has come waits here, so that
        # the beats of the next segment need not.
        step_bits = channels * layout.value_channel_bits // planes
        behind = max(0, code_beats - code_beats * step_bits // BEAT_BITS)
        m.submodules.codes = codes = StreamFIFO(BEAT, depth=behind + 2)
        m.submodules.gearbox = gearbox = Gearbox(
            element_bits=channels * layout.value_channel_bits,
            elements=config.head_dim // channels,
        )
        wiring.connect(m, codes.output, gearbox.beats)

        # Beats of padding are dropped.
        place = Signal(range(code_beats + 1))
        has_codes = place != code_beats
        take = beats.valid & beats.ready
        m.d.comb += [
            codes.input.payload.eq(beats.payload),
            codes.input.payload.last.eq(place == code_beats - 1),
            codes.input.valid.eq(beats.valid & has_codes),
            beats.ready.eq(codes.input.ready | ~has_codes),
        ]
        with m.If(take):
            m.d.sync += place.eq(Mux(beats.payload.last, 0, place + has_codes))

        # The scales, by quad of channels. New ones wait until no step needs the old ones.
        m.submodules.pairs = pairs = Memory(shape=BEAT_BITS, depth=quads, init=[])
        write, read = pairs.write_port(), pairs.read_port(domain="sync")
        #: Records of which a beat has come and a step is to come: the queue and the gearbox hold
        #: parts of so many.
        unfinished = Signal(range((behind + 4) // code_beats + 3))
        finish = Signal()
        begin = take & (place == 0)
        quad = Signal(range(quads))
        next_quad = Signal(range(quads))
        m.d.sync += [unfinished.eq(unfinished + begin - finish), quad.eq(next_quad)]
        m.d.comb += [
            self.scales.ready.eq(unfinished == 0),
            write.data.eq(self.scales.payload.data),
            write.en.eq(self.scales.valid & self.scales.ready),
            read.addr.eq(next_quad),
            # What is offered stays.
            read.en.eq(~work.valid | work.ready),
        ]
        with m.If(write.en):
            m.d.sync += write.addr.eq(Mux(self.scales.payload.last, 0, write.addr + 1))

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
        step = work.valid & work.ready
        m.d.comb += [
            work.valid.eq(self.header.valid & gearbox.elements.valid),
            gearbox.elements.ready.eq(step & element_end),
            finish.eq(step & work.payload.last),
            next_quad.eq(Mux(finish, 0, quad + (step & quad_end))),
            self.header.ready.eq(finish),
            work.payload.kind.eq(StepKind.VALUES),
            work.payload.key.slot.eq(self.header.payload.slot),
            work.payload.digits.eq(digits),
            work.payload.upper.eq(upper),
            work.payload.pairs.eq(data.View(PAIRS, read.data)),
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
