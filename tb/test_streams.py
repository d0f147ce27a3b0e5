"""StreamRegister and StreamFIFO: order under stalls, latency, throughput, capacity, resets."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from amaranth.hdl import Module
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.streams import StreamFIFO, StreamRegister, fork
from tb.cores.side_by_side import SideBySide
from tb.harness import Hang, Run, simulate
from tb.harness.stepped import Neighbours
from tb.harness.stepped import play as step

SHAPE = data.StructLayout({"low": 5, "high": 14})
WIDTH = 19
DEPTHS = (2, 3, 8, 9, 20)
#: Items and latency in cycles by part.
CAPACITY = {"register": 1} | {f"queue_{n}": n for n in DEPTHS}
PARTS = {"register": 1} | {f"queue_{n}": 1 if n <= StreamFIFO.REGISTERS else 2 for n in DEPTHS}


class Gated(wiring.Component):
    """A part whose output can be shut, to see how much it holds."""

    def __init__(self, part: StreamRegister | StreamFIFO) -> None:
        self._part = part
        super().__init__(
            {
                "input": In(stream.Signature(SHAPE)),
                "output": Out(stream.Signature(SHAPE)),
                "shut": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.part = part = self._part
        wiring.connect(m, wiring.flipped(self.input), part.input)
        m.d.comb += [
            self.output.payload.eq(part.output.payload),
            self.output.valid.eq(part.output.valid & ~self.shut),
            part.output.ready.eq(self.output.ready & ~self.shut),
        ]
        return m


@cache
def bench() -> SideBySide:
    parts: dict[str, StreamRegister | StreamFIFO] = {"register": StreamRegister(SHAPE)}
    parts |= {f"queue_{depth}": StreamFIFO(SHAPE, depth=depth) for depth in DEPTHS}
    return SideBySide({name: Gated(part) for name, part in parts.items()})


def play(items: dict[str, list[int]], *, shut: bool = False, **options: object) -> Run:
    """Send items through the parts and compare."""
    sent = {name: items.get(name, []) for name in PARTS}
    run = simulate(
        bench(),
        name="streams",
        inputs={f"{name}__input": each for name, each in sent.items()},
        outputs={f"{name}__output": 0 if shut else len(each) for name, each in sent.items()},
        settings={f"{name}__shut": int(shut) for name in PARTS},
        **options,  # type: ignore[arg-type]
    )
    if not shut:
        for name, each in sent.items():
            assert run.outputs[f"{name}__output"] == each, name
    return run


def random_items(rng: random.Random, count: int) -> list[int]:
    return [rng.randrange(1 << WIDTH) for _ in range(count)]


@pytest.mark.parametrize("depth", [1, 0, -1])
def test_illegal_depth(depth: int) -> None:
    with pytest.raises(ValueError, match=f"depth must be at least 2, not {depth}"):
        StreamFIFO(8, depth=depth)


def test_depth_is_an_attribute() -> None:
    assert [StreamFIFO(8, depth=depth).depth for depth in DEPTHS] == list(DEPTHS)


@pytest.mark.parametrize("stall", [0.0, 0.5, 0.9])
def test_order(stall: float, seed: int) -> None:
    print(f"seed {seed}")
    rng = random.Random(seed)
    play({name: random_items(rng, 200) for name in PARTS}, stall=stall, seed=seed)


@pytest.mark.parametrize("side", ["input", "output"])
def test_stalls_on_one_side(side: str, seed: int) -> None:
    print(f"seed {seed}")
    rng = random.Random(seed)
    stall = {f"{name}__{side}": 0.8 for name in PARTS}
    play({name: random_items(rng, 100) for name in PARTS}, stall=stall, seed=seed)


@pytest.mark.parametrize("reset_at", [2, 40])
def test_reset_in_flight(reset_at: int, seed: int) -> None:
    print(f"seed {seed}")
    rng = random.Random(seed + reset_at)
    items = {name: random_items(rng, 80) for name in PARTS}
    play(items, stall=0.4, seed=seed, reset_at=reset_at)


@pytest.mark.parametrize("latency", [1, 2])
def test_latency_and_throughput(latency: int) -> None:
    count = 60
    names = [name for name in PARTS if PARTS[name] == latency]
    run = play({name: random_items(random.Random(1), count) for name in names})
    # The first item is offered in cycle 1.
    assert {run.first_output_cycle[f"{name}__output"] for name in names} == {1 + latency}
    assert run.cycles == 1 + latency + count


def test_capacity() -> None:
    items = {name: random_items(random.Random(1), size) for name, size in CAPACITY.items()}
    play(items, shut=True, max_cycles=200)
    with pytest.raises(Hang) as caught:
        play({name: [0, *each] for name, each in items.items()}, shut=True, max_cycles=200)
    for name, size in CAPACITY.items():
        assert f"{name}__input' took {size} of {size + 1} items" in str(caught.value)


class Forked(wiring.Component):
    """A stream that forks to as many outputs as wanted, each behind a register."""

    def __init__(self, outputs: int, fork: Callable[..., None]) -> None:
        self._fork = fork
        self._names = [f"output_{i}" for i in range(outputs)]
        names = dict.fromkeys(self._names, Out(stream.Signature(WIDTH)))
        super().__init__({"input": In(stream.Signature(WIDTH)), **names})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        sinks = []
        for name in self._names:
            m.submodules[name] = register = StreamRegister(WIDTH)
            m.d.comb += register.input.payload.eq(self.input.payload)
            wiring.connect(m, register.output, wiring.flipped(getattr(self, name)))
            sinks.append(register.input)
        self._fork(m, self.input, *sinks)
        return m


def check_fork(outputs: int, fork: Callable[..., None], stall: Any, seed: int) -> None:
    """Every output gets every item, once, in order; without stalls one a cycle."""
    items = random_items(random.Random(seed), 40)
    names = [f"output_{i}" for i in range(outputs)]
    unit = Forked(outputs, fork)
    steps = step(
        unit,
        lambda: Neighbours({"input": items}),
        dict.fromkeys(names, len(items)),
        stall=stall,
        seed=seed,
        reset_at=9,
    )
    for name in names:
        assert steps.items[name] == items
    if not stall:
        assert steps.cycles_of["input"] == list(range(1, len(items) + 1))


@pytest.mark.parametrize("stall", [0.0, 0.5, {"output_0": 0.9, "input": 0.2}], ids=str)
@pytest.mark.parametrize("outputs", [1, 2, 3])
def test_fork(outputs: int, stall: Any, seed: int) -> None:
    check_fork(outputs, fork, stall, seed)


def test_a_fork_that_does_not_wait_is_found() -> None:
    """Negative control: the source waits for the first sink only."""

    def faulty(m: Module, source: Any, *sinks: Any) -> None:
        fork(m, source, *sinks)
        m.d.comb += source.ready.eq(sinks[0].ready)

    with pytest.raises(Hang, match=r"'output_0' gave [0-9]+ of 40 items"):
        check_fork(2, faulty, 0.5, 1)
