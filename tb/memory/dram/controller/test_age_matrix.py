"""AgeMatrix and `oldest` against a list in the order of age."""

import random

import pytest
from amaranth.hdl import Module, Signal
from amaranth.sim import Simulator

from hw.memory.dram.controller.age_matrix import AgeMatrix, oldest


@pytest.mark.parametrize("number", [2, 3, 16])
def test_order_is_that_of_a_list(number: int, seed: int) -> None:
    choose = random.Random(seed)
    m = Module()
    m.submodules.ages = ages = AgeMatrix(number)
    requests, chosen = Signal(number), Signal(number)
    m.d.comb += chosen.eq(oldest(requests, ages.older))
    order = list(range(number))[::-1]  # after reset the highest is the oldest

    async def bench(ctx) -> None:  # type: ignore[no-untyped-def]
        for _ in range(400):
            wanted = choose.getrandbits(number) & choose.choice((-1, choose.getrandbits(number)))
            ctx.set(requests, wanted)
            expected = next((i for i in order if wanted >> i & 1), None)
            assert ctx.get(chosen) == (0 if expected is None else 1 << expected)
            older = ctx.get(ages.older)
            for place, i in enumerate(order):
                for j in order[place + 1 :]:
                    assert older >> i * number + j & 1
                    assert not older >> j * number + i & 1
            renewed = [i for i in range(number) if choose.random() < 0.2]
            ctx.set(ages.renew, sum(1 << i for i in renewed))
            await ctx.tick()
            for i in renewed:
                order.remove(i)
                order.append(i)

    simulator = Simulator(m)
    simulator.add_clock(1e-9)
    simulator.add_testbench(bench)
    simulator.run()
