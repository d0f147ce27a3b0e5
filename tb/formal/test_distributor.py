"""JobDistributor: results leave in the order of the jobs, whatever the slices do.

Two slices, free jobs and free refusals. A slice completes its jobs in order, no more than it has;
its outputs and lists carry its number. One tracked job stands for all.
"""

from __future__ import annotations

import pytest
from amaranth.hdl import Mux, Signal
from amaranth.lib import data

from hw.distributor import JobDistributor
from hw.distributor.collect import Collect
from hw.distributor.dispatch import Dispatch
from hw.distributor.port import JobStreams
from hw.formats import Status
from hw.placement import home_slice
from tb.formal.bench import Bench
from tb.formal.mutant import mutant
from tb.formal.prove import prove, refute

SLICES = 2
STREAMS = JobStreams(
    job=data.StructLayout({"sequence": 1, "layer": 1, "kv_head": 1, "lists": 1}),
    query=data.StructLayout({"bit": 1}),
    selection=data.StructLayout({"slice": 1, "last": 1}),
    output=data.StructLayout({"slice": 1}),
    completion=data.StructLayout({"mark": 1, "status": Status}),
    query_beats=2,
    output_beats=2,
    most_selected=1,
    jobs_in_flight=1,
)
#: Jobs that the distributor lets in before the first has left.
INSIDE = SLICES * STREAMS.jobs_in_flight

HOME = "a job goes to its slice, once"
QUERIES = "a job's query beats go to its slice, in order"
ORDER = "completions leave in the order of the jobs"
RESULTS = "results of the oldest job only, from its slice"
COUNT = "a job that is not refused has all its output beats before its completion, another none"
LISTS = "a job has one list before its completion if it selects and is not refused, else none"


