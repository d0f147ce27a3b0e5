"""Nested loops of addresses."""

import itertools

import pytest
from amaranth.sim import Simulator

from hw.cores.compressor.address_walk import AddressWalk

LOOPS = {
    "one": [(5, 3)],
    "nested": [(3, 2), (4, 100), (2, 1000)],
    "single passes": [(1, 7), (3, 5), (1, 9), (2, 40)],
    "back": [(4, 50), (3, 1)],
}


@pytest.mark.parametrize("loops", LOOPS.values(), ids=LOOPS)
def test_every_pass(loops: list[tuple[int, int]]) -> None:
    """Addresses and ends of every pass, from two starts; pauses change nothing."""
    walk = AddressWalk(loops, bits=12)
    passes = [
        place[::-1] for place in itertools.product(*(range(count) for count, _ in reversed(loops)))
    ]
    simulator = Simulator(walk)
    simulator.add_clock(1e-6)

    async def bench(context) -> None:  # type: ignore[no-untyped-def]
        for base in (17, 4000):
            context.set(walk.base, base)
            context.set(walk.start, 1)
            context.set(walk.step, 1)
            await context.tick()
            context.set(walk.start, 0)
            for number, places in enumerate(passes):
                offset = sum(
                    place * stride for place, (_, stride) in zip(places, loops, strict=True)
                )
                lasts = [
                    place == count - 1 for place, (count, _) in zip(places, loops, strict=True)
                ]
                ends = sum(all(lasts[: i + 1]) << i for i in range(len(loops)))
                if number % 3 == 0:
                    context.set(walk.step, 0)
                    await context.tick()
                    context.set(walk.step, 1)
                assert context.get(walk.address) == (base + offset) % (1 << 12)
                assert context.get(walk.ends) == ends
                await context.tick()

    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.parametrize("loops", [[], [(0, 1)], [(2, 1), (-1, 4)]])
def test_illegal_loops(loops: list[tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match="loops must have one of at least 1 pass each, not"):
        AddressWalk(loops, bits=8)
