"""Beats of a delta record become steps of the PE array."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import BEAT_BITS, DIGITS, AttentionConfig
from hw.cores.gearbox import Gearbox
from hw.cores.mask_expand import MaskExpand
from hw.cores.payloads import BEAT, PAIR, segment_header, work_layout
from hw.formats import DELTA_BITS, KVFormat, StepKind
from hw.streams import StreamFIFO


class DeltaUnpacker(wiring.Component):
    """Latency 2 cycles, 3 with a queue above 8 beats; a step of up to 32 channels a cycle.

    Elements of more than a beat cost one more cycle at the start of each record.

    Digits 0 to 31 of a step are the channels' delta codes, digits 32 to 63 their mask bits. A group
    of 64 channels takes two steps.

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
        work, header = self.work, self.header.payload

        m.submodules.gearbox = gearbox = Gearbox(
            element_bits=layout.delta_element_bits, elements=layout.delta_elements
        )
        # Steps come slower than beats. What is left when the record has come waits here, so that
        # the beats of the next segment need not.
        data_beats = -(-layout.delta_elements * layout.delta_element_bits // BEAT_BITS)
        channels = min(config.group, DIGITS // 2)
        parts = config.group // channels
        behind = data_beats - data_beats * layout.delta_element_bits // (parts * BEAT_BITS)
        m.submodules.queue = queue = StreamFIFO(BEAT, depth=behind + 2)
        # Beats of padding are dropped.
        place = Signal(range(data_beats + 1))
        has_data = place != data_beats
        m.d.comb += [
            queue.input.payload.eq(self.beats.payload),
            queue.input.payload.last.eq(place == data_beats - 1),
            queue.input.valid.eq(self.beats.valid & has_data),
            self.beats.ready.eq(queue.input.ready | ~has_data),
        ]
        with m.If(self.beats.valid & self.beats.ready):
            m.d.sync += place.eq(Mux(self.beats.payload.last, 0, place + has_data))
        wiring.connect(m, queue.output, gearbox.beats)
        element = data.View(
            data.StructLayout(
                {
                    "mask": config.group,
                    "codes": data.ArrayLayout(DELTA_BITS, config.key_keep),
                    "pair": PAIR,
                }
            ),
            gearbox.elements.payload.data,
        )
        m.submodules.expand = expand = MaskExpand(
            channels=config.group, keep=config.key_keep, code_bits=DELTA_BITS
        )
        m.d.comb += [expand.mask.eq(element.mask), expand.codes.eq(element.codes)]

        group = Signal(range(max(2, config.groups)))
        opening = Signal(init=1)
        #: The upper half of a group of two steps.
        part = Signal()
        group_end: Value = part if parts > 1 else Const(1)
        key_end = (group == config.groups - 1) & group_end
        last = gearbox.elements.payload.last & group_end
        code_digits = Signal(DIGITS)
        mask_digits = Signal(DIGITS)
        codes = expand.expanded.as_value()
        mask = Cat(*(Cat(bit, 0) for bit in element.mask))
        m.d.comb += [
            code_digits.eq(Mux(part, codes[DIGITS:], codes[:DIGITS]) if parts > 1 else codes),
            mask_digits.eq(Mux(part, mask[DIGITS:], mask[:DIGITS]) if parts > 1 else mask),
            work.valid.eq(gearbox.elements.valid & self.header.valid),
            gearbox.elements.ready.eq(work.ready & self.header.valid & group_end),
            work.payload.kind.eq(StepKind.DELTAS),
            work.payload.digits.eq(Cat(code_digits, mask_digits)),
            work.payload.pairs[0].eq(element.pair),
            work.payload.group.eq(group),
            work.payload.part.eq(part),
            work.payload.last.eq(last),
            work.payload.key.slot.eq(header.slot),
            work.payload.key.opening.eq(opening),
            work.payload.key.group_end.eq(group_end),
            work.payload.key.key_end.eq(key_end),
            work.payload.key.present.eq(1),
            work.payload.key.first.eq(header.first),
            work.payload.key.last.eq(header.last),
            self.header.ready.eq(work.valid & work.ready & last),
        ]
        with m.If(work.valid & work.ready):
            if parts > 1:
                m.d.sync += part.eq(~group_end)
            with m.If(group_end):
                m.d.sync += [opening.eq(last), group.eq(group + 1)]
            with m.If(key_end):
                m.d.sync += group.eq(0)
        return m
