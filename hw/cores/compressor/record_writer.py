"""Writes bursts of several sources."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import BEAT_BITS, BEAT_BYTES
from hw.cores.compressor.payloads import BURST, BURST_BITS, BURST_WORDS
from hw.memory.port import BURST_BEATS, write_port

_WORD_BYTES = BEAT_BYTES * BURST_BEATS // BURST_WORDS


class RecordWriter(wiring.Component):
    """One burst in 2 cycles, each a request of its own; latency 1 cycle.

    The sources take turns. A request goes out when its data are there, so it holds up no other
    writer behind the port.

    Parameters
    ----------
    sources : int
        At least 2.
    tag_bits : int
        Bits of a tag: so many to the power of 2 writes may be under way.

    Members
    -------
    bursts : In(stream of BURST) per source
    memory : Out(write_port)
        ``written.ready`` is always 1.
    idle : Out(1)
        All bursts that were taken are written.
    failed : Out(1)
        A write ended with an error in this cycle.

    Raises
    ------
    ValueError
        ``sources`` is below 2.
    """

    def __init__(self, *, sources: int, tag_bits: int) -> None:
        if sources < 2:
            raise ValueError(f"sources must be at least 2, not {sources!r}")
        self._sources = sources
        self._tags = 1 << tag_bits
        super().__init__(
            {
                "bursts": In(stream.Signature(BURST)).array(sources),
                "memory": Out(write_port(tag_bits)),
                "idle": Out(1),
                "failed": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        request, words, written = self.memory.request, self.memory.data, self.memory.written
        # The first source after the one that was last.
        waiting = Cat(source.valid for source in self.bursts)
        later = Signal(self._sources)
        pool = Signal(self._sources)
        chosen = Signal(self._sources)
        m.d.comb += [
            pool.eq(Mux((waiting & later).any(), waiting & later, waiting)),
            chosen.eq(pool & (~pool + 1)),
        ]
        burst = Signal(BURST)
        masked = [
            source.payload.as_value() & chosen[i].replicate(BURST.size)
            for i, source in enumerate(self.bursts)
        ]
        either = masked[0]
        for other in masked[1:]:
            either = either | other
        busy = Array(Signal(name=f"busy_{i}") for i in range(self._tags))
        tag = Signal(range(self._tags))
        asking = Signal()
        beat = Signal(range(BURST_BEATS))
        giving = Signal()
        free, take = Signal(), Signal()
        last_given = giving & words.ready & (beat == BURST_BEATS - 1)
        next_tag = Signal.like(tag)
        m.d.comb += [
            next_tag.eq(tag + 1),
            free.eq((~asking | request.ready) & (~giving | last_given)),
            take.eq(free & waiting.any() & ~busy[next_tag]),
        ]
        m.d.comb += [source.ready.eq(take & chosen[i]) for i, source in enumerate(self.bursts)]
        with m.If(request.ready):
            m.d.sync += asking.eq(0)
        with m.If(giving & words.ready):
            m.d.sync += [beat.eq(beat + 1), giving.eq(~last_given)]
        with m.If(written.valid):
            m.d.sync += busy[written.p.tag].eq(0)
        with m.If(take):
            m.d.sync += [
                burst.eq(either),
                later.eq(~((chosen << 1) - 1)),
                asking.eq(1),
                giving.eq(1),
                beat.eq(0),
                tag.eq(next_tag),
                busy[next_tag].eq(1),
            ]
        enables = Cat(bit.replicate(_WORD_BYTES) for bit in burst.enable)
        m.d.comb += [
            request.valid.eq(asking),
            request.p.address.eq(burst.address << (BURST_BITS // 8 - 1).bit_length()),
            request.p.bursts_less_one.eq(0),
            request.p.tag.eq(tag),
            words.valid.eq(giving),
            words.p.data.eq(burst.data.word_select(beat, BEAT_BITS)),
            words.p.enable.eq(enables.word_select(beat, BEAT_BYTES)),
            written.ready.eq(1),
            self.idle.eq(~asking & ~giving & ~Cat(busy).any()),
            self.failed.eq(written.valid & written.p.error),
        ]
        return m
