"""Per rule of a standard: commands that just keep it, and the same commands that just break it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from hw.memory.dram import Command, DramStandard
from hw.memory.dram.commands import COLUMN_COMMANDS, READS
from tb.memory.dram.constraints import Place
from tb.memory.dram.trace import Issue

#: Long enough for every rule but refresh to be forgotten.
LONG = 800


@dataclass(frozen=True)
class Scenario:
    """Commands on both sides of the edge of a rule.

    Parameters
    ----------
    rule
        The rule.
    label
        What tells it from the other scenarios of the rule.
    legal, illegal
        The commands.
    cycles
        DRAM clocks to play.
    timing
        Timing parameters to be replaced, where others of the table hide the rule.
    """

    rule: str
    label: str
    legal: tuple[Issue, ...]
    illegal: tuple[Issue, ...]
    cycles: int
    timing: Mapping[str, int] = field(default_factory=dict)


class Script:
    """Writes the scenarios of a standard."""

    def __init__(self, standard: DramStandard) -> None:
        self.standard = standard
        self.split = standard.protocol.split_activate
        #: Cycle of an activation, from 0, in which the row opens and that delays count to.
        self.opens = 1 if self.split else standard.activate_cycles - 1
        self.reference = standard.activate_reference
        #: A bank; one of its group; one of another group; one of another stack.
        self.home: Place = (0, 0)
        self.neighbour: Place = (0, 1)
        self.other: Place = (1, 0)
        self.far: Place = (standard.groups_per_stack % standard.bank_groups, 0)

    def issue(self, time: int, command: Command, place: Place = (0, 0)) -> Issue:
        """Return one command, on the bus where it belongs."""
        bus = int(self.standard.protocol.column_bus and command in COLUMN_COMMANDS)
        return Issue(time, command, 0, *place, row=3, column=1, bus=bus)

    def activate(self, time: int, place: Place) -> list[Issue]:
        """Return an activation that begins at ``time``."""
        if not self.split:
            return [self.issue(time, Command.ACT, place)]
        first = self.issue(time, Command.ACT1, place)
        return [first, self.issue(time + 1, Command.ACT2, place)]

    def access(
        self, time: int, command: Command, place: Place, *, start: bool = True
    ) -> list[Issue]:
        """Return a read or write, with the CAS before it if data need one and ``start`` says so."""
        access = [self.issue(time, command, place)]
        if self.standard.protocol.data_clock and start:
            cas = Command.CAS_RD if command in READS else Command.CAS_WR
            access.insert(0, self.issue(time - 1, cas))
        return access

    def edge(
        self,
        rule: str,
        label: str,
        before: Iterable[Issue],
        last: Callable[[int], list[Issue]],
        time: int,
        *,
        wrong: int = -1,
        timing: Mapping[str, int] | None = None,
    ) -> Scenario:
        """Return a scenario whose last command is legal at ``time`` but not ``wrong`` later."""
        before = list(before)
        legal, illegal = (
            tuple(sorted([*before, *last(at)], key=lambda issue: (issue.time, issue.bus)))
            for at in (time, time + wrong)
        )
        # Time for the second half of an activation, but not for another refresh to fall due.
        return Scenario(rule, label, legal, illegal, time + 20, timing or {})


def scenarios(standard: DramStandard) -> list[Scenario]:
    """Return the scenarios of a standard, at least one for each of its rules."""
    script = Script(standard)
    listed = [*_rows(script), *_columns(script), *_activations(script), *_refreshes(script)]
    if standard.protocol.per_bank_refresh:
        listed += _per_bank_refreshes(script)
    if script.split:
        listed += _halves(script)
    if standard.protocol.data_clock:
        listed += _data_clock(script)
    if standard.protocol.column_bus:
        listed += _buses(script)
    return [*listed, *_states(script)]


def _rows(s: Script) -> Iterator[Scenario]:
    t, home = s.standard, s.home
    opened = s.activate(0, home)
    recovery = t.write_to_precharge

    def pre(at: int) -> list[Issue]:
        return [s.issue(at, Command.PRE, home)]

    def prea(at: int) -> list[Issue]:
        return [s.issue(at, Command.PREA)]

    def act(at: int) -> list[Issue]:
        return s.activate(at, home)

    read, write = ([*opened, *s.access(300, command, home)] for command in (Command.RD, Command.WR))
    for last, name in ((pre, "PRE"), (prea, "PREA")):
        yield s.edge("tRAS", name, opened, last, s.opens + t["tRAS"])
        yield s.edge("tRTP", name, read, last, 300 + t["tRTP"])
        yield s.edge("tWR", name, write, last, 300 + recovery)
    # In some standards tWTR_L lasts as long.
    longer = max(t["tWR"], t["tRTP"] + t["tWTR_L"] + 5)
    yield s.edge(
        "tWR",
        "RDA",
        write,
        lambda at: s.access(at, Command.RDA, home),
        300 + recovery + longer - t["tWR"] - t["tRTP"],
        timing={"tWR": longer},
    )
    closed = [*opened, *pre(300)]
    all_closed = [*opened, *prea(300)]
    yield s.edge("tRP", "PRE", closed, act, 300 + t["tRP"] - s.reference)
    yield s.edge("tRPab", "PREA", all_closed, act, 300 + t["tRPab"] - s.reference)
    refreshes = [Command.REFAB, *([Command.REFPB] if t.protocol.per_bank_refresh else [])]
    for command, start in ((Command.RDA, t["tRTP"]), (Command.WRA, recovery)):
        before = [*opened, *s.access(300, command, home)]
        time = 300 + start + t["tRP"] - s.reference
        yield s.edge("tRP", command.name, before, act, time)
        for refresh in refreshes:
            yield s.edge(
                "tRP",
                f"{command.name} {refresh.name}",
                before,
                lambda at, refresh=refresh: [s.issue(at, refresh)],  # type: ignore[misc]
                300 + start + t["tRP"],
            )
    for refresh in refreshes:
        yield s.edge(
            "tRPab",
            f"PREA {refresh.name}",
            all_closed,
            lambda at, refresh=refresh: [s.issue(at, refresh)],  # type: ignore[misc]
            300 + t["tRPab"],
        )
    # A precharge of a bank without an open row starts tRP all the same.
    yield s.edge("tRP", "idle", pre(0), act, t["tRP"] - s.reference)
    yield s.edge("tRP", "REFAB", closed, lambda at: [s.issue(at, Command.REFAB)], 300 + t["tRP"])
    if t["tPPD"] > 1:
        both = [*opened, *s.activate(100, s.other)]
        for first in (Command.PRE, Command.PREA):
            for second in (Command.PRE, Command.PREA):
                yield s.edge(
                    "tPPD",
                    f"{first.name} {second.name}",
                    [*both, s.issue(300, first, home)],
                    lambda at, second=second: [s.issue(at, second, s.other)],  # type: ignore[misc]
                    300 + t["tPPD"],
                )


def _columns(s: Script) -> Iterator[Scenario]:
    t = s.standard
    places = {
        "tCCD_L": s.neighbour,
        "tCCD_S": s.other,
        **({"tCCD_R": s.far} if t.stacks > 1 else {}),
    }
    reads, writes = (Command.RD, Command.RDA), (Command.WR, Command.WRA)
    for rule, kind in (
        *(("tRCDRD", kind) for kind in reads),
        *(("tRCDWR", kind) for kind in writes),
    ):
        yield s.edge(
            rule,
            kind.name,
            s.activate(0, s.home),
            lambda at, kind=kind: s.access(at, kind, s.home),  # type: ignore[misc]
            s.opens + t[rule],
        )
    opened = s.activate(0, s.home)
    to_read = t["tCWL"] + t["tBL_L"] + t["tWTR_L"]
    to_read_s = t["tCWL"] + t.burst_cycles + t["tWTR_S"]
    kinds = [
        (rule, kind, kind, place, t[rule])
        for rule, place in places.items()
        for kind in (reads, writes)
    ]
    kinds += [
        ("tRTW", reads, writes, s.other, t["tRTW"]),
        ("tWTR_L", writes, reads, s.neighbour, to_read),
        ("tWTR_S", writes, reads, s.other, to_read_s),
    ]
    if t.stacks > 1:
        kinds.append(("tWTR_S", writes, reads, s.far, to_read_s))
    pairs = [
        (rule, first, second, place, cycles)
        for rule, firsts, seconds, place, cycles in kinds
        for first in firsts
        for second in seconds
    ]
    for rule, first, second, place, cycles in pairs:
        before = [*opened, *s.activate(100, place), *s.access(300, first, s.home)]
        yield s.edge(
            rule,
            f"{first.name} {second.name} {place}",
            before,
            lambda at, second=second, place=place: s.access(  # type: ignore[misc]
                at, second, place, start=at > 305
            ),
            300 + cycles,
        )


def _activations(s: Script) -> Iterator[Scenario]:
    t = s.standard
    opened = s.activate(0, s.home)
    for rule, place in (("tRRD_L", s.neighbour), ("tRRD_S", s.other), ("tRRD_S", s.far)):
        if place == s.home:
            continue
        yield s.edge(
            rule,
            f"ACT {place}",
            opened,
            lambda at, place=place: s.activate(at, place),  # type: ignore[misc]
            t[rule],
        )
    # With the numbers of the standards tRC follows from tRAS and tRP.
    longer = t["tRAS"] + t["tRP"] + 20
    closed = [*opened, s.issue(s.opens + t["tRAS"], Command.PRE, s.home)]
    yield s.edge(
        "tRC",
        "ACT",
        closed,
        lambda at: s.activate(at, s.home),
        longer,
        timing={"tRC": longer},
    )
    yield s.edge(
        "tRC",
        "REFAB",
        closed,
        lambda at: [s.issue(at, Command.REFAB)],
        s.opens + longer,
        timing={"tRC": longer},
    )
    if t.protocol.per_bank_refresh:
        yield s.edge(
            "tRC",
            "REFPB",
            closed,
            lambda at: [s.issue(at, Command.REFPB, s.home)],
            s.opens + longer,
            timing={"tRC": longer},
        )
    # In some standards tFAW is four times tRRD.
    step = t["tRRD_L"] + 2
    longer = 6 * step
    groups = [(i % t.bank_groups, i // t.bank_groups) for i in range(5)]
    before = [issue for i in range(4) for issue in s.activate(i * step, groups[i])]
    yield s.edge(
        "tFAW",
        "ACT",
        before,
        lambda at: s.activate(at, groups[4]),
        longer,
        timing={"tFAW": longer},
    )


def _refreshes(s: Script) -> Iterator[Scenario]:
    t, debt = s.standard, s.standard.postponed_refreshes
    refresh = s.issue(0, Command.REFAB)

    def refab(at: int) -> list[Issue]:
        return [s.issue(at, Command.REFAB)]

    yield s.edge(
        "tRFCab",
        "ACT",
        [refresh],
        lambda at: s.activate(at, s.home),
        t["tRFCab"] - s.reference,
    )
    yield s.edge("tRFCab", "REFAB", [refresh], refab, t["tRFCab"])
    yield s.edge(
        "tRFCab", "PRE", [refresh], lambda at: [s.issue(at, Command.PRE, s.home)], t["tRFCab"]
    )
    others = [Command.PREA, *([Command.REFPB] if t.protocol.per_bank_refresh else [])]
    for other in others:
        yield s.edge(
            "tRFCab",
            other.name,
            [refresh],
            lambda at, other=other: [s.issue(at, other)],  # type: ignore[misc]
            t["tRFCab"],
        )
    yield s.edge("tREFI", "owed", [], refab, (debt + 1) * t["tREFI"], wrong=1)
    # One more ahead of time than count.
    early = [s.issue(i * t["tRFCab"], Command.REFAB) for i in range(debt + 1)]
    due = sum(issue.time < t["tREFI"] for issue in early)
    if due == debt + 1:
        yield s.edge("tREFI", "ahead", early, refab, (2 * debt + 1) * t["tREFI"], wrong=1)


def _per_bank_refreshes(s: Script) -> Iterator[Scenario]:
    t = s.standard

    def refpb(at: int, place: Place = s.home) -> list[Issue]:
        return [s.issue(at, Command.REFPB, place)]

    first = refpb(0)
    yield s.edge(
        "tRFCpb",
        "ACT",
        first,
        lambda at: s.activate(at, s.home),
        t["tRFCpb"] - s.reference,
    )
    yield s.edge("tRFCpb", "REFAB", first, lambda at: [s.issue(at, Command.REFAB)], t["tRFCpb"])
    yield s.edge("tRFCpb", "PRE", first, lambda at: [s.issue(at, Command.PRE)], t["tRFCpb"])
    yield s.edge("tRFCpb", "PREA", first, lambda at: [s.issue(at, Command.PREA)], t["tRFCpb"])
    yield s.edge(
        "tpbR2act",
        "ACT",
        first,
        lambda at: s.activate(at, s.other),
        t["tpbR2act"] - s.reference,
    )
    yield s.edge("tpbR2pbr", "REFPB", first, lambda at: refpb(at, s.other), t["tpbR2pbr"])
    opened = s.activate(0, s.home)
    yield s.edge("tRRD_S", "REFPB", opened, lambda at: refpb(at, s.other), s.opens + t["tRRD_S"])
    yield s.edge(
        "tRRD_L", "REFPB", opened, lambda at: refpb(at, s.neighbour), s.opens + t["tRRD_L"]
    )
    closed = [*opened, s.issue(300, Command.PRE, s.home)]
    yield s.edge("tRP", "REFPB", closed, refpb, 300 + t["tRP"])
    # A refresh is one of four in the window of tFAW.
    wide = {"tFAW": 200}
    acts = [issue for i in (1, 2, 3) for issue in s.activate(30 * i, (0, i))]
    yield s.edge(
        "tFAW",
        "behind REFPB",
        [*first, *acts],
        lambda at: s.activate(at, s.other),
        200 - s.opens,
        timing=wide,
    )
    before = [*s.activate(0, (0, 0)), *acts]
    yield s.edge("tFAW", "REFPB", before, lambda at: refpb(at, s.other), s.opens + 200, timing=wide)
    # The sets of banks, each once; then the first again.
    step = max(t["tpbR2pbr"], t["tRRD_L"], (t["tFAW"] + 3) // 4)
    places = [divmod(i, t.banks_per_group) for i in range(t.refresh_sets)]
    around = [issue for i, place in enumerate(places) for issue in refpb(i * step, place)]
    gap = max(t["tpbRround"], t["tpbR2pbr"] + 20)
    last = around[-1].time
    yield s.edge("tpbRround", "REFPB", around, refpb, last + gap, timing={"tpbRround": gap})
    # The last of a round is the first of the next one.
    longer = max(t["tRFCpb"], t["tpbRround"] + 20)
    yield s.edge(
        "tRFCpb",
        "REFPB",
        around,
        lambda at: refpb(at, places[-1]),
        last + longer,
        timing={"tRFCpb": longer},
    )
    yield Scenario(
        "REFRESH_ROUND",
        "again",
        (*around, *refpb(last + LONG)),
        (*around[:-1], *refpb(last + LONG)),
        last + LONG + 20,
    )
    # All sets but one are refreshed in time.
    owed = (t.postponed_refreshes + 1) * t["tREFI"]
    late = [replace(issue, time=issue.time + LONG) for issue in around]
    yield s.edge("tREFI", "one set", late[1:], refpb, owed, wrong=1)


def _halves(s: Script) -> Iterator[Scenario]:
    t = s.standard
    half = s.issue(0, Command.ACT1, s.home)
    second = s.issue(4, Command.ACT2, s.home)

    def act2(at: int) -> list[Issue]:
        return [s.issue(at, Command.ACT2, s.home)]

    yield s.edge("tAAD", "ACT2", [half], act2, t["tAAD"], wrong=1)
    wrong = {
        "alone": (second,),
        "other bank": (half, s.issue(3, Command.ACT2, s.other), second),
        "two": (s.issue(0, Command.ACT1, s.other), s.issue(1, Command.ACT1, s.home), second),
        "PRE": (half, s.issue(2, Command.PRE, s.home), second),
        "PREA": (half, s.issue(2, Command.PREA, s.home), second),
    }
    for label, issues in wrong.items():
        yield Scenario("ACTIVATE_ORDER", label, (half, second), issues, 40)
    refresh = s.issue(2, Command.REFAB)
    yield Scenario("ROW_OPEN", "half", (half, second), (half, refresh, second), 40)


def _data_clock(s: Script) -> Iterator[Scenario]:
    t, home = s.standard, s.home
    opened = s.activate(0, home)
    for kind, latency in ((Command.RD, "tCL"), (Command.WR, "tCWL")):
        running = t[latency] + t.burst_cycles + t["tWCKPST"]
        yield s.edge(
            "WCK_OFF",
            kind.name,
            [*opened, *s.access(300, kind, home)],
            lambda at, kind=kind: s.access(at, kind, home, start=False),  # type: ignore[misc]
            300 + running,
            wrong=1,
        )
    legal = (*opened, *s.access(300, Command.RD, home))
    lone = (*opened, s.issue(299, Command.CAS_RD))
    yield Scenario("CAS_ORDER", "alone", legal, lone, 320)
    again = (*opened, s.issue(298, Command.CAS_RD), *s.access(300, Command.RD, home))
    yield Scenario("CAS_ORDER", "twice", legal, again, 320)
    # While the clock runs only the order is wrong.
    read = s.access(300, Command.RD, home)
    crossed = (*opened, *read, s.issue(309, Command.CAS_WR), s.issue(310, Command.RD, home))
    yield Scenario("CAS_ORDER", "kind", legal, crossed, 330)


def _buses(s: Script) -> Iterator[Scenario]:
    opened = s.activate(0, s.home)
    yield s.edge(
        "BUS",
        "second cycle",
        opened,
        lambda at: [s.issue(at, Command.PRE, s.other)],
        s.standard.activate_cycles,
    )
    read = s.issue(300, Command.RD, s.home)
    yield Scenario(
        "BUS", "column on the row bus", (*opened, read), (*opened, replace(read, bus=0)), 340
    )


def _states(s: Script) -> Iterator[Scenario]:
    home, opened = s.home, tuple(s.activate(0, s.home))
    close = s.issue(300, Command.PRE, home)
    again = tuple(s.activate(400, home))
    legal = (*opened, close, *again)
    yield Scenario("ROW_OPEN", "ACT", legal, (*opened, *again), 440)
    refresh = s.issue(400, Command.REFAB)
    yield Scenario("ROW_OPEN", "REFAB", (*opened, close, refresh), (*opened, refresh), 440)
    if s.standard.protocol.per_bank_refresh:
        single = s.issue(400, Command.REFPB, home)
        elsewhere = s.issue(400, Command.REFPB, s.other)
        yield Scenario("ROW_OPEN", "REFPB", (*opened, elsewhere), (*opened, single), 440)
    if s.standard.banks_per_refresh == 2:
        pair = s.issue(400, Command.REFPB, (s.standard.bank_groups // 2, 0))
        yield Scenario("ROW_OPEN", "pair", (*opened, close, pair), (*opened, pair), 440)
    access = tuple(s.access(400, Command.RD, home))
    yield Scenario("ROW_CLOSED", "PRE", (*opened, *access), (*opened, close, *access), 440)
    itself = tuple(s.access(300, Command.RDA, home))
    yield Scenario("ROW_CLOSED", "RDA", (*opened, *access), (*opened, *itself, *access), 440)
    unknown = Command.REFPB if s.standard.family == "ddr4" else Command.CAS_RD
    if s.standard.protocol.data_clock:
        unknown = Command.ACT
    foreign = s.issue(400, unknown, s.other)
    yield Scenario("COMMAND", unknown.name, opened, (*opened, foreign), 440)
