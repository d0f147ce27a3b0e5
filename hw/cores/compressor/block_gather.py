"""Tail blocks of prompts are gathered on chip, and written as a whole."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.config import BURST_BYTES, AttentionConfig
from hw.cores.compressor.burst_builder import HALF_BITS, HALVES
from hw.cores.compressor.payloads import BURST, BURST_BITS, ENABLED_BYTES
from hw.cores.compressor.tail_appender import ORIGIN
from hw.formats import FP16_BITS, KVFormat


class BlockGather(wiring.Component):
    """One burst a cycle in and out; a block leaves 2 cycles after its last burst.

    The tokens of a tail block share its bursts, or have bursts that lie far apart. A block of which
    all tokens come from one prompt waits here until it is complete, and leaves in the order of its
    addresses; meanwhile the next one is gathered. Bursts of other tokens pass at once, those of a
    prompt once no block is left before them.

    Parameters
    ----------
    config : AttentionConfig

    Members
    -------
    bursts : In(stream of BURST), origin : In(ORIGIN)
        Of `TailAppender`.
    passed : Out(stream of BURST)
        Bursts of tokens that are not gathered.
    blocks : Out(stream of BURST)
        Gathered blocks; ``last`` marks the last burst of a block.
    left : Out(range(chunk + 1))
        The last bursts of how many tokens of prompts leave in this cycle.
    """

    def __init__(self, config: AttentionConfig) -> None:
        self._config = config
        bursts = stream.Signature(BURST)
        super().__init__(
            {
                "bursts": In(bursts),
                "origin": In(ORIGIN),
                "passed": Out(bursts),
                "blocks": Out(bursts),
                "left": Out(range(config.chunk + 1)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        size = KVFormat(self._config).tail_block_bytes // BURST_BYTES
        place_bits = (size - 1).bit_length()
        m.submodules.store = store = Memory(shape=BURST_BITS, depth=2 << place_bits, init=[])
        write, read = store.write_port(granularity=HALF_BITS), store.read_port()
        #: Per half of the store: whether a block waits there, and where it lies.
        full = Signal(2)
        addresses = [Signal.like(self.blocks.p.address, name=f"address_{i}") for i in range(2)]
        filled, sent = Signal(), Signal()

        # In: a burst of a gathered token goes to its place.
        source, origin = self.bursts, self.origin
        room = ~full.bit_select(filled, 1)
        passes = ~origin.of_prompt | ~full.any()
        taken = Signal()
        m.d.comb += [
            self.passed.payload.eq(source.payload),
            self.passed.valid.eq(source.valid & ~origin.gathered & passes),
            source.ready.eq(Mux(origin.gathered, room, self.passed.ready & passes)),
            taken.eq(source.valid & origin.gathered & room),
            write.addr.eq(Cat((source.p.address - origin.block)[:place_bits], filled)),
            write.data.eq(source.p.data),
            write.en.eq(Mux(taken, source.p.enable, 0)),
        ]
        complete = taken & source.p.last & origin.ends_block
        with m.If(complete):
            m.d.sync += filled.eq(~filled)
            for i, address in enumerate(addresses):
                with m.If(filled == i):
                    m.d.sync += address.eq(origin.block)

        # Out: place after place.
        index, ahead = Signal(place_bits), Signal(place_bits)
        sink, offered = self.blocks, Signal()
        step, end = Signal(), Signal()
        m.d.comb += [
            sink.valid.eq(offered),
            step.eq(sink.valid & sink.ready),
            end.eq(step & sink.p.last),
            ahead.eq(Mux(step, index + 1, index)),
            read.addr.eq(Cat(ahead, sent)),
            sink.p.address.eq(Mux(sent, addresses[1], addresses[0]) + index),
            sink.p.data.eq(read.data),
            sink.p.enable.eq(self._enables(index)),
            sink.p.last.eq(index == size - 1),
            sink.p.end.eq(sink.p.last),
        ]
        m.d.sync += offered.eq(full.bit_select(sent, 1) & ~end)
        with m.If(end):
            m.d.sync += [index.eq(0), sent.eq(~sent)]
        with m.Else():
            m.d.sync += index.eq(ahead)
        passed = self.passed.valid & self.passed.ready & source.p.last & origin.of_prompt
        m.d.comb += self.left.eq(Mux(end, self._config.chunk, 0) + passed)
        m.d.sync += full.eq((full | (complete << filled)) & ~(end << sent))
        return m

    def _enables(self, index: Signal) -> Value:
        """All of a burst, but not the padding behind the header."""
        layout = KVFormat(self._config)
        used = layout.saliency_bytes + layout.key_scale_bytes + self._config.chunk * FP16_BITS // 8
        halves = -(-used // ENABLED_BYTES)
        last = layout.tail_header_bytes // BURST_BYTES - 1
        everything = Const((1 << HALVES) - 1, HALVES)
        partial = Const((1 << (halves - last * HALVES)) - 1, HALVES)
        return Mux(index == last, partial, everything)
