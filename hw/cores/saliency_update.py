"""What the tokens of a tail received from a step is added to what they had received before."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.arithmetic import shift_right_half_up
from hw.config import BEAT_BITS, AttentionConfig
from hw.constants import DECAY_FRACTION
from hw.cores.payloads import slot_bits, slot_score, slot_uses
from hw.cores.score_tap import received_layout
from hw.formats import SALIENCY_BITS
from hw.streams import StreamFIFO

#: Words of a beat.
WORDS = BEAT_BITS // SALIENCY_BITS
_LARGEST = (1 << SALIENCY_BITS) - 1

#: Saliencies of ``WORDS`` tokens of a block; ``last`` marks the last beat of a job.
SALIENCY_BEAT = data.StructLayout({"data": BEAT_BITS, "last": 1})


class SaliencyUpdate(wiring.Component):
    """New saliencies, or scores, of a job's tail blocks: one word a cycle, latency 3 cycles.

    Sums saturate. The newest token of a job has received nothing before, whatever the memory holds;
    places behind the last token get 0. In a cache of constant size the newest token has any place,
    and what a token had is multiplied by ``slot_decay`` / 256 first.

    Parameters
    ----------
    config : AttentionConfig
        ``rows``, ``chunk``, ``window``, ``slots``, ``slot_recent``, ``slot_decay`` and
        ``jobs_in_flight`` matter.

    Members
    -------
    before : In(stream of 128 bits)
        The saliency sections of the tail blocks of each job, in the order of the formal pass. Those
        of two whole tails may wait.
    received : In(stream of `received_layout`)
    after : Out(stream of `SALIENCY_BEAT`)
        As many beats as came in ``before``.
    uses : In(`slot_uses`), only with ``slots``
        Of each job in flight, from its first ``received`` to its last ``after``.
    scores : Out(`slot_score`), only with ``slots``
        Every token's new word, from the cycle on in which the last one of its beat is ``after``;
        nobody can hold it up.
    """

    def __init__(self, config: AttentionConfig) -> None:
        self._config = config
        of_slots = {"uses": In(slot_uses(config)), "scores": Out(slot_score(config))}
        super().__init__(
            {
                "before": In(stream.Signature(BEAT_BITS)),
                "received": In(stream.Signature(received_layout(config))),
                "after": Out(stream.Signature(SALIENCY_BEAT)),
                **(of_slots if config.slots else {}),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, received, after = self._config, self.received, self.after
        depth = 2 * config.tail_tokens // WORDS
        m.submodules.waiting = waiting = StreamFIFO(BEAT_BITS, depth=depth)
        connect(m, flipped(self.before), waiting.input)
        old = waiting.output

        # Take: the word of a token and what it received.
        taken = Signal(
            data.StructLayout(
                {
                    "valid": 1,
                    "kept": SALIENCY_BITS,
                    "received": received.p.received.shape(),
                    "present": 1,
                    "beat_end": 1,
                    "last": 1,
                    "place": range(config.tail_tokens),
                    "slot": slot_bits(config),
                    "newest": 1,
                }
            )
        )
        word, beat = Signal(range(WORDS)), Signal(range(max(2, config.chunk // WORDS)))
        place = Signal(range(config.tail_tokens))
        #: The last token was taken; the rest of its block is empty.
        over = Signal()
        take, add, beat_end, block_end, end = Signal(), Signal(), Signal(), Signal(), Signal()
        kept = Signal(SALIENCY_BITS)
        m.d.comb += [
            take.eq(old.valid & (over | received.valid) & (~taken.valid | add)),
            beat_end.eq(word == WORDS - 1),
            block_end.eq(beat_end & (beat == config.chunk // WORDS - 1)),
            end.eq(block_end & (over | received.p.last)),
            kept.eq(self._kept(old.payload.word_select(word, SALIENCY_BITS), place)),
            received.ready.eq(take & ~over),
            old.ready.eq(take & beat_end),
        ]
        with m.If(add):
            m.d.sync += taken.valid.eq(0)
        with m.If(take):
            m.d.sync += [
                word.eq(word + 1),
                place.eq(Mux(end, 0, place + 1)),
                over.eq((over | received.p.last) & ~block_end),
                taken.valid.eq(1),
                taken.kept.eq(Mux(over, 0, kept)),
                taken.received.eq(Mux(over, 0, received.p.received)),
                taken.present.eq(~over),
                taken.beat_end.eq(beat_end),
                taken.last.eq(end),
                taken.place.eq(place),
                taken.slot.eq(received.p.slot),
                taken.newest.eq(~over & received.p.last),
            ]
            with m.If(beat_end):
                m.d.sync += beat.eq(Mux(block_end, 0, beat + 1))

        # Add: a beat leaves with its last word.
        total, new = Signal(SALIENCY_BITS + 1), Signal(SALIENCY_BITS)
        words = Signal(BEAT_BITS - SALIENCY_BITS)
        m.d.comb += [
            add.eq(taken.valid & (~taken.beat_end | ~after.valid | after.ready)),
            total.eq(taken.kept + taken.received),
            new.eq(Mux(total > _LARGEST, _LARGEST, total)),
        ]
        with m.If(after.ready):
            m.d.sync += after.valid.eq(0)
        with m.If(add):
            m.d.sync += words.eq(Cat(words, new)[SALIENCY_BITS:])
            with m.If(taken.beat_end):
                m.d.sync += [
                    after.p.data.eq(Cat(words, new)),
                    after.p.last.eq(taken.last),
                    after.valid.eq(1),
                ]
        if config.slots:
            m.d.sync += [
                self.scores.valid.eq(add & taken.present),
                self.scores.score.eq(new),
                self.scores.place.eq(taken.place),
                self.scores.slot.eq(taken.slot),
                self.scores.last.eq(taken.newest),
            ]
        return m

    def _kept(self, word: Value, place: Value) -> Value:
        """What is left of a word that the memory held."""
        config, newest = self._config, self.received.p.last
        if not config.slots:
            return Mux(newest, 0, word)
        use = Array(self.uses[i] for i in range(config.jobs_in_flight))[self.received.p.slot]
        decayed = shift_right_half_up(word * config.slot_decay, Const(DECAY_FRACTION))
        fresh = Mux(use.in_slots, place == use.place, newest)
        return Mux(fresh, 0, Mux(use.in_slots, decayed, word))
