"""RefreshManager: the debt, the order of a round, claims of idle and of busy banks."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from amaranth.sim import Simulator

from hw.memory.dram import load_standard
from hw.memory.dram.controller import ControllerConfig
from hw.memory.dram.controller.distances import Distances
from hw.memory.dram.controller.refresh import RefreshManager


def short(name: str, **fields: Any) -> ControllerConfig:
    """Return a configuration whose refreshes come soon."""
    standard = replace(
        load_standard(name), timing={**load_standard(name).timing, "tRFCab": 100, "tREFI": 480}
    )
    return ControllerConfig(standard=standard, **fields)


def simulate(config: ControllerConfig, bench: Any) -> None:
    """Run a test bench; it is called with the context and the manager."""
    manager = RefreshManager(config, Distances(config.standard, config.gear, 0))

    async def run(ctx: Any) -> None:
        await bench(ctx, manager)

    simulator = Simulator(manager)
    simulator.add_clock(1e-9)
    simulator.add_testbench(run)
    simulator.run()


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("lpddr5-6400-x16", {}),
        ("hbm2-2000", {}),
        ("hbm2-2000", {"gear": 2}),
        ("hbm2-2000", {"refresh": "all_bank"}),
        ("ddr4-3200", {}),
    ],
)
def test_rounds(name: str, fields: dict[str, Any], seed: int) -> None:
    """Idle banks at random, grants at random: every set once a round, the debt as due."""
    config = short(name, **fields)
    choose = random.Random(seed)
    banks, sets = config.standard.banks, config.bank_sets
    interval = config.standard["tREFI"] // (config.gear * len(sets))
    clocks = 12 * config.standard["tREFI"]
    done: list[int] = []

    async def bench(ctx: Any, manager: RefreshManager) -> None:
        for clock in range(clocks):
            idle = choose.getrandbits(banks) & choose.getrandbits(banks)
            ctx.set(manager.idle, choose.choice((idle, (1 << banks) - 1)))
            assert ctx.get(manager.debt) == clock // interval - len(done)
            # Claimed banks become ready at some time; the others may be anything.
            ready = choose.choice((choose.getrandbits(banks), (1 << banks) - 1))
            ctx.set(manager.ready, ready)
            claimed = ctx.get(manager.claimed)
            if claimed:
                target = ctx.get(manager.target)
                assert claimed == sum(1 << bank for bank in sets[target])
            requested = ctx.get(manager.request)
            assert not requested or (claimed and claimed & ready == claimed)
            granted = requested and choose.random() < 0.5
            ctx.set(manager.grant, granted)
            if granted:
                done.append(ctx.get(manager.target))
            await ctx.tick()

    simulate(config, bench)
    assert len(done) >= 8 * len(sets)
    for i in range(0, len(done) - len(sets) + 1, len(sets)):
        assert sorted(done[i : i + len(sets)]) == list(range(len(sets)))


@pytest.mark.parametrize("name", ["hbm2-2000", "ddr4-3200"])
def test_busy_banks_are_claimed_by_force(name: str) -> None:
    """Never idle: none before ``refresh_debt`` rounds are owed, then down to half of them."""
    config = short(name, refresh_debt=4)
    sets = len(config.bank_sets)
    claims: list[int] = []

    async def bench(ctx: Any, manager: RefreshManager) -> None:
        ctx.set(manager.ready, -1)
        for _ in range(12 * config.standard["tREFI"]):
            ctx.set(manager.grant, ctx.get(manager.request))
            if ctx.get(manager.request):
                claims.append(ctx.get(manager.debt))
            await ctx.tick()

    simulate(config, bench)
    assert claims[0] == 4 * sets
    # More come due while the next round may not begin.
    assert max(claims) < 5 * sets
    assert 2 * sets <= min(claims) <= 2 * sets + 1
