"""Scores, victim and slot map together against their twin: caches in turn, and jobs that fail.

A job goes through `SlotMap`, `SaliencyUpdate` and `VictimSelect` as in a core that writes; the
scores that the memory holds come from the twin.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import pytest
import torch
from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from golden.twin.slot_map import SlotMap as Twin
from hw.config import BEAT_BITS, AttentionConfig, preset
from hw.cores.saliency_update import SALIENCY_BEAT, WORDS, SaliencyUpdate
from hw.cores.score_tap import received_layout
from hw.cores.slot_map import SlotMap, asked_layout, placed_layout
from hw.cores.slot_votes import SlotVotes
from hw.cores.victim_select import VictimSelect
from tb.harness import Run, pack, simulate, unpack

SMALL = replace(preset("tiny"), slots=40, slot_sinks=2, slot_recent=4, slot_caches=5)
CONFIGS = {
    "fraction": replace(SMALL, slot_decay=200),
    "latest": replace(SMALL, slot_decay=0, chunk=4, slots=32, slot_sinks=0, slot_recent=1),
    "all": replace(SMALL, slot_decay=256, slots=256, rows=1, slot_recent=32),
    "votes": replace(SMALL, slot_decay=256, slot_rule="votes"),
}


def job_layout(config: AttentionConfig) -> data.StructLayout:
    """A job of the bench; one that fails is not kept."""
    return data.StructLayout({"asked": asked_layout(config), "keeps": 1})


class SlotBench(wiring.Component):
    """The units, a job at a time."""

    def __init__(self, config: AttentionConfig) -> None:
        self._config = config
        super().__init__(
            {
                "jobs": In(stream.Signature(job_layout(config))),
                "before": In(stream.Signature(BEAT_BITS)),
                "received": In(stream.Signature(received_layout(config))),
                "after": Out(stream.Signature(SALIENCY_BEAT)),
                "placed": Out(stream.Signature(placed_layout(config))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """A job is asked for, updated, kept, and answered."""
        m = Module()
        config = self._config
        m.submodules.slot_map = slot_map = SlotMap(config)
        m.submodules.update = update = SaliencyUpdate(config)
        m.submodules.select = select = VictimSelect(config)
        connect(m, flipped(self.before), update.before)
        connect(m, update.after, flipped(self.after))
        job, place = self.jobs.payload, Signal(range(config.slots))
        runs, chosen = Signal(), Signal()
        taken = update.received
        if config.votes:
            m.submodules.votes = votes = SlotVotes(config)
            connect(m, votes.votes, update.received)
            m.d.comb += votes.uses.eq(slot_map.uses)
            taken = votes.received
        m.d.comb += [
            update.uses.eq(slot_map.uses),
            select.uses.eq(slot_map.uses),
            select.scores.eq(update.scores),
            slot_map.victim.eq(select.victim),
            slot_map.asked.payload.eq(job.asked),
            taken.payload.eq(self.received.payload),
            taken.valid.eq(self.received.valid & runs),
            self.received.ready.eq(taken.ready & runs),
            slot_map.kept.slot.eq(job.asked.slot),
            slot_map.kept.cache.eq(job.asked.cache),
        ]
        for i in range(config.jobs_in_flight):
            with m.If(job.asked.slot == i):
                m.d.comb += self.placed.payload.eq(slot_map.placed[i])
        with m.If(select.victim.valid):
            m.d.sync += chosen.eq(1)
        with m.FSM():
            with m.State("ASK"):
                m.d.comb += slot_map.asked.valid.eq(self.jobs.valid)
                m.d.sync += chosen.eq(0)
                with m.If(slot_map.asked.valid & slot_map.asked.ready):
                    m.d.sync += place.eq(slot_map.place)
                    m.next = "RUN"
            with m.State("RUN"):
                m.d.comb += runs.eq(1)
                with m.If(self.received.valid & self.received.ready & self.received.payload.last):
                    m.next = "CHOSEN"
            with m.State("CHOSEN"):
                with m.If(chosen):
                    m.next = "KEEP"
            with m.State("KEEP"):
                m.d.comb += self.placed.valid.eq(job.asked.in_slots)
                with m.If(self.placed.ready | ~job.asked.in_slots):
                    m.d.comb += [
                        slot_map.kept.valid.eq(job.keeps & job.asked.in_slots),
                        self.jobs.ready.eq(1),
                    ]
                    m.next = "ASK"
        return m


@cache
def device(name: str) -> SlotBench:
    """One component per configuration, so that all runs share its elaboration and build."""
    return SlotBench(CONFIGS[name])


@dataclass
class Trace:
    """Items of the streams, and what the twin answers."""

    jobs: list[int] = field(default_factory=list)
    before: list[int] = field(default_factory=list)
    received: list[int] = field(default_factory=list)
    after: list[dict[str, int]] = field(default_factory=list)
    placed: list[dict[str, int]] = field(default_factory=list)
    #: Steps of full caches, and those among them in which the victim had no other score than
    #: another slot that might have left.
    victims: int = 0
    ties: int = 0


def beats(words: list[int]) -> list[int]:
    """Words as beats."""
    return [
        sum(word << 32 * j for j, word in enumerate(words[i : i + WORDS]))
        for i in range(0, len(words), WORDS)
    ]


def make(name: str, steps: int, seed: int, *, caches: int = 2, restart: int = 150) -> Trace:
    """Steps of caches in random order; some fail and come again, some are of mode `KVO`.

    Every ``restart`` steps another sequence gets cache 0, full or not.
    """
    print(f"slots of seed {seed}")
    config, rng = CONFIGS[name], random.Random(seed)
    twins = [Twin(config) for _ in range(caches)]
    trace, slot, done = Trace(), 0, 0
    # What all of a cache that votes receive together is bounded.
    large = [1 << 14, 1 << 16] if config.votes else [1 << 18, config.rows << 20]
    amounts = [0, 0, 1, 3, *large]
    while done < steps:
        slot = (slot + 1) % config.jobs_in_flight
        kind = rng.random()
        index = rng.randrange(caches)
        if done % restart == 0:
            twins[0] = Twin(config)
        twin = twins[index]
        in_slots = kind > 0.05
        live = min(twin.live + 1, config.slots) if in_slots else rng.randint(1, 2 * config.window)
        fails = in_slots and kind < 0.1
        places = -(-live // config.chunk) * config.chunk
        asked = {"in_slots": int(in_slots), "slot": slot, "cache": index, "context": live}
        keeps: dict[str, Any] = {"asked": asked, "keeps": int(not fails)}
        trace.jobs.append(pack(job_layout(config), keeps))
        # Mostly nothing at all, so that scores are equal.
        few = [0] if rng.random() < 0.7 else rng.sample(amounts, rng.randint(1, 3))
        received = [rng.choice(few) for _ in range(live)]
        for i, amount in enumerate(received):
            item = {"received": amount, "last": int(i == live - 1), "slot": slot}
            trace.received.append(pack(received_layout(config), item))
        garbage = [rng.choice([0, rng.getrandbits(32), (1 << 32) - 1]) for _ in range(places)]
        if not in_slots:
            sums = [a + b for a, b in zip([*garbage[: live - 1], 0], received, strict=True)]
            words, after = garbage, [min(x, (1 << 32) - 1) for x in sums]
        else:
            held = replace_twin(twin)
            place = held.place()
            words = [*twin.score.tolist(), *garbage[twin.live :]]
            held.receive(torch.tensor(received))
            after = held.score.tolist()
            trace.placed.append(
                {"position": held.now - 1, "slot": place, "next_slot": held.next_slot}
            )
            if not fails:
                twins[index] = held
                trace.victims += held.live == config.slots
                trace.ties += ties(held)
                done += 1
        trace.before += beats(words)
        filled = beats(after + [0] * (places - live))
        trace.after += [
            {"data": beat, "last": int(i == len(filled) - 1)} for i, beat in enumerate(filled)
        ]
    return trace


def ties(twin: Twin) -> bool:
    """Whether more than one slot that may leave has the victim's score, or votes."""
    config, positions = twin.config, twin.positions
    if twin.live < config.slots:
        return False
    stays = (positions < config.slot_sinks) | (positions >= twin.now - config.slot_recent)
    return int((twin.score[~stays] == twin.score[twin.next_slot]).sum()) > 1


