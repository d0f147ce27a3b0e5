"""Run a small component cycle by cycle in Amaranth's own simulator: nothing is compiled.

For units whose neighbours answer, which a list of items cannot: a `Neighbours` sees what moved in
a cycle and says what the plain inputs are in the next one, and which items there are to send.
Above some thousand cycles `simulate` is faster.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from amaranth.hdl import ResetInserter, Signal, Value
from amaranth.lib import wiring
from amaranth.sim import Simulator

from hw.counters import Counter
from tb.harness.elaborate import PortError
from tb.harness.request import Stall
from tb.harness.verdict import ExtraItems, Hang, StreamRuleBroken

#: Cycles without stalls in which nothing more may come.
_DRAIN = 12
_PERIOD = 1e-9


class Neighbours:
    """What is around the component; made anew after a reset.

    Parameters
    ----------
    inputs
        Per input stream the packed payloads to send; `react` may append to these lists.

    Members
    -------
    held
        Streams that are not valid, or not ready, in the next cycle; `react` may change it.
    """

    def __init__(self, inputs: Mapping[str, Sequence[int]]) -> None:
        self.inputs = {name: list(items) for name, items in inputs.items()}
        self.held: set[str] = set()

    def react(self, moved: Mapping[str, int]) -> Mapping[str, int]:
        """Return plain inputs of the next cycle; those left out are 0.

        Parameters
        ----------
        moved
            What moved in this cycle: the payload per stream with a transfer, and the watched
            outputs that were not 0.
        """
        del moved
        return {}


@dataclass
class Steps:
    """What a run gave, from the (last) reset on; cycles are counted from 1."""

    #: Per stream, inputs too, the payloads that moved and the cycles in which they did.
    items: dict[str, list[int]]
    cycles_of: dict[str, list[int]]
    #: Per watched output or counter the cycles in which it was not 0.
    seen: dict[str, list[int]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Stream:
    payload: Value
    valid: Value
    ready: Value
    is_input: bool


def play(
    component: wiring.Component,
    neighbours: Callable[[], Neighbours],
    outputs: Mapping[str, int],
    *,
    watch: Sequence[str] = (),
    counters: Sequence[Counter] = (),
    stall: Stall = 0.0,
    seed: int = 1,
    reset_at: int | None = None,
    max_cycles: int = 4000,
) -> Steps:
    """Run until all items are sent and all of ``outputs`` have come, and a little longer.

    Parameters
    ----------
    component
        Its streams and plain signals are named as by `simulate`.
    neighbours
        Makes what is around it.
    outputs
        Per output stream how many items are to come.
    watch
        Plain outputs that are looked at in every cycle.
    counters
        Of the component, whose events are looked at, too, by name.
    stall
        Probability that an input is not valid or an output is not ready in a cycle, for all
        streams or by name.
    seed
        Of the stalls.
    reset_at
        Cycle in which the component is reset, at least 1.
    max_cycles
        Limit, without the cycles before a reset.

    Raises
    ------
    Hang, ExtraItems, StreamRuleBroken
        As of `simulate`.
    PortError
        `react` names a plain input that does not exist.
    """
    streams, plain_inputs, plain_outputs = _ports(component)
    reset = Signal()
    rng = random.Random(seed)
    watched = {
        **{name: plain_outputs[name] for name in watch},
        **{counter.name: counter.event for counter in counters},
    }
    chance = {n: stall.get(n, 0.0) if isinstance(stall, Mapping) else stall for n in streams}
    steps = Steps({}, {})

    async def bench(ctx: Any) -> None:
        if reset_at is not None:
            await cycles(ctx, reset_at)
            ctx.set(reset, 1)
            await ctx.tick()
            ctx.set(reset, 0)
        await cycles(ctx, None)

    async def cycles(ctx: Any, count: int | None) -> None:
        """So many cycles, or all."""
        around = neighbours()
        sent = dict.fromkeys(around.inputs, 0)
        steps.items = {name: [] for name in streams}
        steps.cycles_of = {name: [] for name in streams}
        steps.seen = {name: [] for name in watched}
        waiting: dict[str, int] = {}
        quiet = 0
        settings: Mapping[str, int] = {}
        for cycle in range(1, max_cycles + _DRAIN if count is None else count + 1):
            unknown = sorted(set(settings) - set(plain_inputs))
            if unknown:
                raise PortError(f"there is no plain input {unknown[0]!r}")
            for name, plain in plain_inputs.items():
                ctx.set(plain, settings.get(name, 0))
            _offer(ctx, around, sent, waiting)
            moved = _transfers(ctx, waiting)
            for name, item in moved.items():
                steps.items[name].append(item)
                steps.cycles_of[name].append(cycle)
                sent[name] = sent.get(name, 0) + 1
            for name, signal in watched.items():
                value = ctx.get(signal)
                if value:
                    moved[name] = value
                    steps.seen[name].append(cycle)
            settings = around.react(moved)
            short = _short(around, steps, outputs)
            quiet = 0 if short else quiet + 1
            await ctx.tick()
            if quiet > _DRAIN:
                break
            if count is None and cycle >= max_cycles and short:
                raise Hang(f"not done after {cycle} cycles: {'; '.join(short)}")
        extra = [name for name, wanted in outputs.items() if len(steps.items[name]) > wanted]
        if extra:
            raise ExtraItems(f"items too many: {', '.join(extra)}")

    def _offer(ctx: Any, around: Neighbours, sent: dict[str, int], waiting: dict[str, int]) -> None:
        for name, one in streams.items():
            runs = rng.random() >= chance[name] and name not in around.held
            if not one.is_input:
                ctx.set(one.ready, runs)
                continue
            there = sent[name] < len(around.inputs[name])
            offered = there and (runs or name in waiting)
            ctx.set(one.valid, offered)
            # What is not offered has no meaning.
            width = len(one.payload)
            ctx.set(one.payload, around.inputs[name][sent[name]] if offered else (1 << width) - 1)

    def _transfers(ctx: Any, waiting: dict[str, int]) -> dict[str, int]:
        moved = {}
        for name, one in streams.items():
            valid = ctx.get(one.valid)
            item = ctx.get(one.payload) & (1 << len(one.payload)) - 1 if valid else 0
            if name in waiting and not one.is_input:
                if not valid:
                    raise StreamRuleBroken(f"withdrew valid of {name!r} before ready")
                if item != waiting[name]:
                    raise StreamRuleBroken(f"changed the payload of {name!r} before ready")
            waiting.pop(name, None)
            if valid and ctx.get(one.ready):
                moved[name] = item
            elif valid:
                waiting[name] = item
        return moved

    simulator = Simulator(ResetInserter(reset)(component))
    simulator.add_clock(_PERIOD)
    simulator.add_testbench(bench)
    simulator.run()
    return steps


def _short(around: Neighbours, steps: Steps, outputs: Mapping[str, int]) -> list[str]:
    """What is still to be sent or to come."""
    found = []
    for name, items in around.inputs.items():
        if len(steps.items[name]) < len(items):
            found.append(f"input {name!r} took {len(steps.items[name])} of {len(items)} items")
    for name, wanted in outputs.items():
        if len(steps.items[name]) < wanted:
            found.append(f"output {name!r} gave {len(steps.items[name])} of {wanted} items")
    return found


def _ports(
    component: wiring.Component,
) -> tuple[dict[str, _Stream], dict[str, Value], dict[str, Value]]:
    """The streams, the plain inputs and the plain outputs by name."""
    grouped: dict[tuple[str | int, ...], dict[str, tuple[bool, Value]]] = {}
    for path, member, value in component.signature.flatten(component):
        of_path = grouped.setdefault(path[:-1], {})
        of_path[str(path[-1])] = (member.flow == wiring.In, Value.cast(value))
    streams: dict[str, _Stream] = {}
    plain: tuple[dict[str, Value], dict[str, Value]] = ({}, {})
    for path, members in grouped.items():
        if set(members) == {"payload", "valid", "ready"}:
            payload, valid, ready = (members[key][1] for key in ("payload", "valid", "ready"))
            name = "__".join(map(str, path))
            streams[name] = _Stream(payload, valid, ready, members["payload"][0])
            continue
        for last, (is_input, value) in members.items():
            plain[not is_input]["__".join([*map(str, path), last])] = value
    return streams, *plain