def distributing(unit: JobDistributor) -> Bench:
    """Say what a distributor promises to jobs whose slices keep their promises."""
    bench = Bench(unit)
    m = bench.module
    job, query, selection, output, completion = (bench.stream(n) for n in STREAMS.signature.members)
    bench.assume_stream_rule("job", "query")
    come, gone = job.valid & job.ready, completion.valid & completion.ready
    home = Signal()
    fields = job.payload
    m.d.comb += home.eq(home_slice(fields.sequence, fields.layer, fields.kv_head, SLICES))
    inside = Signal(range(4 * INSIDE))
    m.d.sync += inside.eq(inside + come - gone)

    # The tracked job: how many are before it in all, and in its slice.
    mark = bench.free("mark")
    tracked, owner, lists = Signal(), Signal(), Signal()
    ahead, ahead_there = Signal.like(inside), Signal.like(inside)
    start = come & mark & ~tracked
    with m.If(start):
        m.d.sync += [tracked.eq(1), owner.eq(home), lists.eq(fields.lists), ahead.eq(inside - gone)]
    with m.Elif(tracked & gone):
        m.d.sync += [ahead.eq(ahead - 1), tracked.eq(ahead != 0)]
    there = Signal()
    sent = []
    for i in range(SLICES):
        name = f"slice__{i}__completion"
        to_it, back = bench.stream(f"slice__{i}__job"), bench.stream(name)
        sent.append(to_it.valid & to_it.ready)
        held = Signal.like(inside, name=f"held_{i}")
        ends = back.valid & back.ready
        m.d.sync += held.eq(held + sent[i] - ends)
        refused = bench.free(f"refused_{i}")
        item = Signal.like(back.payload)
        m.d.comb += [
            item.status.eq(Mux(refused, Status.CONTEXT_RANGE, Status.OK)),
            item.mark.eq(there & (owner == i) & (ahead_there == 0)),
        ]
        bench.tie(f"{name}__payload", item)
        bench.tie(f"{name}__valid", bench.free(f"completes_{i}") & (held != 0))
        with m.If(start & sent[i]):
            m.d.sync += [there.eq(1), ahead_there.eq(held - ends)]
        with m.Elif(there & (owner == i) & ends):
            m.d.sync += [ahead_there.eq(ahead_there - 1), there.eq(ahead_there != 0)]
        for what in ("output", "selection"):
            result = Signal.like(bench.stream(f"slice__{i}__{what}").payload)
            m.d.comb += result.slice.eq(i)
            if what == "selection":
                m.d.comb += result.last.eq(1)
            bench.tie(f"slice__{i}__{what}__payload", result)

    bench.check(HOME, (sent[0] == (come & ~home)) & (sent[1] == (come & home)))
    turn = tracked & (ahead == 0)
    bench.check(ORDER, ~gone | (completion.payload.mark == turn))

    # What the oldest job has had; the order of results within a slice is that of its queue.
    beats, items = Signal(range(STREAMS.output_beats + 2)), Signal(2)
    beat, item_gone = output.valid & output.ready, selection.valid & selection.ready
    with m.If(gone):
        m.d.sync += [beats.eq(0), items.eq(0)]
    with m.Else():
        m.d.sync += [beats.eq(beats + beat), items.eq(items + item_gone)]
    runs = completion.payload.status == Status.OK
    bench.check(COUNT, ~gone | (beats == Mux(runs, STREAMS.output_beats, 0)))
    bench.check(LISTS, ~(gone & turn) | (items == (runs & lists)))
    own = (~beat | (output.payload.slice == owner)) & (
        ~item_gone | (selection.payload.slice == owner)
    )
    bench.check(RESULTS, (~(beat | item_gone) | (inside != 0)) & (~turn | own))

    # Query beats to come before those of the tracked job.
    due, before = Signal(range(8 * INSIDE)), Signal(range(8 * INSIDE))
    waits = Signal(range(STREAMS.query_beats + 1))
    query_owner = Signal()
    moved = query.valid & query.ready
    m.d.sync += due.eq(due + Mux(come, STREAMS.query_beats, 0) - moved)
    goes = [bench.stream(f"slice__{i}__query") for i in range(SLICES)]
    to_owner = Mux(query_owner, goes[1].valid & goes[1].ready, goes[0].valid & goes[0].ready)
    its_turn = (waits != 0) & (before == 0) & moved
    with m.If((waits != 0) & moved):
        with m.If(before == 0):
            m.d.sync += waits.eq(waits - 1)
        with m.Else():
            m.d.sync += before.eq(before - 1)
    with m.If(start & (waits == 0)):
        m.d.sync += [waits.eq(STREAMS.query_beats), before.eq(due - moved), query_owner.eq(home)]
    bench.check(QUERIES, ~its_turn | to_owner)
    bench.check_stream_rule("selection", "output", "completion")
    return bench


def two_slices() -> JobDistributor:
    return JobDistributor(STREAMS, slices=SLICES, selects=lambda job: job.lists)


def test_distributor() -> None:
    """For all time, by property directed reachability; 127 flip-flops."""
    prove(distributing(two_slices()))


#: The class, what goes wrong, the claim that shows it, and the fault as a change of the source.
FAULTS = {
    "always the first slice": (Dispatch, HOME, "room & (home == i)", "room & (i == 0)"),
    "a query too many": (Dispatch, QUERIES, "beat == beats - 1", "beat == beats - 2"),
    "no order": (Collect, ORDER, "self.order.ready.eq(done)", "self.order.ready.eq(1)"),
    "results of the first slice": (
        Collect,
        RESULTS,
        "payload.as_value() for queue in queues)[home]",
        "payload.as_value() for queue in queues)[0]",
    ),
    "a beat too few": (Collect, COUNT, "(sent != streams.output_beats)", "(sent < 1)"),
    "outputs of refused jobs": (
        Collect,
        COUNT,
        "eq(complete & ~refused & (sent",
        "eq(complete & (sent",
    ),
    "the list is not awaited": (Collect, LISTS, ' & ~go["selection"]', ""),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faulty_distributor_is_refuted(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A counterexample of at most 30 cycles, by bounded model checking."""
    part, claim, old, new = FAULTS[fault]
    monkeypatch.setattr(f"hw.distributor.distributor.{part.__name__}", mutant(part, old, new))
    refute(distributing(two_slices()), claim, cycles=30)
