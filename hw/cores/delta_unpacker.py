"""Beats of a delta record become steps of the PE array."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import BEAT_BITS, BEAT_BYTES, DIGITS, AttentionConfig
from hw.cores.gearbox import Gearbox
from hw.cores.mask_expand import MaskExpand
from hw.cores.payloads import BEAT, PAIR, segment_header, work_layout
from hw.formats import KVFormat, StepKind
from hw.streams import StreamFIFO


class DeltaUnpacker(wiring.Component):
    """Latency 2 cycles, 3 with a queue above 8 beats; a step of up to 32 channels a cycle.

    Elements of more than a beat cost one more cycle at the start of each record, and so does each
    beat of masks that a chunk's tokens share. Such masks wait for the end of the record before.

    Digits 0 to 31 of a step are the channels' delta codes, digits 32 to 63 their mask bits. Codes
    of 4 bits take two steps, the second with their upper digits and without the mask; a group of
    64 channels takes twice as many, lower channels first.

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
        mask_beats = layout.delta_mask_bytes // BEAT_BYTES
        data_beats = -(-layout.delta_elements * layout.delta_element_bits // BEAT_BITS)
        channels = min(config.group, DIGITS // 2)
        parts = config.group // channels
        planes = config.key_delta_bits // 2
        steps = parts * planes
        behind = data_beats - data_beats * layout.delta_element_bits // (steps * BEAT_BITS)
        m.submodules.queue = queue = StreamFIFO(BEAT, depth=behind + 2)
        # Masks of the chunk come first and stay until its last step; beats of padding are dropped.
        end = mask_beats + data_beats
        place = Signal(range(end + 1))
        # One mask bit a channel may lie in the elements instead.
        in_masks = place < mask_beats if mask_beats else Const(0)
        has_data = ~in_masks & (place != end)
        masks = Signal(config.head_dim)
        masks_there = Signal()
        take = self.beats.valid & self.beats.ready
        m.d.comb += [
            queue.input.payload.eq(self.beats.payload),
            queue.input.payload.last.eq(place == end - 1),
            queue.input.valid.eq(self.beats.valid & has_data),
            self.beats.ready.eq(Mux(in_masks, ~masks_there, queue.input.ready | ~has_data)),
        ]
        with m.If(take):
            m.d.sync += place.eq(Mux(self.beats.payload.last, 0, place + (place != end)))
        for i in range(mask_beats):
            with m.If(take & (place == i)):
                m.d.sync += masks[i * BEAT_BITS : (i + 1) * BEAT_BITS].eq(self.beats.payload.data)
                m.d.sync += masks_there.eq(i == mask_beats - 1)
        wiring.connect(m, queue.output, gearbox.beats)
        fields = {"codes": data.ArrayLayout(config.key_delta_bits, config.key_keep), "pair": PAIR}
        if mask_beats == 0:
            fields = {"mask": config.group, **fields}
        element = data.View(data.StructLayout(fields), gearbox.elements.payload.data)

        group = Signal(range(max(2, config.groups)))
        opening = Signal(init=1)
        #: The upper half of a group of two steps, the upper digits of 4-bit codes.
        part = Signal()
        upper = Signal()
        mask: Value = masks.word_select(group, config.group) if mask_beats else element.mask
        m.submodules.expand = expand = MaskExpand(
            channels=config.group, keep=config.key_keep, code_bits=config.key_delta_bits
        )
        m.d.comb += [expand.mask.eq(mask), expand.codes.eq(element.codes)]
        digit_end: Value = upper if planes > 1 else Const(1)
        group_end = digit_end & part if parts > 1 else digit_end
        key_end = (group == config.groups - 1) & group_end
        last = gearbox.elements.payload.last & group_end
        codes = [expand.expanded[i] for i in range(config.group)]
        digits = Cat(*(Mux(upper, code[2:], code[:2]) if planes > 1 else code for code in codes))
        mask_digits = Cat(*(Cat(bit & ~upper, 0) for bit in mask))
        halves = [
            Mux(part, both[DIGITS:], both[:DIGITS]) if parts > 1 else both
            for both in (digits, mask_digits)
        ]
        # The masks of a record are there when its first element is: their beats come before.
        there = gearbox.elements.valid & self.header.valid
        m.d.comb += [
            work.valid.eq(there),
            gearbox.elements.ready.eq(work.ready & there & group_end),
            work.payload.kind.eq(StepKind.KEY_DIGITS),
            work.payload.digits.eq(Cat(*(_half_step(half) for half in halves))),
            work.payload.upper.eq(upper),
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
            if planes > 1:
                m.d.sync += upper.eq(~upper)
            if parts > 1:
                m.d.sync += part.eq(part ^ digit_end)
            with m.If(group_end):
                m.d.sync += [opening.eq(last), group.eq(group + 1)]
            with m.If(key_end):
                m.d.sync += group.eq(0)
            with m.If(last):
                m.d.sync += masks_there.eq(0)
        return m


def _half_step(digits: Value) -> Value:
    """Half a step: the digits of up to 32 channels."""
    return Cat(digits, Const(0, DIGITS - len(digits)))
