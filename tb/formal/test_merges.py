"""Turns and merged ports: each request goes once, none waits too long, data and answers keep place.

Three that take turns, and two readers and two writers with free requests of up to two bursts. The
claims hold under any back-pressure and any reset.
"""

from __future__ import annotations

from typing import Any

import pytest
from amaranth.hdl import Cat, Mux, Signal, Value

from hw.memory.port import BURST_BEATS, port_request
from hw.memory.read_merge import ReadMerge
from hw.memory.round_robin import RoundRobin
from hw.memory.write_merge import WriteMerge
from tb.formal.bench import Bench
from tb.formal.mutant import mutant
from tb.formal.prove import prove, refute

COUNT = 3
#: Clients of a merge, bits of their tags, and of the number above them.
CLIENTS, TAG_BITS, NUMBER_BITS = 2, 1, 1
#: Writes whose data may be outstanding, and the most bursts of one.
AHEAD, BURSTS = 2, 2

ONE = "at most one is granted, and only one that waits, if grants are enabled"
WORK = "one is granted whenever one waits and grants are enabled"
BOUND = "one that waits sees at most as many grants to others as there are others"

ONCE = "a granted request is offered to the memory, once, as it was"
WRITES = "words are taken for granted requests, in the order of the grants"
STEERED = "an answer goes to its client, in the same cycle, as it is"


