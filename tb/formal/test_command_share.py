"""CommandShare: each command goes once, and its reply to who sent it."""

from __future__ import annotations

from typing import Any

import pytest
from amaranth.hdl import Cat, Signal

from hw.memory.kv_mmu.command_share import CommandShare
from tb.formal.bench import Bench
from tb.formal.mutant import mutant
from tb.formal.prove import prove, refute

STAYS = "an offered command stays until it is taken"
OWN = "a command is taken from who offered it, and one at a time"
REPLY = "a reply goes to who sent the command, and to nobody else"
TURNS = "nobody waits for more than one command of the other"


def sharing(unit: Any) -> Bench:
    """Say what the two users of the command unit are promised."""
    bench = Bench(unit())
    m = bench.module
    names = ("host", "grower", "command", "host_reply", "grower_reply", "reply")
    host, grower, command, host_reply, grower_reply, reply = (bench.stream(n) for n in names)
    bench.assume_stream_rule("host", "grower")
    #: Whose command the unit has, as the two users see it.
    there, of_grower = Signal(), Signal()
    bench.tie("reply__valid", bench.free("answers") & there)
    from_host, from_grower = host.valid & host.ready, grower.valid & grower.ready
    taken, answered = command.valid & command.ready, reply.valid & reply.ready
    m.d.sync += there.eq((there & ~answered) | taken)
    with m.If(taken):
        m.d.sync += of_grower.eq(from_grower)
    waiting = bench.before(command.valid & ~command.ready)
    same = command.payload.as_value() == bench.before(command.payload.as_value())
    bench.check(STAYS, ~waiting | (command.valid & same))
    payload = command.payload.as_value()
    own = (from_host & (payload == host.payload.as_value())) | (
        from_grower & (payload == grower.payload.as_value())
    )
    moves = Cat(from_host, from_grower)
    bench.check(OWN, (moves.any() == taken) & ~moves.all() & (~taken | (own & ~there)))
    bench.check(
        REPLY,
        (host_reply.valid == (reply.valid & ~of_grower))
        & (grower_reply.valid == (reply.valid & of_grower))
        & (~answered | (host_reply.valid & host_reply.ready) | grower_reply.valid),
    )
    fair = Signal(2)
    for i, (user, mine, other) in enumerate(
        ((host, from_host, from_grower), (grower, from_grower, from_host))
    ):
        passed = Signal(2, name=f"passed_{i}")
        m.d.comb += fair[i].eq(passed < 2)
        with m.If(~user.valid | mine):
            m.d.sync += passed.eq(0)
        with m.Elif(other & (passed != 3)):
            m.d.sync += passed.eq(passed + 1)
    bench.check(TURNS, fair.all())
    return bench


def test_two_users_share_the_command_unit() -> None:
    """For all time, by property directed reachability."""
    prove(sharing(CommandShare), seconds=120)


#: What goes wrong, the claim that shows it, and the fault as a change of the source.
FAULTS = {
    "the choice changes": (STAYS, "Mux(fixed, owner,", "Mux(0, owner,"),
    "two at a time": (OWN, "m.d.sync += busy.eq(1)", "m.d.sync += busy.eq(0)"),
    "the other one's command": (
        OWN,
        "self.command.ready & ~busy & turn",
        "self.command.ready & ~busy",
    ),
    "replies to the host": (REPLY, "self.reply.valid & ~owner", "self.reply.valid"),
    "the host waits": (TURNS, "& ~(self.host.valid & owner)", ""),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faulty_units_are_refuted(fault: str) -> None:
    """A counterexample of at most 30 cycles, by bounded model checking."""
    claim, old, new = FAULTS[fault]
    refute(sharing(mutant(CommandShare, old, new)), claim, cycles=30)
