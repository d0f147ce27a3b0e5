"""Segments of beats become one ordered stream of PE array steps."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.arithmetic import fp16_is_finite
from hw.config import BEAT_BITS, AttentionConfig
from hw.cores.delta_unpacker import DeltaUnpacker
from hw.cores.key_unpacker import KeyUnpacker
from hw.cores.lanes import LANES
from hw.cores.payloads import BEAT, SegmentKind, segment_header, slot_bits, work_layout
from hw.cores.tile_transposer import TileTransposer
from hw.cores.value_unpacker import ValueUnpacker
from hw.counters import Counter
from hw.formats import StepKind
from hw.streams import StreamFIFO, StreamRegister

#: Headers of segments with beats in the transposer, which has room for ``4 C``: the shortest
#: segments have 4 beats with C = 4, and more with larger chunks.
_IN_TRANSPOSER = 8


class Unpacker(wiring.Component):
    """Latency that of `TileTransposer` and 1 cycle from a beat of bytes.

    2 instead of 1 from a scale beat of values, 3 or 4 from deltas. One beat a cycle, also across
    segments, and one step a cycle: a segment whose beats are steps waits behind a delta record that
    has more steps than beats. A header goes one cycle ahead.

    Tiles of tail values become the beats of a dense block ahead of everything else, so that other
    beats fill the time that a tile takes. Then the beats of each segment go to the unpacker of its
    kind, and their steps are merged in the order of the segments, so that one record may still be
    coming out while the next one comes in.

    Parameters
    ----------
    config : AttentionConfig

    Members
    -------
    header : stream of ``segment_header``, one per segment, in order
    beats : stream of ``BEAT``; ``last`` ends a segment
    work : stream of ``work_layout``
    saliency : stream of 16 bytes, the saliency section of each tail block
    memory_error, scale_error : out
        For one cycle: the job in ``*_slot`` got a beat with ``error``, or a number that is not
        finite.
    """

    def __init__(self, config: AttentionConfig) -> None:
        self._config = config
        self.beats_taken = Counter("unpacker_beats", "beats taken from the memory")
        self.starved = Counter("unpacker_starved", "cycles in which a segment was due but no beat")
        self.blocked = Counter("unpacker_blocked", "cycles in which a beat waited for the datapath")
        self.counters = [self.beats_taken, self.starved, self.blocked]
        slot = slot_bits(config)
        super().__init__(
            {
                "header": In(stream.Signature(segment_header(config))),
                "beats": In(stream.Signature(BEAT)),
                "work": Out(stream.Signature(work_layout(config))),
                "saliency": Out(stream.Signature(BEAT_BITS)),
                "memory_error": Out(1),
                "memory_error_slot": Out(slot),
                "scale_error": Out(1),
                "scale_error_slot": Out(slot),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config

        # A header goes to the transposer with its beats, and on when they have passed it.
        m.submodules.transposer = transposer = TileTransposer(config)
        m.submodules.tiles = tiles = StreamFIFO(1, depth=2)
        m.submodules.headers = headers = StreamFIFO(segment_header(config), depth=_IN_TRANSPOSER)
        wiring.connect(m, wiring.flipped(self.beats), transposer.input)
        wiring.connect(m, tiles.output, transposer.tiles)
        both = self.header.valid & tiles.input.ready & headers.input.ready
        m.d.comb += [
            tiles.input.payload.eq(
                (self.header.payload.kind == SegmentKind.TAIL_VALUES) & ~self.header.payload.dense
            ),
            tiles.input.valid.eq(both),
            headers.input.payload.eq(self.header.payload),
            headers.input.valid.eq(both),
            self.header.ready.eq(both),
        ]
        beats, header = transposer.output, headers.output

        m.submodules.keys = keys = KeyUnpacker(config)
        wiring.connect(m, keys.saliency, wiring.flipped(self.saliency))
        m.submodules.deltas = deltas = DeltaUnpacker(config)
        m.submodules.values = values = ValueUnpacker(config)
        units: dict[int, KeyUnpacker | DeltaUnpacker | ValueUnpacker] = {
            0: keys,
            1: deltas,
            2: values,
        }
        tail_values, value_scales = 3, 4
        lane_of = {
            SegmentKind.BASE_KEYS: 0,
            SegmentKind.TAIL_KEYS: 0,
            SegmentKind.DELTAS: 1,
            SegmentKind.VALUES: 2,
            SegmentKind.TAIL_VALUES: tail_values,
            SegmentKind.VALUE_SCALES: value_scales,
        }
        # Where the beats go, and the order in which steps leave; tail values find their slot there.
        # Value scales make none of their own.
        route_layout = data.StructLayout({"lane": 3, "slot": slot_bits(config), "wide": 1})
        m.submodules.route = route = StreamFIFO(route_layout, depth=4)
        m.submodules.order = order = StreamFIFO(route_layout, depth=4)
        tail_beats = stream.Signature(BEAT).create()

        # A header goes ahead of its beats, so that no cycle is lost between segments.
        destination = Signal(route_layout)
        m.d.comb += [
            destination.slot.eq(header.payload.slot),
            destination.wide.eq(header.payload.wide),
            route.input.payload.eq(destination),
            order.input.payload.eq(destination),
        ]
        with m.Switch(header.payload.kind):
            for kind, number in lane_of.items():
                with m.Case(kind):
                    m.d.comb += destination.lane.eq(number)
        queues = {}
        for number, unit in units.items():
            queue = StreamFIFO(segment_header(config), depth=2)
            m.submodules[f"headers_{number}"] = queues[number] = queue
            wiring.connect(m, queue.output, unit.header)
            m.d.comb += queue.input.payload.eq(header.payload)
        accepts = Signal()
        with m.Switch(destination.lane):
            for number, queue in queues.items():
                with m.Case(number):
                    m.d.comb += accepts.eq(queue.input.ready)
            with m.Default():
                m.d.comb += accepts.eq(1)
        m.d.comb += [
            header.ready.eq(accepts & route.input.ready & order.input.ready),
            route.input.valid.eq(header.valid & header.ready),
            order.input.valid.eq(header.valid & header.ready & (destination.lane != value_scales)),
        ]
        with m.Switch(destination.lane):
            for number, queue in queues.items():
                with m.Case(number):
                    m.d.comb += queue.input.valid.eq(header.valid & header.ready)

        routed = route.output.valid
        targets = {number: unit.beats for number, unit in units.items()}
        targets |= {tail_values: tail_beats, value_scales: values.scales}
        for target in targets.values():
            m.d.comb += target.payload.eq(beats.payload)
        with m.Switch(route.output.payload.lane):
            for number, target in targets.items():
                with m.Case(number):
                    m.d.comb += [
                        target.valid.eq(beats.valid & routed),
                        beats.ready.eq(target.ready & routed),
                    ]
        take = beats.valid & beats.ready
        m.d.comb += route.output.ready.eq(take & beats.payload.last)

        # Out: one unpacker at a time.
        m.submodules.register = register = StreamRegister(work_layout(config))
        merged = register.input
        # Beats of one quad of channels, of both byte planes; the upper half is the high plane.
        plane = Signal(range(config.chunk // 2))
        m.d.comb += order.output.ready.eq(merged.valid & merged.ready & merged.payload.last)
        with m.Switch(order.output.payload.lane):
            for number, unit in units.items():
                with m.Case(number):
                    m.d.comb += [
                        merged.payload.eq(unit.work.payload),
                        merged.valid.eq(unit.work.valid & order.output.valid),
                        unit.work.ready.eq(merged.ready & order.output.valid),
                    ]
            with m.Case(tail_values):
                m.d.comb += [
                    merged.payload.kind.eq(StepKind.TAIL_VALUES),
                    merged.payload.digits.eq(tail_beats.payload.data),
                    merged.payload.signed.eq(plane[-1] | ~order.output.payload.wide),
                    merged.payload.wide.eq(order.output.payload.wide),
                    merged.payload.key.slot.eq(order.output.payload.slot),
                    merged.payload.last.eq(tail_beats.payload.last),
                    merged.valid.eq(tail_beats.valid & order.output.valid),
                    tail_beats.ready.eq(merged.ready & order.output.valid),
                ]
                with m.If(merged.valid & merged.ready):
                    m.d.sync += plane.eq(plane + 1)
        wiring.connect(m, register.output, wiring.flipped(self.work))

        checked = [merged.payload.key.value_scale] + [
            number
            for i in range(LANES)
            for number in (merged.payload.pairs[i].scale, merged.payload.pairs[i].minimum)
        ]
        finite = Cat(*(fp16_is_finite(number) for number in checked)).all()
        m.d.comb += [
            self.memory_error.eq(take & beats.payload.error),
            self.memory_error_slot.eq(route.output.payload.slot),
            self.scale_error.eq(merged.valid & merged.ready & ~finite),
            self.scale_error_slot.eq(merged.payload.key.slot),
            self.beats_taken.event.eq(self.beats.valid & self.beats.ready),
            self.starved.event.eq(tiles.output.valid & ~self.beats.valid),
            self.blocked.event.eq(self.beats.valid & ~self.beats.ready),
        ]
        return m
