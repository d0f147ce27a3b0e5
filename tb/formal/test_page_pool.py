"""PagePool: no page is given out twice, none is lost, and a check tells whose it is.

Four pages, two sequences and two places of each stand for all. Operations come in any order, any
check in any cycle; the claims hold under any back-pressure and any reset, whatever the memory held
before. What the pool gave out is known from its answers alone.
"""

from __future__ import annotations

import pytest
from amaranth.hdl import Array, Cat, Mux, Signal

from hw.memory.kv_mmu.config import MmuConfig
from hw.memory.kv_mmu.page_pool import PagePool, PoolOperation
from tb.formal.bench import Bench
from tb.formal.mutant import mutant
from tb.formal.prove import prove, refute
from tb.formal.small import SmallConfig

PAGES = 4
CONFIG = MmuConfig(
    attention=SmallConfig(layers=1, kv_heads=1, max_context=128), sequences=2, pages=PAGES
)

TWICE = "a page that is given out is free"
NONE = "there is no page only when all are given out"
LOST = "free and given out are all pages, when no operation runs"
COUNT = "a release returns all pages of the sequence"
UNDO = "an undo is done if a page was given out just before"
MATCH = "a check matches what was given out and is not about to come back"
FOREIGN = "a check never matches a page of another place"
OWNER = "the owners told are those of the pages given out, when no operation runs"
STAYS = "result stays until its transfer"


def pooling(pool: PagePool) -> Bench:
    """Say what a pool promises."""
    bench = Bench(pool)
    m = bench.module
    request, result = bench.stream("request"), bench.stream("result")
    come, gone = request.valid & request.ready, result.valid & result.ready

    def place(name: str) -> Signal:
        """Return any of four places."""
        signal = Signal.like(request.payload.place, name=name)
        m.d.comb += [
            signal.sequence.eq(bench.free(f"{name}_sequence")),
            signal.index.eq(bench.free(f"{name}_index")),
        ]
        return signal

    asked = Signal.like(request.payload)
    operation = bench.free("operation", 2)
    bench.assume(operation != 3)
    m.d.comb += [asked.operation.eq(operation), asked.place.eq(place("asked_place"))]
    bench.tie("request__payload", asked)
    check = Signal.like(pool.check)
    m.d.comb += [
        check.enable.eq(bench.free("checks")),
        check.page.eq(bench.free("page", range(PAGES))),
        check.place.eq(place("check_place")),
    ]
    bench.tie("check", check)

    # What was given out, by the answers, and to whom.
    held = Signal(PAGES)
    holder = Array(Signal.like(asked.place.as_value(), name=f"holder_{i}") for i in range(PAGES))
    running = Signal.like(request.payload)
    busy, can_undo = Signal(), Signal()
    undone = Signal(range(PAGES))
    with m.If(come):
        m.d.sync += [busy.eq(1), running.eq(request.payload)]
    value = result.payload.value[:2]
    first_bit = len(asked.place.sequence)
    theirs = Cat(held[i] & (holder[i][:first_bit] == running.place.sequence) for i in range(PAGES))
    taken = gone & (running.operation == PoolOperation.TAKE) & result.payload.done
    with m.If(gone):
        m.d.sync += [busy.eq(0), can_undo.eq(taken)]
        with m.If(running.operation == PoolOperation.TAKE):
            with m.If(result.payload.done):
                m.d.sync += [
                    held.bit_select(value, 1).eq(1),
                    holder[value].eq(running.place),
                    undone.eq(value),
                ]
        with m.Elif(running.operation == PoolOperation.UNDO):
            with m.If(can_undo):
                m.d.sync += held.bit_select(undone, 1).eq(0)
        with m.Else():
            m.d.sync += held.eq(held & ~theirs)
    told = Signal(PAGES)
    told_sequence = Signal(PAGES)
    with m.If(pool.owner.enable):
        m.d.sync += [
            told.bit_select(pool.owner.page, 1).eq(pool.owner.allocated),
            told_sequence.bit_select(pool.owner.page, 1).eq(pool.owner.sequence),
        ]

    take = running.operation == PoolOperation.TAKE
    idle = request.ready
    bench.check(TWICE, ~taken | ~held.bit_select(value, 1))
    bench.check(NONE, ~(gone & take & ~result.payload.done) | held.all())
    bench.check(LOST, ~idle | (pool.free + sum(held[i] for i in range(PAGES)) == PAGES))
    freed = sum(theirs[i] for i in range(PAGES))
    release = running.operation == PoolOperation.RELEASE
    bench.check(COUNT, ~(gone & release) | (result.payload.value == freed))
    undo = running.operation == PoolOperation.UNDO
    bench.check(UNDO, ~(gone & undo) | (result.payload.done == can_undo))
    its_place = holder[check.page] == check.place.as_value()
    equal = held.bit_select(check.page, 1) & its_place
    # Page and place of the check that ``match`` is about.
    right = bench.before(check.enable & equal)
    taking = bench.before(busy & take & (check.place == running.place))
    same_sequence = check.place.sequence == running.place.sequence
    leaving = bench.before(busy & (undo | (release & same_sequence)))
    bench.check(MATCH, ~(right & ~leaving) | pool.match)
    bench.check(FOREIGN, ~pool.match | right | taking)
    owners = Cat(~held[i] | (told_sequence[i] == holder[i][:first_bit]) for i in range(PAGES)).all()
    bench.check(OWNER, ~idle | ((told == held) & owners))
    bench.check_stream_rule("result", payload=Mux(take, result.payload.as_value(), 0))
    return bench


CLAIMS = (TWICE, NONE, LOST, COUNT, UNDO, MATCH, FOREIGN, OWNER, STAYS)


# All at once: the claims that are easy to show help the solver with the others.
@pytest.mark.slow
def test_page_pool() -> None:
    """For all time, by property directed reachability; 152 flip-flops."""
    prove(pooling(PagePool(CONFIG)), seconds=300)


#: What goes wrong, the claim that shows it, and the fault as a change of the source.
FAULTS = {
    "the next page is not taken off the list": (TWICE, "head.eq(read.data.link)", "head.eq(head)"),
    "a list that is one page short": (NONE, "self.free == 0", "self.free == 1"),
    "a page is not counted back": (LOST, "self.free.eq(self.free + 1)", "self.free.eq(self.free)"),
    "the first page is not looked at": (COUNT, "index.eq(0),", "index.eq(1),"),
    "other sequences are released": (
        COUNT,
        "read.data.allocated & (found.sequence == place.sequence)",
        "read.data.allocated",
    ),
    "an undo twice": (UNDO, "m.d.sync += can_undo.eq(0)", "m.d.sync += can_undo.eq(can_undo)"),
    "a check of the page alone": (FOREIGN, "& (found == expected)", ""),
    "a check while the list reads": (MATCH, "m.Elif(~self.check.enable)", "m.Else()"),
    "a free page keeps its owner": (
        OWNER,
        "self.owner.allocated.eq(write.data.allocated)",
        "self.owner.allocated.eq(1)",
    ),
    "an answer that does not wait": (STAYS, "with m.If(self.result.ready):", "with m.If(1):"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faulty_page_pool_is_refuted(fault: str) -> None:
    """A counterexample of at most 30 cycles, by bounded model checking."""
    claim, old, new = FAULTS[fault]
    refute(pooling(mutant(PagePool, old, new)(CONFIG)), claim, cycles=30)
