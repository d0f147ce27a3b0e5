"""Plays streams into a small component, cycle by cycle, in Amaranth's simulator."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from amaranth.lib import wiring
from amaranth.sim import Simulator

from tb.memory.kv_mmu.pins import Pins

#: Cycles to listen on after the last item.
_DRAIN = 40


@dataclass
class Played:
    """What came out of each stream, in how many cycles, and how often signals were high."""

    outputs: dict[str, list[int]]
    cycles: int = 0
    high: dict[str, int] = field(default_factory=dict)


def play(
    component: wiring.Component,
    *,
    inputs: Mapping[str, Sequence[int]],
    outputs: Mapping[str, int],
    settings: Mapping[str, int] | None = None,
    watch: Sequence[str] = (),
    stall: float = 0.3,
    seed: int = 1,
    reset_at: int | None = None,
    first: Sequence[str] = (),
    limit: int = 20_000,
) -> Played:
    """Send ``inputs`` and wait for as many items as ``outputs`` says; more are an error.

    An input ``start`` is high in the first cycle, and the streams begin behind it. A stream that
    withdraws an item or changes it is an error. With ``reset_at`` all begins again in that cycle.
    The inputs ``first`` come to their end before the others begin.
    """
    print(f"seed {seed}")
    pins = Pins(component)
    starts = "start" in component.signature.members
    rng = random.Random(seed)
    played = Played({name: [] for name in outputs})

    async def bench(context: Any) -> None:
        left = {name: list(items) for name, items in inputs.items()}
        offered: dict[str, bool] = {}
        waiting: dict[str, int] = {}
        for name, value in (settings or {}).items():
            pins.set(name, value)
        begun, drained = 0, 0
        for now in range(limit):
            if now == reset_at:
                context.set(pins.reset, 1)
                await context.tick()
                context.set(pins.reset, 0)
                left = {name: list(items) for name, items in inputs.items()}
                played.outputs.update({name: [] for name in outputs})
                offered, waiting, begun = {}, {}, now
            start = starts and now == begun
            if starts:
                pins.set("start", start)
            for name, items in left.items():
                early = name in first or not any(left[other] for other in first)
                offers = bool(items) and not start and early
                offered[name] = offers and (offered.get(name, False) or rng.random() >= stall)
                pins.offer(name, items[0] if offered[name] else None)
            for name in outputs:
                pins.set(f"{name}__ready", rng.random() >= stall)
            pins.exchange(context)
            for name in watch:
                played.high[name] = played.high.get(name, 0) + pins.get(name)
            for name, items in left.items():
                if pins.moved(name) is not None:
                    items.pop(0)
                    offered[name] = False
            for name in outputs:
                there = pins.get(f"{name}__payload") if pins.get(f"{name}__valid") else None
                assert waiting.pop(name, there) == there, f"{name} did not stay, seed {seed}"
                if there is not None and pins.get(f"{name}__ready"):
                    played.outputs[name].append(there)
                elif there is not None:
                    waiting[name] = there
            counts = {name: len(items) for name, items in played.outputs.items()}
            assert all(counts[name] <= outputs[name] for name in outputs), (counts, seed)
            if counts == dict(outputs) and not any(left.values()):
                played.cycles = played.cycles or now + 1 - begun
                drained += 1
                if drained > _DRAIN:
                    return
            await context.tick()
        raise AssertionError(f"not done after {limit} cycles: {counts}, {left}, seed {seed}")

    simulator = Simulator(pins.top)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert reset_at is None or played.cycles > 0
    return played
