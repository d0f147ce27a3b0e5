"""The writer of runs: what a fence, and an idle writer, say about what is written.

One record, runs of at most two bursts, two of them that wait, two writes under way; a write may end
in any cycle behind its request, those of both tags in any order. One run is followed from its last
burst to its end.
"""

from __future__ import annotations

from typing import Any

import pytest
from amaranth.hdl import Cat, Mux, Signal

from hw.cores.compressor.record_writer import RecordWriter
from tb.formal.bench import Bench
from tb.formal.mutant import mutant
from tb.formal.prove import prove, refute

RUN, TAG_BITS, WAITING = 2, 1, 2
#: More than the runs that are complete and not asked for: the queue, and the one that is sent.
MOST = 4

FENCED = "behind a fence that is passed every run is written"
IDLE = "an idle writer has written every run"
PASSED = "a writer without a run is idle and fenced"

pytestmark = pytest.mark.slow


def writing(unit: Any) -> Bench:
    """Say what the writer promises in front of a memory that answers each request once."""
    bench = Bench(unit)
    m = bench.module
    bursts, request = bench.stream("bursts__0"), bench.stream("memory__request")
    written = bench.stream("memory__written")
    bench.assume_stream_rule("bursts__0")
    bench.tie("fence", bench.free("asks") & unit.fenced)

    # The memory: an end for each request, of any tag.
    asked = request.valid & request.ready
    due = Signal(1 << TAG_BITS)
    tag = bench.free("end_tag", TAG_BITS)
    bench.tie("memory__written__valid", bench.free("ends") & due.bit_select(tag, 1))
    bench.tie("memory__written__payload", Cat(tag, bench.free("error")))
    with m.If(written.valid):
        m.d.sync += due.bit_select(tag, 1).eq(0)
    with m.If(asked):
        m.d.sync += due.bit_select(request.payload.tag, 1).eq(1)

    # A run, and those that are complete before it and not asked for.
    taken = bursts.valid & bursts.ready
    count = Signal(range(RUN))
    complete = Signal()
    m.d.comb += complete.eq(taken & (bursts.payload.end | (count == RUN - 1)))
    with m.If(taken):
        m.d.sync += count.eq(Mux(complete, 0, count + 1))
    waiting = Signal(range(2 * MOST))
    m.d.sync += waiting.eq(waiting + complete - asked)
    tracked, sent, ahead = Signal(), Signal(), Signal.like(waiting)
    its_tag = Signal(TAG_BITS)
    starts = Signal()
    m.d.comb += starts.eq(complete & bench.free("mark") & ~tracked)
    behind = Signal()
    with m.If(starts):
        m.d.sync += [tracked.eq(1), sent.eq(0), ahead.eq(waiting - asked)]
    with m.Elif(tracked & ~sent & asked):
        m.d.sync += [ahead.eq(ahead - 1), sent.eq(ahead == 0), its_tag.eq(request.payload.tag)]
    with m.If(unit.fence & (tracked | starts)):
        m.d.sync += behind.eq(1)
    with m.If(tracked & sent & written.valid & (tag == its_tag)):
        m.d.sync += [tracked.eq(0), behind.eq(0)]
    bench.check(FENCED, ~(unit.fenced & behind))
    bench.check(IDLE, ~(unit.idle & tracked))
    bench.check(PASSED, (waiting != 0) | due.any() | (unit.idle & unit.fenced))
    return bench


@pytest.fixture(autouse=True)
def short_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let two runs wait."""
    monkeypatch.setattr("hw.cores.compressor.record_writer._WAITING", WAITING)


def writer(unit: type = RecordWriter) -> Any:
    return unit(records=[1], run=RUN, tag_bits=TAG_BITS)


def test_fences() -> None:
    """For all time, by induction and property directed reachability."""
    prove(writing(writer()))


#: What goes wrong, the claim that shows it, and the fault as a change of the source.
FAULTS = {
    "the fence of the other side": (FENCED, "Mux(side, none[0], none[1])", "none[0] | none[1]"),
    "a fence that changes nothing": (FENCED, "side.eq(~side)", "side.eq(side)"),
    "the side of another write": (
        FENCED,
        "sides.bit_select(written.p.tag, 1)",
        "sides.bit_select(~written.p.tag, 1)",
    ),
    "runs of both sides": (PASSED, "completes & (side == of)", "completes"),
    "idle with one side": (IDLE, "none[0] & none[1]", "none[0]"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faulty_fences_are_refuted(fault: str) -> None:
    """A counterexample of at most 20 cycles, by bounded model checking."""
    claim, old, new = FAULTS[fault]
    refute(writing(writer(mutant(RecordWriter, old, new))), claim, cycles=20)
