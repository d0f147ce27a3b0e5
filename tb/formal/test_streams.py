"""StreamRegister and StreamFIFO: every item comes out, once, in order, and waits for its transfer.

Both move payloads without looking at them, so one bit stands for any payload, and one tracked item,
whichever it is, for all. Proofs are for all time (property directed reachability).
"""

from __future__ import annotations

import pytest
from amaranth.hdl import Const, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.streams import StreamFIFO, StreamRegister
from tb.formal.bench import Bench
from tb.formal.prove import prove, refute

WIDTH = 1


def passage(part: wiring.Component, *, capacity: int, latency: int) -> Bench:
    """Say what a queue of ``capacity`` items promises."""
    bench = Bench(part)
    m = bench.module
    source, sink = bench.stream("input"), bench.stream("output")
    come = source.valid & source.ready
    gone = sink.valid & sink.ready
    inside = Signal(range(capacity + 2))
    m.d.sync += inside.eq(inside + come - gone)

    # The tracked item: any one that comes in, and how many go before it.
    mark = bench.free("mark")
    chosen, tracked = Signal(), Signal()
    value = Signal(WIDTH)
    ahead = Signal(range(capacity + 2))
    with m.If(come & mark & ~chosen):
        m.d.sync += [chosen.eq(1), tracked.eq(1), value.eq(source.payload)]
        m.d.sync += ahead.eq(inside - gone)
    turn = tracked & gone & (ahead == 0)
    with m.If(tracked & gone):
        m.d.sync += ahead.eq(ahead - 1)
    with m.If(turn):
        m.d.sync += tracked.eq(0)

    # Those inside that came in time to be offered now.
    due = inside if latency == 1 else bench.before(inside - gone)
    bench.check("nothing comes out of an empty queue", ~sink.valid | (inside != 0))
    bench.check("an item comes out as it went in, at its place", ~turn | (sink.payload == value))
    bench.check("no more items than there is room for", inside <= capacity)
    bench.check("an item inside is offered in time", (due == 0) | sink.valid)
    bench.check("an empty queue is ready", (inside != 0) | source.ready)
    bench.check_stream_rule("output")
    return bench


def test_register() -> None:
    """For all time, by property directed reachability; 13 flip-flops."""
    prove(passage(StreamRegister(WIDTH), capacity=1, latency=1))


@pytest.mark.parametrize(
    "depth", [2, 3, *(pytest.param(n, marks=pytest.mark.slow) for n in (5, 8))]
)
def test_short_queue(depth: int) -> None:
    """For all time, by property directed reachability; 17 to 33 flip-flops."""
    prove(passage(StreamFIFO(WIDTH, depth=depth), capacity=depth, latency=1))


@pytest.mark.parametrize("depth", [9, pytest.param(12, marks=pytest.mark.slow)])
def test_long_queue(depth: int) -> None:
    """For all time, by property directed reachability; 40 and 45 flip-flops."""
    assert depth > StreamFIFO.REGISTERS
    prove(passage(StreamFIFO(WIDTH, depth=depth), capacity=depth, latency=2))


FAULTS = {
    "lose": "an item inside is offered in time",
    "repeat": "nothing comes out of an empty queue",
    "reorder": "an item comes out as it went in, at its place",
    "overflow": "no more items than there is room for",
    "withdraw": "output stays until its transfer",
    "change": "output stays until its transfer",
    "late": "an item inside is offered in time",
    "deaf": "an empty queue is ready",
}


class FaultyQueue(wiring.Component):
    """A queue of two registers with one of `FAULTS`, or (``none``) without."""

    def __init__(self, fault: str) -> None:
        self._fault = fault
        signature = stream.Signature(WIDTH)
        super().__init__({"input": In(signature), "output": Out(signature)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        fault = self._fault
        first, second = Signal(WIDTH), Signal(WIDTH)
        level = Signal(2)
        waited = Signal()
        come = self.input.valid & self.input.ready
        gone = self.output.valid & self.output.ready
        room = (level != 2) | (fault == "overflow")
        m.d.comb += [
            self.input.ready.eq(0 if fault == "deaf" else room),
            self.output.valid.eq((level != 0) & (~waited if fault == "withdraw" else 1)),
            self.output.payload.eq(first ^ (waited if fault == "change" else 0)),
        ]
        if fault == "late":
            m.d.comb += self.output.valid.eq(level == 2)
        m.d.sync += waited.eq(self.output.valid & ~self.output.ready)
        counted = come & ~((level == 1) & ~gone) if fault == "lose" else come
        left = gone & (level == 1) if fault == "repeat" else Const(0)
        m.d.sync += level.eq(level + counted - (gone & ~left))
        with m.If(gone):
            m.d.sync += first.eq(second)
        with m.If(come):
            with m.If(level - gone == 0):
                m.d.sync += first.eq(self.input.payload)
            with m.Else():
                m.d.sync += second.eq(self.input.payload)
                if fault == "reorder":
                    with m.If(~waited):
                        m.d.sync += [first.eq(self.input.payload), second.eq(first)]
        return m


def test_sound_queue_is_proved() -> None:
    prove(passage(FaultyQueue("none"), capacity=2, latency=1))


@pytest.mark.parametrize("fault", FAULTS)
def test_faulty_queue_is_refuted(fault: str) -> None:
    """A counterexample, by property directed reachability."""
    bench = passage(FaultyQueue(fault), capacity=2, latency=1)
    refute(bench, FAULTS[fault])