def replace_twin(twin: Twin) -> Twin:
    """A copy, which goes on by itself."""
    copy = Twin(twin.config)
    vars(copy).update(vars(twin))
    return copy


def check(name: str, trace: Trace, **options: Any) -> Run:
    """Run the trace and compare every word, slot and position."""
    config = CONFIGS[name]
    run = simulate(
        device(name),
        name=f"slots_{name}",
        inputs={"jobs": trace.jobs, "before": trace.before, "received": trace.received},
        outputs={"after": len(trace.after), "placed": len(trace.placed)},
        **options,
    )
    found = [unpack(placed_layout(config), item) for item in run.outputs["placed"]]
    for number, (ours, theirs) in enumerate(zip(found, trace.placed, strict=True)):
        assert ours == theirs, f"step {number}"
    assert [unpack(SALIENCY_BEAT, item) for item in run.outputs["after"]] == trace.after
    return run


def test_victims(seed: int) -> None:
    """400 steps of two caches, ties in most of them; one begins anew and is filled again."""
    trace = make("fraction", 400, seed)
    assert trace.victims > 200
    assert trace.ties > 8
    check("fraction", trace)


@pytest.mark.slow
def test_votes(seed: int) -> None:
    """The same of the other rule; many have the same number of votes."""
    trace = make("votes", 120, seed)
    assert trace.victims > 40
    assert trace.ties > 8
    check("votes", trace)


@pytest.mark.parametrize(
    "stall", [0.5, {"received": 0.9}, {"after": 0.9}, {"placed": 0.9}], ids=str
)
def test_stalls(stall: Any, seed: int) -> None:
    check("fraction", make("fraction", 140, seed), stall=stall, seed=seed)


def test_reset_in_flight(seed: int) -> None:
    """What the map kept of a cache does not matter once it fills anew."""
    check("fraction", make("fraction", 200, seed), seed=seed, reset_at=6_000)


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_ten_thousand_steps(name: str, seed: int) -> None:
    trace = make(name, 11_500, seed, caches=3, restart=4_000)
    assert trace.victims >= 10_000
    assert trace.ties > 300
    check(name, trace, driver="native", max_cycles=20_000_000)
