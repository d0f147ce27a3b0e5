"""Fetch: requests at the memory port, and the beats of the segments.

The longest request has two bursts here, and the ring four beats; the segments have up to three
bursts at eight addresses, so that some take two requests. The memory answers with any beat on order
in any cycle, each once. The claims hold under any back-pressure and any reset. That the beats keep
their contents and order is the reorder buffer's proof.
"""

from __future__ import annotations

import pytest
from amaranth.hdl import Mux, Signal

from hw.config import BURST_BYTES
from hw.memory.fetch import SEGMENT_LAYOUT, Fetch
from hw.memory.port import BURST_BEATS
from tb.formal.bench import Bench
from tb.formal.memory import answer
from tb.formal.mutant import mutant
from tb.formal.prove import prove, refute
from tb.formal.small import SmallConfig

CONFIG = SmallConfig(memory_tags=2, reorder_beats=4)
REQUEST_BURSTS = 2
SEGMENT_BURSTS = 3
ADDRESSES = 8

TAG = "a request's tag is not on order"
ROOM = "there is room for every beat on order"
SEGMENT = "the requests cover the segments, in order"
LAST = "last marks the last beat of a segment's last request, no other"
NOTHING = "no beat comes out that was not asked for"
REQUEST_STAYS = "memory__request stays until its transfer"
BEATS_STAY = "beats stays until its transfer"


