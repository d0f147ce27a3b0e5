"""Which token leaves: against lists in Python over 10,000 steps with ties, and the float method."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch

from golden.quality.methods.rce import RCE
from golden.twin.slot_map import SlotMap
from hw.config import AttentionConfig, preset
from tb.golden.quality.small import prompt

SMALL = replace(preset("tiny"), slots=32, slot_sinks=2, slot_recent=4)
DECAYS = [0, 1, 200, 255, 256]
MOST = (1 << 32) - 1


class Plain:
    """The rule word by word: a list of [score, position], one per slot."""

    def __init__(self, config: AttentionConfig) -> None:
        self.config = config
        self.slots: list[list[int]] = []
        self.now = 0
        self.victim: int | None = None

    def place(self) -> int:
        """The slot of the next token."""
        new = [0, self.now]
        self.now += 1
        if self.victim is None:
            self.slots.append(new)
            return len(self.slots) - 1
        self.slots[self.victim] = new
        return self.victim

    def receive(self, received: list[int]) -> None:
        """Scores, then the least of those that may leave."""
        config = self.config
        if config.slot_rule == "votes":
            received = [against << 16 for against in self._votes(received)]
        for slot, more in zip(self.slots, received, strict=True):
            slot[0] = min((slot[0] * config.slot_decay + 128) // 256 + more, MOST)
        if len(self.slots) == config.slots:
            worth = -1 if config.slot_rule == "votes" else 1
            free = [
                (worth * score, index)
                for index, (score, position) in enumerate(self.slots)
                if config.slot_sinks <= position < self.now - config.slot_recent
            ]
            self.victim = min(free)[1]

    def _votes(self, received: list[int]) -> list[int]:
        """Without a root: below the limit is on the low side of the mean, and far from it."""
        n, total = len(received), sum(received)
        spread = n * sum(x * x for x in received) - total**2
        low = [self.config.slot_vote_mean * total - 256 * n * x for x in received]
        # The root is rounded down.
        root = next(
            r for r in range(max(0, int(spread**0.5) - 2), 1 << 62) if (r + 1) ** 2 > spread
        )
        return [int(side > self.config.slot_vote_sigma * root) for side in low]


def received_of(live: int, rng: random.Random) -> list[int]:
    """Few different numbers, so that scores tie; now and then all alike, or very large."""
    kind = rng.random()
    if kind < 0.1:
        return [rng.choice([0, 7])] * live
    if kind < 0.15:
        return [rng.choice([0, 1 << 21, MOST]) for _ in range(live)]
    return [rng.choice([0, 0, 1, 2, 1 << 18]) for _ in range(live)]


@pytest.mark.parametrize("rule", ["score", "votes"])
@pytest.mark.parametrize("decay", DECAYS)
def test_against_lists(decay: int, rule: str, seed: int) -> None:
    print(f"seed {seed}")
    rng = random.Random(seed + decay)
    config = replace(SMALL, slot_decay=decay, slot_rule=rule)
    twin, plain = SlotMap(config), Plain(config)
    ties = moved = 0
    for step in range(10_000 // len(DECAYS) if rule == "score" else 500):
        slot = plain.place()
        assert twin.place() == slot
        assert twin.live == min(step + 1, 32)
        received = received_of(twin.live, rng)
        twin.receive(torch.tensor(received))
        plain.receive(received)
        assert twin.score.tolist() == [score for score, _ in plain.slots]
        assert twin.positions.tolist() == [position for _, position in plain.slots]
        # Those that stay whatever they score, and the victim, known before the next token comes.
        assert twin.positions[:2].tolist() == list(range(min(2, step + 1)))
        assert set(range(max(0, step - 3), step + 1)) <= set(twin.positions.tolist())
        if plain.victim is not None:
            assert twin.next_slot == plain.victim
            least = plain.slots[plain.victim][0]
            ties += sum(score == least for score, _ in plain.slots) > 1
            moved += plain.victim != slot
    # Votes that fade by a fraction are seldom equal.
    assert ties > 50 or (rule == "votes" and decay in (200, 255))
    assert moved > 100


@pytest.mark.parametrize("wrong", ["ties", "sinks", "recent", "rounding"])
def test_the_comparison_notices(wrong: str) -> None:
    """Another rule gives another trace."""
    config, rng = replace(SMALL, slot_decay=200), random.Random(3)
    other = {
        "ties": config,
        "sinks": replace(config, slot_sinks=1),
        "recent": replace(config, slot_recent=3),
        "rounding": replace(config, slot_decay=199),
    }[wrong]
    twin, plain = SlotMap(config), Plain(other)
    traces = []
    for _ in range(400):
        traces.append((twin.place(), plain.place()))
        received = received_of(twin.live, rng)
        twin.receive(torch.tensor(received))
        plain.receive(received)
        if wrong == "ties" and plain.victim is not None:
            free = [
                (score, -index)
                for index, (score, position) in enumerate(plain.slots)
                if 2 <= position < plain.now - 4
            ]
            plain.victim = -min(free)[1]
    assert any(ours != theirs for ours, theirs in traces)


@pytest.mark.parametrize("decay", [0, 243, 256])
def test_against_the_float_method(decay: int) -> None:
    """With the same probabilities the same slots: RCE of the quality lab, 200 steps."""
    config = replace(SMALL, slot_decay=decay)
    method = RCE(budget=32, decay=decay / 256, sinks=2, recent=4)
    state, twin = method.start(prompt(1)), SlotMap(config)
    assert twin.place() == 0
    twin.receive(torch.tensor([1 << 20]))
    source = torch.Generator().manual_seed(decay)
    for position in range(1, 200):
        value = torch.full((1, 1, 8), float(position))
        reading = state.step(torch.zeros(1, 1, 1, 8), torch.zeros(1, 1, 8), value)
        twin.place()
        held = reading.values[0, 0, :, 0].int().tolist()
        assert held == twin.positions.tolist()
        probability = torch.rand(len(held), generator=source).pow(6).softmax(-1)
        units = (probability * (1 << 20)).round()
        state.observe((units / (1 << 20)).reshape(1, 1, 1, -1))
        twin.receive(units.long())


def test_room_for_all_keeps_all() -> None:
    twin = SlotMap(replace(SMALL, slots=256))
    for position in range(256):
        assert twin.place() == position
        twin.receive(torch.zeros(position + 1, dtype=torch.int64))
    assert twin.positions.tolist() == list(range(256))
    # The next one is one too many: slot 2 leaves, the lowest that may.
    assert twin.place() == 2
    assert twin.live == 256


def test_no_slots() -> None:
    with pytest.raises(ValueError, match="slots must be above 0 for a cache of constant size"):
        SlotMap(preset("tiny"))
