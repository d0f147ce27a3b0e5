"""Which slot of a cache of constant size the next token takes (docs/contracts.md, section 11)."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.config import AttentionConfig
from hw.cores.payloads import slot_bits, slot_score, slot_uses
from hw.formats import SALIENCY_BITS


def victim_layout(config: AttentionConfig) -> data.StructLayout:
    """The slot that a job's step leaves for the next one; ``valid`` for a cycle."""
    return data.StructLayout({"valid": 1, "slot": slot_bits(config), "victim": range(config.slots)})


class VictimSelect(wiring.Component):
    """The slot that leaves, the lowest one on ties: one cycle after the last score.

    That of the smallest score or, with the rule ``votes``, of the largest, which counts votes.
    Scores come one a cycle at most. The first ``slot_sinks`` slots, which the first tokens have for
    good, and the slots of the newest tokens stay.

    Parameters
    ----------
    config : AttentionConfig
        With ``slots``.

    Members
    -------
    scores : In(`slot_score`)
        Of one job after another, in the order of the slots.
    uses : In(`slot_uses`)
        Of each job in flight, while its scores come.
    victim : Out(`victim_layout`)
        Of each job; without meaning if all of its slots stay.
    """

    def __init__(self, config: AttentionConfig) -> None:
        self._config = config
        super().__init__(
            {
                "scores": In(slot_score(config)),
                "uses": In(slot_uses(config)),
                "victim": Out(victim_layout(config)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, score = self._config, self.scores
        # Whether a slot stays, per job: which job it is, is known late.
        stays = Signal(config.jobs_in_flight)
        for job in range(config.jobs_in_flight):
            recent = (score.place == slot for slot in self.uses[job].recent)
            m.d.comb += stays[job].eq(Cat(recent).any())
        least, found = Signal(SALIENCY_BITS), Signal()  # with votes the most
        worse = score.score > least if config.votes else score.score < least
        best = Signal(range(config.slots))
        better, chosen = Signal(), Signal.like(best)
        m.d.comb += [
            better.eq(
                ~stays.bit_select(score.slot, 1)
                & (score.place >= config.slot_sinks)
                & (~found | worse)
            ),
            chosen.eq(Mux(better, score.place, best)),
        ]
        m.d.sync += [
            self.victim.valid.eq(score.valid & score.last),
            self.victim.slot.eq(score.slot),
            self.victim.victim.eq(chosen),
        ]
        with m.If(score.valid):
            m.d.sync += [best.eq(chosen), found.eq((found | better) & ~score.last)]
            with m.If(better):
                m.d.sync += least.eq(score.score)
        return m
