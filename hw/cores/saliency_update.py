"""What the tokens of a tail received from a step is added to what they had received before."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.config import BEAT_BITS, AttentionConfig
from hw.cores.score_tap import received_layout
from hw.formats import SALIENCY_BITS
from hw.streams import StreamFIFO

#: Words of a beat.
WORDS = BEAT_BITS // SALIENCY_BITS
_LARGEST = (1 << SALIENCY_BITS) - 1

#: Saliencies of ``WORDS`` tokens of a block; ``last`` marks the last beat of a job.
SALIENCY_BEAT = data.StructLayout({"data": BEAT_BITS, "last": 1})


class SaliencyUpdate(wiring.Component):
    """New saliencies of a job's tail blocks: one word a cycle, latency 2 cycles.

    Sums saturate. The newest token of a job has received nothing before, whatever the memory holds;
    places behind it get 0.

    Parameters
    ----------
    config : AttentionConfig
        ``rows``, ``chunk`` and ``window`` matter.

    Members
    -------
    before : In(stream of 128 bits)
        The saliency sections of the tail blocks of each job, in the order of the formal pass. Those
        of two whole tails may wait.
    received : In(stream of `received_layout`)
    after : Out(stream of `SALIENCY_BEAT`)
        As many beats as came in ``before``.
    """

    def __init__(self, config: AttentionConfig) -> None:
        self._config = config
        super().__init__(
            {
                "before": In(stream.Signature(BEAT_BITS)),
                "received": In(stream.Signature(received_layout(config))),
                "after": Out(stream.Signature(SALIENCY_BEAT)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, received, after = self._config, self.received, self.after
        m.submodules.waiting = waiting = StreamFIFO(BEAT_BITS, depth=4 * config.window // WORDS)
        connect(m, flipped(self.before), waiting.input)
        old = waiting.output

        word, beat = Signal(range(WORDS)), Signal(range(max(2, config.chunk // WORDS)))
        #: The newest token was taken; the rest of its block is empty.
        over = Signal()
        step, beat_end, block_end = Signal(), Signal(), Signal()
        total = Signal(SALIENCY_BITS + 1)
        new = Signal(SALIENCY_BITS)
        kept = Mux(received.p.last, 0, old.payload.word_select(word, SALIENCY_BITS))
        free = ~after.valid | after.ready
        m.d.comb += [
            step.eq(old.valid & (over | received.valid) & (free | ~beat_end)),
            beat_end.eq(word == WORDS - 1),
            block_end.eq(beat_end & (beat == config.chunk // WORDS - 1)),
            total.eq(kept + received.p.received),
            new.eq(Mux(over, 0, Mux(total > _LARGEST, _LARGEST, total))),
            received.ready.eq(step & ~over),
            old.ready.eq(step & beat_end),
        ]
        words = Signal(BEAT_BITS - SALIENCY_BITS)
        with m.If(after.ready):
            m.d.sync += after.valid.eq(0)
        with m.If(step):
            m.d.sync += [
                word.eq(word + 1),
                words.eq(Cat(words, new)[SALIENCY_BITS:]),
                over.eq((over | received.p.last) & ~block_end),
            ]
            with m.If(beat_end):
                m.d.sync += [
                    beat.eq(Mux(block_end, 0, beat + 1)),
                    after.p.data.eq(Cat(words, new)),
                    after.p.last.eq(block_end & (over | received.p.last)),
                    after.valid.eq(1),
                ]
        return m
