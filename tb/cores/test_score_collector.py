"""The score collector: what it finds in a unit, what it gives back, when it accepts scores."""

import random
from dataclasses import replace
from typing import Any

import pytest
import torch
from amaranth.sim import Simulator

from golden.twin.numbers import fp16_fields
from hw.config import AttentionConfig, preset
from hw.cores.score_collector import ScoreCollector, entry_layout, unit_layout

CONFIGS = [
    replace(preset("tiny"), rows=rows, chunk=chunk, budget=48)
    for rows, chunk in ((1, 8), (3, 8), (2, 4), (5, 16))
]
UNITS = 20


def make_units(config: AttentionConfig, seed: int) -> list[dict[str, Any]]:
    """Units of ``chunk`` tokens; some tokens are absent and carry the largest score and scale."""
    print(f"score units of seed {seed}")
    generator = random.Random(seed)
    units = []
    for _ in range(UNITS):
        spread = generator.choice([1 << 23, 1 << 13, 1])
        tokens = []
        for token in range(config.chunk):
            present = int(token == 0 or generator.random() < 0.7)
            score = [generator.randrange(-spread, spread) for _ in range(config.rows)]
            scale = generator.choice([generator.randrange(1 << 16), 0, 0x3FF, 0x7C00])
            tokens.append(
                {
                    "score": score if present else [(1 << 23) - 1] * config.rows,
                    "present": present,
                    "value_scale": scale if present else 0x7BFF,
                }
            )
        fields = {"tail": 1, "first": 1, "last": 1, "slot": config.jobs_in_flight - 1}
        units.append(
            {name: generator.randint(0, most) for name, most in fields.items()} | {"tokens": tokens}
        )
    return units


def expected(unit: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The unit's fields and its entries, worked out token by token."""
    present = [token for token in unit["tokens"] if token["present"]]
    rows = zip(*(token["score"] for token in present), strict=True)
    patterns = [t["value_scale"] if t["present"] else 0 for t in unit["tokens"]]
    _, _, exponents = fp16_fields(torch.tensor(patterns))
    _, mantissas, _ = fp16_fields(torch.tensor([t["value_scale"] for t in unit["tokens"]]))
    tail = unit["tail"]
    found = {
        "exponent": [max(row) // 4096 + 1 for row in rows],
        "tail_exponent": int(exponents.max()) if tail else 0,
        **{name: unit[name] for name in ("tail", "first", "last", "slot")},
    }
    entries = [
        {
            "score": token["score"],
            "present": token["present"],
            "mantissa": int(mantissas[index]) if tail else 2048,
            "exponent": int(exponents[index]) if tail else 0,
        }
        for index, token in enumerate(unit["tokens"])
    ]
    return found, entries


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"rows{c.rows}_chunk{c.chunk}")
def test_units_come_back_whole(config: AttentionConfig, seed: int) -> None:
    units = make_units(config, seed)
    collector = ScoreCollector(config)
    generator = random.Random(seed)

    async def fill(context: Any) -> None:
        for unit in units:
            shared = {name: unit[name] for name in ("tail", "first", "last", "slot")}
            for token in unit["tokens"]:
                context.set(collector.scores.valid, 0)
                while generator.random() < 0.3:
                    await context.tick()
                context.set(collector.scores.payload, token | shared)
                context.set(collector.scores.valid, 1)
                await context.tick().until(collector.scores.ready)
        context.set(collector.scores.valid, 0)

    async def drain(context: Any) -> None:
        for unit in units:
            while not context.get(collector.units.valid):
                await context.tick()
            wanted, entries = expected(unit)
            assert context.get(collector.units.payload) == unit_layout(config).const(wanted)
            # Any order of reading will do, and an entry stays while nothing is read.
            order = generator.sample(range(config.chunk), config.chunk)
            for token in order:
                context.set(collector.token, token)
                context.set(collector.read, 1)
                await context.tick()
                context.set(collector.read, 0)
                context.set(collector.token, generator.randrange(config.chunk))
                await context.tick().repeat(generator.randint(1, 3))
                entry = context.get(collector.entry)
                assert entry == entry_layout(config).const(entries[token])
            context.set(collector.units.ready, 1)
            await context.tick()
            context.set(collector.units.ready, 0)

    simulator = Simulator(collector)
    simulator.add_clock(1e-6)
    simulator.add_testbench(fill)
    simulator.add_testbench(drain)
    simulator.run()


def test_two_units_are_held_and_no_more() -> None:
    """Two units are accepted without a pause; the third waits for the first one's transfer."""
    config = CONFIGS[0]
    collector = ScoreCollector(config)
    accepted: list[int] = []

    async def fill(context: Any) -> None:
        context.set(collector.scores.valid, 1)
        for cycle in range(40):
            if context.get(collector.scores.ready):
                accepted.append(cycle)
            context.set(collector.units.ready, cycle == 30)
            await context.tick()

    simulator = Simulator(collector)
    simulator.add_clock(1e-6)
    simulator.add_testbench(fill)
    simulator.run()
    assert accepted == [*range(2 * config.chunk), *range(31, 39)]
