"""The arbiter of a memory channel: each request goes once, none waits too long, data keep order.

Two readers and two writers, or as many clients of the schedule, with free requests of up to two
bursts. The claims hold under any back-pressure and any reset.
"""

from __future__ import annotations

import pytest
from amaranth.hdl import Cat, Const, Mux, Signal

from hw.memory.arbiter import ChannelArbiter, Client
from hw.memory.arbiter.schedule import Schedule
from hw.memory.arbiter.write_order import WriteOrder
from hw.memory.channel_port import channel_request
from hw.memory.port import BURST_BEATS
from tb.formal.bench import Bench
from tb.formal.mutant import mutant
from tb.formal.prove import prove, refute

CLIENTS = 3
PATIENCE = 3
#: Where the monitor stops to tell waits apart.
LONGEST = 7
#: Requests whose data may be outstanding, and the most bursts of one.
AHEAD, BURSTS = 2, 2

ONE = "at most one request is granted, and only one that can go"
WORK = "a request is granted whenever one can go"
BOUND = "after its patience, a client sees at most one grant to each of the others"
FIRST = "of impatient clients, the one that came first goes"

ONCE = "a granted request is offered to the channel, once, as it was"
WRITES = "words are taken for granted requests, in the order of the grants"
STEERED = "an answer goes to its client, a cycle later, as it is"
CHANNEL_STAYS = "channel__request stays until its transfer"
DATA_STAYS = "channel__write_data stays until its transfer"


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the counts of cycles stop soon behind the patience."""
    monkeypatch.setattr("hw.memory.arbiter.schedule.WAIT_BITS", 3)


def scheduling(schedule: Schedule, clients: int = CLIENTS) -> Bench:
    """Say what a schedule promises."""
    bench = Bench(schedule)
    m = bench.module
    grant, enable = schedule.grant, schedule.enable
    stays = bench.before(schedule.waiting & ~grant)
    bench.tie("waiting", bench.free("comes", clients) | stays)
    for i in range(clients):
        size = bench.free(f"bursts_{i}_chosen")
        bursts = Signal(range(BURSTS + 1), name=f"bursts_{i}")
        m.d.comb += bursts.eq(Mux(stays[i], bench.before(bursts), size + 1))
        bench.tie(f"bursts__{i}", bursts)
    able = schedule.waiting & ~schedule.blocked
    one_hot = (grant & (grant - 1)) == 0
    bench.check(ONE, one_hot & ((grant & ~able) == 0) & (enable | (grant == 0)))
    bench.check(WORK, ~enable | (able == 0) | grant.any())

    # How long each has waited, and then how often it could have gone and others went.
    overdue, in_time = Signal(clients), Signal(clients)
    waits = [Signal(range(LONGEST + 1), name=f"waited_{i}") for i in range(clients)]
    for i, waited in enumerate(waits):
        passed = Signal(range(clients + 1), name=f"passed_{i}")
        over = ~schedule.waiting[i] | grant[i]
        m.d.comb += [overdue[i].eq(waited >= PATIENCE), in_time[i].eq(passed < clients)]
        with m.If(over):
            m.d.sync += [waited.eq(0), passed.eq(0)]
        with m.Else():
            with m.If(waited != LONGEST):
                m.d.sync += waited.eq(waited + 1)
            with m.If(overdue[i] & enable & able[i] & (passed != clients)):
                m.d.sync += passed.eq(passed + 1)
    passed_over = Cat(
        grant[i] & able[j] & overdue[j] & (waits[j] > waits[i])
        for i in range(clients)
        for j in range(clients)
    )
    bench.check(BOUND, in_time.all())
    bench.check(FIRST, ~passed_over.any())
    return bench


def arbitrating(unit: ChannelArbiter) -> Bench:
    """Say what an arbiter of clients ``r0``, ``r1``, ``w0``, ``w1`` promises."""
    bench = Bench(unit)
    m = bench.module
    names = ("r0", "r1", "w0", "w1")
    request, words = bench.stream("channel__request"), bench.stream("channel__write_data")
    request_layout = channel_request(unit.id_layout.size)
    granted = Signal(len(names))
    expected = Signal(request_layout)
    for i, name in enumerate(names):
        offer = bench.stream(f"{name}__request")
        payload = Signal.like(offer.payload)
        fields = [payload.address[5], payload.bursts_less_one[0], payload.tag]
        m.d.comb += Cat(fields).eq(bench.free(f"{name}__chosen", sum(map(len, fields))))
        bench.tie(f"{name}__request__payload", payload)
        m.d.comb += granted[i].eq(offer.valid & offer.ready)
        with m.If(granted[i]):
            m.d.comb += [
                expected.address.eq(payload.address),
                expected.bursts_less_one.eq(payload.bursts_less_one),
                expected.id.eq(Cat(payload.tag, Const(i, 2))),
                expected.write.eq(i >= 2),
            ]
    tag_bits = unit.id_layout["tag"].width
    # The request in the register.
    full, held = Signal(), Signal(request_layout)
    with m.If(request.ready):
        m.d.sync += full.eq(0)
    with m.If(granted.any()):
        m.d.sync += [full.eq(1), held.eq(expected)]
    bench.check(ONE, (granted & (granted - 1)) == 0)
    same = request.payload.as_value() == held.as_value()
    room = ~full | request.ready
    bench.check(ONCE, (request.valid == full) & (~full | same) & (room | ~granted.any()))
    bench.check_stream_rule("channel__request")

    # Words granted and not yet taken, of all; a tracked request of them, and what is before it.
    moves = [
        bench.stream(f"{name}__data").valid & bench.stream(f"{name}__data").ready
        for name in names[2:]
    ]
    moved = moves[0] | moves[1]
    most = 2 * AHEAD * BURSTS * BURST_BEATS
    owed = Signal(range(2 * most))
    its_words = Signal(range(BURSTS * BURST_BEATS + 1))
    m.d.comb += its_words.eq(
        Mux(granted[2:].any(), (expected.bursts_less_one + 1) * BURST_BEATS, 0)
    )
    m.d.sync += owed.eq(owed + its_words - moved)
    mark = bench.free("mark")
    tracked, owner = Signal(), Signal()
    ahead, left = Signal.like(owed), Signal.like(its_words)
    with m.If(tracked & moved):
        m.d.sync += ahead.eq(ahead - 1)
        with m.If(ahead == 0):
            m.d.sync += [ahead.eq(0), left.eq(left - 1), tracked.eq(left != 1)]
    with m.If(granted[2:].any() & mark & ~tracked):
        m.d.sync += [
            tracked.eq(1),
            owner.eq(granted[3]),
            ahead.eq(owed - moved),
            left.eq(its_words),
        ]
    right = Mux(owner, moves[1] & ~moves[0], moves[0] & ~moves[1])
    its_turn = tracked & (ahead == 0) & moved
    bench.check(WRITES, (~moved | (owed != 0)) & (~its_turn | right))

    # Words and answers are moved, not looked at.
    for name in names[2:]:
        bench.assume_stream_rule(f"{name}__data")
    bench.check_stream_rule("channel__write_data", payload=words.payload.enable[0])
    response = bench.stream("channel__response")
    answers = Cat(bench.stream(f"{name}__response").valid for name in names[:2])
    client = response.payload.id[tag_bits:]
    shown = bench.stream("r1__response").payload
    came = Cat(response.payload.beat, response.payload.error, response.payload.id[0])
    ours = Cat(shown.beat, shown.error, shown.tag[0])
    goes = bench.before(Mux(response.valid & (client < 2), 1 << client, 0)[:2])
    bench.check(STEERED, (answers == goes) & (~answers.any() | (ours == bench.before(came))))
    return bench


def four_clients(cls: type[ChannelArbiter] = ChannelArbiter) -> ChannelArbiter:
    clients = [
        Client(name=f"{kind}{i}", tag_bits=1, writes=kind == "w") for kind in "rw" for i in (0, 1)
    ]
    return cls(clients, patience=PATIENCE, write_requests=AHEAD)


def test_schedule() -> None:
    """For all time, by property directed reachability; 57 flip-flops."""
    prove(scheduling(Schedule([16, 16, 32], patience=PATIENCE)))


def test_arbiter() -> None:
    """For all time, by property directed reachability; 223 flip-flops."""
    prove(arbitrating(four_clients()))


#: What goes wrong, the claim that shows it, and the fault as a change of the source.
SCHEDULE_FAULTS = {
    "two go at once": (ONE, "Mux(goes_on, turn, following)", "turn | following"),
    "a blocked one goes": (ONE, "self.waiting & ~self.blocked", "self.waiting"),
    "the turn stays with an idle client": (ONE, "turn & ready & covered", "turn & covered"),
    "the turn never comes round": (WORK, "[*clients[i + 1 :], *clients[: i + 1]]", "clients[i:]"),
    "the first client goes first": (FIRST, "eq(renewed[j])", "eq(1)"),
    "patience without end": (BOUND, "Mux(impatient.any(), first, ", "Mux(0, first, "),
    "a grant does not make a client young": (
        BOUND,
        "renewed = ~self.waiting | self.grant",
        "renewed = ~self.waiting",
    ),
}
ARBITER_FAULTS = {
    "a request overwrites another": (ONCE, "~request.valid | request.ready", "1"),
    "a request is offered twice": (
        ONCE,
        "request.valid.eq(schedule.grant.any())",
        "request.valid.eq(1)",
    ),
    "the number of another client": (ONCE, "its_id.client.eq(i)", "its_id.client.eq(i + 1)"),
    "a write without its turn": (WRITES, "eq(~order.granted.ready)", "eq(0)"),
    "the words of the other writer": (WRITES, "payload.client.eq(place)", "payload.client.eq(0)"),
    "an answer to everyone": (STEERED, "valid & (its_id.client == i)", "valid"),
    "an answer is delayed by the next": (STEERED, "valid.eq(source.valid)", "valid.eq(1)"),
}
ORDER_FAULTS = {
    "a word too many": (WRITES, "word + 1 == head", "word == head"),
    "bursts of one beat": (WRITES, "BURST_BEATS // self._gear", "1"),
    "whoever has a word": (
        WRITES,
        "mine.eq(head.valid & (head.payload.client == i))",
        "mine.eq(1)",
    ),
}


@pytest.mark.parametrize("fault", SCHEDULE_FAULTS)
def test_faulty_schedule_is_refuted(fault: str) -> None:
    """A counterexample of at most 30 cycles, by bounded model checking."""
    claim, old, new = SCHEDULE_FAULTS[fault]
    unit = mutant(Schedule, old, new)([16, 16, 32], patience=PATIENCE)
    refute(scheduling(unit), claim, cycles=30)


@pytest.mark.parametrize("fault", ARBITER_FAULTS)
def test_faulty_arbiter_is_refuted(fault: str) -> None:
    """A counterexample of at most 30 cycles, by bounded model checking."""
    claim, old, new = ARBITER_FAULTS[fault]
    refute(arbitrating(four_clients(mutant(ChannelArbiter, old, new))), claim, cycles=30)


@pytest.mark.parametrize("fault", ORDER_FAULTS)
def test_faulty_write_order_is_refuted(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A counterexample of at most 30 cycles, by bounded model checking."""
    claim, old, new = ORDER_FAULTS[fault]
    monkeypatch.setattr("hw.memory.arbiter.arbiter.WriteOrder", mutant(WriteOrder, old, new))
    refute(arbitrating(four_clients()), claim, cycles=30)
