"""Turns against a rotating pointer."""

from __future__ import annotations

import random
from typing import Any

import pytest
from amaranth.hdl import ResetInserter, Signal
from amaranth.sim import Simulator

from hw.memory.round_robin import RoundRobin

CYCLES = 300


def turns(count: int, seed: int, enabled: float, reset_at: int | None = None) -> None:
    """Random requests; every grant is the first one behind the last."""
    print(f"turns of seed {seed}")
    rng = random.Random(seed)
    unit, reset = RoundRobin(count), Signal()

    async def bench(ctx: Any) -> None:
        last = count - 1
        for cycle in range(CYCLES):
            waiting = rng.choice([0, rng.getrandbits(count), (1 << count) - 1])
            enable = rng.random() < enabled
            ctx.set(unit.waiting, waiting)
            ctx.set(unit.enable, enable)
            ctx.set(reset, cycle == reset_at)
            order = [(last + 1 + i) % count for i in range(count)]
            chosen = next((i for i in order if waiting >> i & 1), None)
            granted = ctx.get(unit.grant)
            if chosen is None or not enable:
                assert granted == 0
            else:
                assert granted == 1 << chosen
                last = chosen
            if cycle == reset_at:
                last = count - 1
            await ctx.tick()

    simulator = Simulator(ResetInserter(reset)(unit))
    simulator.add_clock(1e-9)
    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.parametrize("enabled", [1.0, 0.4])
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_turns(count: int, enabled: float, seed: int) -> None:
    turns(count, seed, enabled)


@pytest.mark.parametrize("cycle", [3, 40])
def test_reset(cycle: int, seed: int) -> None:
    """The first one is the first again."""
    turns(3, seed, 0.8, reset_at=cycle)


def test_count() -> None:
    with pytest.raises(ValueError, match="count must be at least 1, not 0"):
        RoundRobin(0)
