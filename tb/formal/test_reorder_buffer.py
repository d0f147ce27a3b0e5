"""ReorderBuffer: the arbiter of tags and of the room in the ring.

The memory answers as docs/contracts.md, section 2, allows: any beat on order in any cycle, each
once. The error flag stands for the payload, which the buffer only moves,
and one tracked beat of one request, whichever they are, for all. The claims hold under any
back-pressure and any reset.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from amaranth.hdl import Cat, Signal

from hw.config import AttentionConfig, preset
from hw.memory.port import BURST_BEATS, REQUEST_BURSTS
from hw.memory.reorder_buffer import ReorderBuffer
from tb.formal.bench import Bench
from tb.formal.memory import answer
from tb.formal.mutant import mutant
from tb.formal.prove import prove, refute
from tb.formal.small import SmallConfig

TAG = "a tag is not given out while its answer is on order"
ROOM = "there is room for every beat on order"
NOTHING = "no beat comes out that was not asked for"
ORDER = "a beat comes out as it came in, at its place in the order of the requests"
READY = "a request is taken when a tag is free and there is room"
PROMPT = "a beat whose turn it is is offered two cycles after it came"
WAITING = "waiting says whether a beat on order has not reached the output"
STAYS = "beats stays until its transfer"


def ordering(buffer: ReorderBuffer, config: AttentionConfig, *, each_once: bool = True) -> Bench:
    """Say what a reorder buffer promises to a requester whose memory keeps its own promises."""
    bench = Bench(buffer)
    m = bench.module
    allocate, response, beats = (bench.stream(n) for n in ("allocate", "response", "beats"))
    depth = config.reorder_beats
    size = Signal(range(REQUEST_BURSTS * BURST_BEATS + 1))
    m.d.comb += size.eq(allocate.payload.bursts * BURST_BEATS)
    bench.assume((allocate.payload.bursts >= 1) & (allocate.payload.bursts <= REQUEST_BURSTS))
    taken = allocate.valid & allocate.ready
    gone = beats.valid & beats.ready

    error = bench.free("error")
    # No request is longer than the ring.
    longest = min(REQUEST_BURSTS * BURST_BEATS, depth)
    answered, on_order = answer(
        bench,
        "response",
        tags=config.memory_tags,
        beats=longest,
        asked=taken,
        tag=buffer.tag,
        size=size,
        each_once=each_once,
    )
    m.d.comb += answered.error.eq(error)

    # The requester: how many beats it asked for that have not come out.
    inside = Signal(range(2 * depth))
    m.d.sync += inside.eq(inside + size - gone)
    with m.If(~taken):
        m.d.sync += inside.eq(inside - gone)

    # The tracked beat: any one of any request.
    mark = bench.free("mark")
    which = bench.free("which", range(depth))
    tracked, arrived, final = Signal(), Signal(), Signal()
    number, ahead = Signal(range(depth)), Signal(range(2 * depth))
    its_tag = Signal.like(answered.tag)
    its_error = Signal()
    with m.If(taken & mark & ~tracked & (which < size)):
        m.d.sync += [tracked.eq(1), arrived.eq(0), its_tag.eq(buffer.tag), number.eq(which)]
        m.d.sync += ahead.eq(inside - gone + which)
        m.d.sync += final.eq(allocate.payload.final & (which == size - 1))
    with m.If(tracked & ~arrived & response.valid & (answered.tag == its_tag)):
        with m.If(answered.beat == number):
            m.d.sync += [arrived.eq(1), its_error.eq(error)]
    turn = tracked & (ahead == 0)
    with m.If(tracked & gone):
        m.d.sync += [ahead.eq(ahead - 1), tracked.eq(ahead != 0)]
    seen = Cat(beats.payload.error, beats.payload.last)

    bench.check(TAG, ~taken | ~on_order.bit_select(buffer.tag, 1))
    # The output register holds one beat more than the ring.
    bench.check(ROOM, inside <= depth + 1)
    bench.check(NOTHING, ~beats.valid | (inside != 0))
    bench.check(ORDER, ~(turn & gone) | (arrived & (seen == Cat(its_error, final))))
    free_tag = ~on_order.all()
    bench.check(READY, ~(free_tag & (inside + size <= depth)) | allocate.ready)
    bench.check(PROMPT, ~(turn & bench.before(turn & arrived)) | beats.valid)
    bench.check(WAITING, buffer.waiting == (inside != beats.valid))
    bench.check_stream_rule("beats", payload=seen)
    return bench


SMALLEST = SmallConfig(memory_tags=2, reorder_beats=4)


@pytest.mark.slow
def test_reorder_buffer() -> None:
    """For all time, by property directed reachability; 77 flip-flops."""
    prove(ordering(ReorderBuffer(SMALLEST), SMALLEST))


@pytest.mark.slow
def test_reorder_buffer_with_more_tags() -> None:
    """For all time, by property directed reachability; 114 flip-flops."""
    config = replace(SMALLEST, memory_tags=4)
    prove(ordering(ReorderBuffer(config), config), seconds=300)


def test_tags_at_full_size() -> None:
    """For all time, by induction; 603 flip-flops, none after merging equal ones."""
    config = preset("lm")
    bench = ordering(ReorderBuffer(config), config, each_once=False)
    bench.violations = {TAG: bench.violations[TAG]}
    prove(bench)


#: What goes wrong, the claim that shows it, and the fault as a change of the source.
FAULTS = {
    "a tag is free a beat early": (TAG, "end.eq(more_beats[answer.tag] == 0)", "end.eq(1)"),
    "the tag in use is given out": (TAG, "with m.If(~busy[tag]):", "with m.If(busy[tag]):"),
    "one beat too many is let in": (ROOM, "free >= size", "free + 1 >= size"),
    "a departure counts twice": (ROOM, "0) + departing", "0) + 2 * departing"),
    "a beat leaves before it came": (ORDER, "departing.eq(advance & ", "departing.eq(advance | "),
    "answers land at the wrong request": (ORDER, "start[answer.tag] +", "start[0] +"),
    "beats land as they come": (
        ORDER,
        "+ answer.beat)",
        "+ last_beat[0] - more_beats[answer.tag])",
    ),
    "the flag of the wrong request": (ORDER, "eq(final[answer.tag]", "eq(final[0]"),
    "last on the beat that comes last": (ORDER, "(answer.beat == last_beat[answer.tag])", "end"),
    "presence is never cleared": (NOTHING, "(present & ~departed)", "present"),
    "a tag is lost": (READY, "(busy & ~end_tag)", "busy"),
    "a full buffer counts as free": (
        WAITING,
        "self.waiting.eq(free != self._depth)",
        "self.waiting.eq(free == 0)",
    ),
    "a waiting beat is overwritten": (STAYS, "~self.beats.valid | self.beats.ready", "1"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faulty_reorder_buffer_is_refuted(fault: str) -> None:
    """A counterexample of at most 20 cycles, by bounded model checking."""
    claim, old, new = FAULTS[fault]
    refute(ordering(mutant(ReorderBuffer, old, new)(SMALLEST), SMALLEST), claim, cycles=20)