@pytest.fixture(autouse=True)
def few_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let few writes be outstanding."""
    monkeypatch.setattr("hw.memory.write_merge._DEPTH", AHEAD)


def taking_turns(unit: RoundRobin) -> Bench:
    """Say what turns promise."""
    bench = Bench(unit)
    m = bench.module
    waiting, enable, grant = unit.waiting, unit.enable, unit.grant
    one_hot = (grant & (grant - 1)) == 0
    bench.check(ONE, one_hot & ((grant & ~waiting) == 0) & (enable | (grant == 0)))
    bench.check(WORK, ~enable | (waiting == 0) | grant.any())
    in_time = Signal(COUNT)
    for i in range(COUNT):
        passed = Signal(range(COUNT + 1), name=f"passed_{i}")
        m.d.comb += in_time[i].eq(passed < COUNT)
        with m.If(~waiting[i] | grant[i]):
            m.d.sync += passed.eq(0)
        with m.Elif(grant.any() & (passed != COUNT)):
            m.d.sync += passed.eq(passed + 1)
    bench.check(BOUND, in_time.all())
    return bench


def _granted(bench: Bench, kind: str) -> tuple[Signal, Any]:
    """Claim that requests go on; return which are granted, and the request that is."""
    m = bench.module
    request = bench.stream("memory__request")
    expected = Signal(port_request(TAG_BITS + NUMBER_BITS))
    granted = Signal(CLIENTS)
    for i in range(CLIENTS):
        name = f"{kind}__{i}__request"
        offer = bench.stream(name)
        payload = Signal.like(offer.payload)
        fields = [payload.address[5], payload.bursts_less_one[0], payload.tag]
        m.d.comb += Cat(fields).eq(bench.free(f"{name}__chosen", sum(map(len, fields))))
        bench.tie(f"{name}__payload", payload)
        m.d.comb += granted[i].eq(offer.valid & offer.ready)
        with m.If(granted[i]):
            m.d.comb += [
                expected.address.eq(payload.address),
                expected.bursts_less_one.eq(payload.bursts_less_one),
                expected.tag.eq(Cat(payload.tag, Value.cast(i))),
            ]
    # The request in the register.
    full, held = Signal(), Signal.like(expected)
    with m.If(request.ready):
        m.d.sync += full.eq(0)
    with m.If(granted.any()):
        m.d.sync += [full.eq(1), held.eq(expected)]
    same = request.payload.as_value() == held.as_value()
    room = ~full | request.ready
    one = (granted & (granted - 1)) == 0
    bench.check(ONCE, one & (request.valid == full) & (~full | same) & (room | ~granted.any()))
    bench.check_stream_rule("memory__request")
    return granted, expected


def _steered(bench: Bench, kind: str, answer: str, fields: tuple[str, ...]) -> None:
    """Claim that answers find their client."""
    came = bench.stream(f"memory__{answer}")
    outs = [bench.stream(f"{kind}__{i}__{answer}") for i in range(CLIENTS)]
    number = came.payload.tag[TAG_BITS:]
    same = (
        Cat(out.payload[field] == came.payload[field] for out in outs for field in fields).all()
        & Cat(out.payload.tag == came.payload.tag[:TAG_BITS] for out in outs).all()
    )
    goes = Mux(came.valid, 1 << number, 0)[:CLIENTS]
    bench.check(STEERED, (Cat(out.valid for out in outs) == goes) & same & came.ready)


def reading(unit: ReadMerge) -> Bench:
    """Say what merged readers promise."""
    bench = Bench(unit)
    _granted(bench, "readers")
    _steered(bench, "readers", "response", ("beat", "error"))
    return bench


def writing(unit: WriteMerge) -> Bench:
    """Say what merged writers promise."""
    bench = Bench(unit)
    m = bench.module
    granted, expected = _granted(bench, "writers")
    _steered(bench, "writers", "written", ("error",))
    # Words granted and not yet taken; a tracked request of them, and what is before it.
    moves = []
    for i in range(CLIENTS):
        source = bench.stream(f"writers__{i}__data")
        moves.append(source.valid & source.ready)
        bench.assume_stream_rule(f"writers__{i}__data")
    moved = moves[0] | moves[1]
    most = 2 * AHEAD * BURSTS * BURST_BEATS
    owed = Signal(range(2 * most))
    words = Signal(range(BURSTS * BURST_BEATS + 1))
    m.d.comb += words.eq(Mux(granted.any(), (expected.bursts_less_one + 1) * BURST_BEATS, 0))
    m.d.sync += owed.eq(owed + words - moved)
    mark = bench.free("mark")
    tracked, owner = Signal(), Signal()
    ahead, left = Signal.like(owed), Signal.like(words)
    with m.If(tracked & moved):
        m.d.sync += ahead.eq(ahead - 1)
        with m.If(ahead == 0):
            m.d.sync += [ahead.eq(0), left.eq(left - 1), tracked.eq(left != 1)]
    with m.If(granted.any() & mark & ~tracked):
        m.d.sync += [tracked.eq(1), owner.eq(granted[1]), ahead.eq(owed - moved), left.eq(words)]
    right = Mux(owner, moves[1] & ~moves[0], moves[0] & ~moves[1])
    its_turn = tracked & (ahead == 0) & moved
    bench.check(WRITES, (~moved | (owed != 0)) & (~its_turn | right))
    bench.check_stream_rule("memory__data", payload=bench.stream("memory__data").payload.enable[0])
    return bench


def test_turns() -> None:
    """For all time, by property directed reachability."""
    prove(taking_turns(RoundRobin(COUNT)))


def test_readers() -> None:
    """For all time, by property directed reachability."""
    prove(reading(ReadMerge(CLIENTS, tag_bits=TAG_BITS)))


def test_writers() -> None:
    """For all time, by property directed reachability."""
    prove(writing(WriteMerge(CLIENTS, tag_bits=TAG_BITS)))


#: What goes wrong, the claim that shows it, and the fault as a change of the source.
TURN_FAULTS = {
    "all go at once": (ONE, "first.eq(pool & (~pool + 1))", "first.eq(pool)"),
    "grants without leave": (ONE, "Mux(self.enable, first, 0)", "first"),
    "only those behind": (WORK, "Mux(ahead.any(), ahead, self.waiting)", "ahead"),
    "the first one goes first": (BOUND, "Mux(ahead.any(), ahead, self.waiting)", "self.waiting"),
    "the same again": (BOUND, "(self.grant << 1) - 1", "self.grant - 1"),
}
READ_FAULTS = {
    "a request overwrites another": (
        ONCE,
        "turn.enable.eq(register.input.ready)",
        "turn.enable.eq(1)",
    ),
    "the number of another reader": (ONCE, "Const(i << ", "Const(1 << "),
    "an answer to everyone": (STEERED, "response.valid & (number == i)", "response.valid"),
    "an error is lost": (
        STEERED,
        "payload.error.eq(response.payload.error)",
        "payload.error.eq(0)",
    ),
}
WRITE_FAULTS = {
    "a request without room for its turn": (
        WRITES,
        "turn.enable.eq(register.input.ready & granted.ready)",
        "turn.enable.eq(register.input.ready)",
    ),
    "words of the other writer": (WRITES, "payload.client.eq(i)", "payload.client.eq(1 - i)"),
    "a burst too few": (WRITES, "eq(request.payload.bursts_less_one + 1)", "eq(1)"),
    "a request is offered twice": (
        ONCE,
        "register.input.valid.eq(turn.grant.any())",
        "register.input.valid.eq(1)",
    ),
    "an end to everyone": (STEERED, "written.valid & (number == i)", "written.valid"),
}


@pytest.mark.parametrize("fault", TURN_FAULTS)
def test_faulty_turns_are_refuted(fault: str) -> None:
    """A counterexample of at most 20 cycles, by bounded model checking."""
    claim, old, new = TURN_FAULTS[fault]
    refute(taking_turns(mutant(RoundRobin, old, new)(COUNT)), claim, cycles=20)


@pytest.mark.parametrize("fault", READ_FAULTS)
def test_faulty_readers_are_refuted(fault: str) -> None:
    """A counterexample of at most 20 cycles, by bounded model checking."""
    claim, old, new = READ_FAULTS[fault]
    unit = mutant(ReadMerge, old, new)(CLIENTS, tag_bits=TAG_BITS)
    refute(reading(unit), claim, cycles=20)


@pytest.mark.parametrize("fault", WRITE_FAULTS)
def test_faulty_writers_are_refuted(fault: str) -> None:
    """A counterexample of at most 20 cycles, by bounded model checking."""
    claim, old, new = WRITE_FAULTS[fault]
    unit = mutant(WriteMerge, old, new)(CLIENTS, tag_bits=TAG_BITS)
    refute(writing(unit), claim, cycles=20)
