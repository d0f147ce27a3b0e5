"""Timer: each distance is kept from exactly its clock on; a new event starts all again."""

import random

import pytest
from amaranth.hdl import Module, Signal
from amaranth.sim import Simulator

from hw.memory.dram.controller.timer import Timer


def passed_at(distances: dict[str, int], events: set[int], clocks: int) -> list[dict[str, bool]]:
    """Return per clock which distances are kept."""
    m = Module()
    m.submodules.timer = timer = Timer(**distances)
    clock_number = Signal(16)
    m.d.sync += clock_number.eq(clock_number + 1)  # a short timer has no register
    seen: list[dict[str, bool]] = []

    async def bench(ctx) -> None:  # type: ignore[no-untyped-def]
        for clock in range(clocks):
            ctx.set(timer.start, clock in events)
            seen.append({name: bool(ctx.get(timer[name])) for name in distances})
            await ctx.tick()

    simulator = Simulator(m)
    simulator.add_clock(1e-9)
    simulator.add_testbench(bench)
    simulator.run()
    return seen


@pytest.mark.parametrize(
    "distances",
    [{"one": 1}, {"two": 2}, {"one": 1, "two": 2, "nine": 9}, {"zero": 0, "five": 5}, {"eight": 8}],
)
def test_distances(distances: dict[str, int], seed: int) -> None:
    choose = random.Random(seed)
    events = {clock for clock in range(300) if choose.random() < 0.12}
    for clock, seen in enumerate(passed_at(distances, events, 300)):
        last = max((event for event in events if event < clock), default=-1000)
        assert seen == {name: clock - last >= n for name, n in distances.items()}
