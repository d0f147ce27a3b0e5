"""The probability pipeline against the twin's arithmetic, token by token, with waiting cycles."""

import random
from typing import Any

import torch
from amaranth.sim import Simulator

from golden.twin.numbers import round_half_up
from golden.twin.softmax import probability
from hw.cores.probability import Probability

TOKENS = 3000
CORNER_SCORES = (-(1 << 23), -4096, -1, 0, 4095, (1 << 23) - 1)


def make_tokens(seed: int) -> list[dict[str, int]]:
    """Tokens whose unit exponent lies 1 to 20 above the score, or at the far end of its range."""
    print(f"probability tokens of seed {seed}")
    generator = random.Random(seed)
    tokens = []
    for _ in range(TOKENS):
        score = generator.choice([generator.randrange(-(1 << 23), 1 << 23), *CORNER_SCORES])
        distance = generator.choice([1, generator.randint(1, 20), 2047 - (score >> 12)])
        mantissa = generator.choice([generator.randint(0, 2048), 0, 1, 1024, 2047, 2048])
        tokens.append(
            {
                "score": score,
                "present": int(generator.random() < 0.8),
                "exponent": (score >> 12) + max(1, distance),
                "mantissa": mantissa,
                "drop": generator.choice([0, generator.randint(0, 31), 30]),
            }
        )
    return tokens


def played(tokens: list[dict[str, int]], seed: int) -> tuple[list[int], list[int]]:
    """Probability and weight of every token, from the RTL; a third of the cycles waits."""
    unit = Probability()
    generator = random.Random(seed)
    probabilities: list[int] = []
    weights: list[int] = []

    async def play(context: Any) -> None:
        idle = dict.fromkeys(tokens[0], 0)
        for moves, token in enumerate([*tokens, *[idle] * 5], start=1):
            while generator.random() < 1 / 3:
                # What waits outside must not get in.
                context.set(unit.advance, 0)
                context.set(unit.score, generator.randrange(1 << 23))
                context.set(unit.mantissa, generator.randrange(2049))
                await context.tick()
            context.set(unit.advance, 1)
            for name, value in token.items():
                context.set(getattr(unit, name), value)
            await context.tick()
            if 3 <= moves < TOKENS + 3:
                probabilities.append(context.get(unit.probability))
            if moves >= 5:
                weights.append(context.get(unit.weight))

    simulator = Simulator(unit)
    simulator.add_clock(1e-6)
    simulator.add_testbench(play)
    simulator.run()
    return probabilities, weights[:TOKENS]


def test_tokens_one_by_one(seed: int) -> None:
    tokens = make_tokens(seed)
    probabilities, weights = played(tokens, seed)
    columns = {name: torch.tensor([token[name] for token in tokens]) for name in tokens[0]}
    p = probability(columns["score"], columns["present"].bool(), columns["exponent"])
    assert probabilities == p.tolist()
    assert weights == round_half_up(p * columns["mantissa"], 11 + columns["drop"]).tolist()
    # Both ends of the range were reached.
    assert {0, 4095} <= set(probabilities)
    assert {0, 4095} <= set(weights)