@pytest.fixture(autouse=True)
def short_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make two bursts the longest request."""
    for module in ("fetch", "reorder_buffer"):
        monkeypatch.setattr(f"hw.memory.{module}.REQUEST_BURSTS", REQUEST_BURSTS)


def fetching(fetch: Fetch, page_bursts: int = ADDRESSES) -> Bench:
    """Say what a fetch unit promises whose memory keeps its own promises."""
    bench = Bench(fetch)
    m = bench.module
    segments, request, beats = (bench.stream(n) for n in ("segments", "memory__request", "beats"))
    come = segments.valid & segments.ready
    asked = request.valid & request.ready
    gone = beats.valid & beats.ready
    size = request.payload.bursts_less_one + 1

    bursts = bench.free("bursts", range(SEGMENT_BURSTS + 1))
    place = bench.free("place", range(ADDRESSES))
    address = Signal(32)
    segment = Signal(SEGMENT_LAYOUT)
    m.d.comb += [
        address.eq(place * BURST_BYTES),
        segment.address.eq(address),
        segment.bursts.eq(bursts),
    ]
    bench.tie("segments__payload", segment)
    bench.assume(bursts != 0)

    _, busy = answer(
        bench,
        "memory__response",
        tags=CONFIG.memory_tags,
        beats=REQUEST_BURSTS * BURST_BEATS,
        asked=asked,
        tag=request.payload.tag,
        size=size * BURST_BEATS,
    )
    on_order = Signal(range(4 * CONFIG.reorder_beats))
    remaining = on_order - gone
    m.d.sync += on_order.eq(remaining + Mux(asked, size * BURST_BEATS, 0))

    # What is still to be asked for: of the oldest segment, and all of the one behind it.
    due = [Signal(SEGMENT_LAYOUT, name=f"due_{i}") for i in range(2)]
    rest = Signal(SEGMENT_LAYOUT)
    over = Signal()
    m.d.comb += [
        rest.eq(due[0]),
        over.eq((due[0].bursts == 0) | (asked & (size == due[0].bursts))),
    ]
    with m.If(asked):
        m.d.comb += [
            rest.bursts.eq(due[0].bursts - size),
            rest.address.eq(due[0].address + size * BURST_BYTES),
        ]
    new = Signal(SEGMENT_LAYOUT)
    m.d.comb += [new.address.eq(address), new.bursts.eq(Mux(come, bursts, 0))]
    with m.If(~over):
        m.d.sync += due[0].eq(rest)
        with m.If(come):
            m.d.sync += due[1].eq(new)
    with m.Elif(due[1].bursts != 0):
        m.d.sync += [due[0].eq(due[1]), due[1].eq(new)]
    with m.Else():
        m.d.sync += due[0].eq(new)

    # Pages longer than the segments' addresses stand for none at all.
    to_end = page_bursts - (due[0].address // BURST_BYTES) % page_bursts
    most = Mux(due[0].bursts > REQUEST_BURSTS, REQUEST_BURSTS, due[0].bursts)
    if page_bursts < ADDRESSES:
        most = Mux(most > to_end, to_end, most)
    right = (request.payload.address == due[0].address) & (size == most) & (due[0].bursts != 0)

    # The tracked request: how many beats come before its first and its last one.
    mark = bench.free("mark")
    tracked, final = Signal(), Signal()
    before_first, before_last = Signal.like(on_order), Signal.like(on_order)
    its = tracked & gone & (before_first == 0)
    with m.If(tracked & gone):
        m.d.sync += [before_last.eq(before_last - 1), tracked.eq(before_last != 0)]
        with m.If(before_first != 0):
            m.d.sync += before_first.eq(before_first - 1)
    with m.If(asked & mark & ~tracked):
        m.d.sync += [tracked.eq(1), final.eq(over), before_first.eq(remaining)]
        m.d.sync += before_last.eq(remaining + size * BURST_BEATS - 1)

    bench.check(TAG, ~asked | ~busy.bit_select(request.payload.tag, 1))
    bench.check(ROOM, on_order <= CONFIG.reorder_beats + 1)
    bench.check(SEGMENT, ~request.valid | right)
    bench.check_stream_rule("memory__request")
    bench.check(NOTHING, ~beats.valid | (on_order != 0))
    bench.check(LAST, ~its | (beats.payload.last == (final & (before_last == 0))))
    bench.check_stream_rule("beats", payload=beats.payload.last)
    return bench


REQUESTS = (TAG, ROOM, SEGMENT, REQUEST_STAYS)
# The first two make it easier for the solver to find out why the others hold.
BEATS = (TAG, ROOM, NOTHING, LAST, BEATS_STAY)


def claiming(bench: Bench, *claims: str) -> Bench:
    """Leave only these claims."""
    bench.violations = {claim: bench.violations[claim] for claim in claims}
    return bench


def test_requests() -> None:
    """For all time, by property directed reachability; 235 flip-flops."""
    prove(claiming(fetching(Fetch(CONFIG)), *REQUESTS))


@pytest.mark.parametrize("page_bursts", [1, 2, 4])
def test_requests_end_at_pages(page_bursts: int) -> None:
    """For all time, by property directed reachability; 235 flip-flops."""
    fetch = Fetch(CONFIG, page_bursts * BURST_BYTES)
    prove(claiming(fetching(fetch, page_bursts), *REQUESTS))


@pytest.mark.slow
def test_beats() -> None:
    """For all time, by property directed reachability; 93 flip-flops."""
    prove(claiming(fetching(Fetch(CONFIG)), *BEATS))


#: What goes wrong, the claim that shows it, and the fault as a change of the source.
FAULTS = {
    "a tag a cycle late": (
        TAG,
        "request.payload.tag.eq(buffer.tag)",
        "request.payload.tag.eq(request.payload.tag)",
    ),
    "more asked for than there is room for": (
        ROOM,
        "buffer.allocate.payload.bursts.eq(bursts)",
        "buffer.allocate.payload.bursts.eq(1)",
    ),
    "a request without its room": (ROOM, "buffer.allocate.valid & buffer.allocate.ready", "active"),
    "the wrong step of the address": (SEGMENT, "+ longest * BURST_BYTES", "+ BURST_BYTES"),
    "a segment is lost": (SEGMENT, "~active | (step & final)", "~active | step"),
    "a request is withdrawn": (
        REQUEST_STAYS,
        "with m.If(free_to_send):",
        "with m.If(free_to_send | ~active):",
    ),
    "last on every request": (
        LAST,
        "buffer.allocate.payload.final.eq(final)",
        "buffer.allocate.payload.final.eq(1)",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faulty_fetch_is_refuted(fault: str) -> None:
    """A counterexample of at most 20 cycles, by bounded model checking."""
    claim, old, new = FAULTS[fault]
    refute(fetching(mutant(Fetch, old, new)(CONFIG)), claim, cycles=20)


def test_a_wrong_page_is_found() -> None:
    """A counterexample of at most 20 cycles, by bounded model checking."""
    bench = fetching(Fetch(CONFIG, 4 * BURST_BYTES), 2)
    refute(bench, SEGMENT, cycles=20)
