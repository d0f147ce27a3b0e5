"""BankMachine: jobs in order, each command in the first clock that the trace checker allows."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import pytest

from hw.memory.dram import Command, load_standard
from hw.memory.dram.controller import ControllerConfig
from hw.memory.dram.controller.bank_machine import BankMachine
from hw.memory.dram.controller.distances import Distances
from hw.memory.dram.controller.payloads import place_step
from tb.formal.mutant import mutant
from tb.memory.dram.channel_checker import ChannelChecker
from tb.memory.dram.controller.clocked import refutes, run
from tb.memory.dram.trace import Issue

#: Rules of a bank; the others are the rank's affair.
RULES = {"tRCDRD", "tRCDWR", "tRAS", "tRC", "tRP", "tRTP", "tWR", "tRFCpb", "tRFCab"}
RULES |= {"ROW_OPEN", "ROW_CLOSED"}


@dataclass(frozen=True)
class Job:
    """Bursts of a row: of a read, or of a write."""

    write: bool
    row: int
    column: int
    bursts: int = 1
    place: int = 0
    tag: int = 0


Burst: TypeAlias = tuple[bool, int, int, int, int]
"""Whether it is written, row, column, place, tag."""


@dataclass
class Seen:
    """What the bank did: commands with their clocks, and per burst what it was about."""

    issues: list[tuple[int, Command]] = field(default_factory=list)
    bursts: list[Burst] = field(default_factory=list)


class Bench:
    """A bank, a rank that grants what it wants, jobs that come when there is room.

    Parameters
    ----------
    name, gear
        Standard and gear.
    unit
        The class of the bank, for a faulty one.
    """

    def __init__(self, name: str, gear: int = 1, unit: type = BankMachine) -> None:
        standard = load_standard(name)
        shorter = "tRFCpb" if standard.protocol.per_bank_refresh else "tRFCab"
        standard = standard.with_timing(**{shorter: 60})
        self.config = ControllerConfig(standard=standard, gear=gear)
        self._distances = Distances(self.config.standard, gear, 0)
        self.bank = unit(self.config, self._distances)
        self._checker = ChannelChecker(self.config.standard)
        self.seen = Seen()
        #: Grants of the last clock.
        self._grants: list[Any] = []
        self._expected: dict[bool, list[Burst]] = {}
        self.split = self.config.standard.protocol.split_activate

    def issue(self, clock: int, command: Command, row: int = 0) -> None:
        """Take a command into the history; it must break no rule of the bank."""
        columns = {Command.RD, Command.RDA, Command.WR, Command.WRA}
        phase = self._distances.column_phase if command in columns else 0
        issue = Issue(clock * self.config.gear + phase, command, row=row)
        broken = RULES & self._checker.broken(issue)
        assert not broken, f"clock {clock}, {command.name}: {broken}"
        self._checker.add(issue)
        self.seen.issues.append((clock, command))

    def _transfer(self, ctx: Any, clock: int, write: bool) -> None:
        bank = self.bank
        kinds = (Command.RD, Command.RDA, Command.WR, Command.WRA)
        self.issue(clock, kinds[2 * write + ctx.get(bank.auto_precharge)])
        row = self._checker_row
        tag = ctx.get(bank.tag.id)
        burst = (write, row, ctx.get(bank.column), ctx.get(bank.place), tag)
        assert burst == self._expected[write].pop(0)
        self.seen.bursts.append(burst)
        # The row that is open must be the job's.
        assert row == ctx.get(bank.row)

    def play(
        self,
        jobs: list[Job],
        clocks: int,
        *,
        choose: random.Random | None = None,
        patience: float = 1.0,
        claims: tuple[int, ...] = (),
        take_writes: Any = None,
    ) -> Seen:
        """Run until all is done, or for so many clocks.

        Parameters
        ----------
        jobs
            In order, each kind by itself.
        choose, patience
            Random numbers and the probability of a grant.
        claims
            Clocks from which on a refresh is wanted; it is granted when the bank is ready.
        take_writes
            Clock -> whether the next job shall be a write; reads first unless told.
        """
        bank = self.bank
        for kind in (False, True):
            self._expected[kind] = [burst for burst in self._bursts(jobs) if burst[0] is kind]
        left = {kind: [job for job in jobs if job.write is kind] for kind in (False, True)}

        async def bench(ctx: Any) -> None:
            half, refreshes = False, 0
            offered = {False: choose is None, True: choose is None}
            shown: dict[bool, Job | None] = {False: None, True: None}
            bursts = sum(job.bursts for job in jobs)
            for clock in range(clocks):
                if refreshes == len(claims) and len(self.seen.bursts) == bursts:
                    return
                for kind, port in ((False, bank.reads), (True, bank.writes)):
                    # Alone at first, then close behind each other.
                    soon = 0.02 if choose and len(left[kind]) > 8 else 1.0
                    offered[kind] |= choose is not None and choose.random() < soon
                    ctx.set(port.valid, bool(left[kind]) and offered[kind])
                    if left[kind] and left[kind][0] is not shown[kind]:
                        job = shown[kind] = left[kind][0]
                        ctx.set(port.payload.row, job.row)
                        ctx.set(port.payload.column, job.column)
                        ctx.set(port.payload.bursts_less_one, job.bursts - 1)
                        ctx.set(port.payload.place, job.place)
                        ctx.set(port.payload.tag.id, job.tag)
                reads_over = not left[False] and not ctx.get(bank.waiting_reads)
                ctx.set(bank.take_writes, take_writes(clock) if take_writes else reads_over)
                claimed = refreshes < len(claims) and clock >= claims[refreshes]
                ctx.set(bank.claimed, claimed)
                for grant in self._grants:
                    ctx.set(grant, 0)
                self._grants.clear()
                granted = choose is None or choose.random() < patience
                if half:
                    self._give(ctx, bank.activated)
                    self.issue(clock, Command.ACT2, ctx.get(bank.row))
                    self._checker_row = ctx.get(bank.row)
                    half = False
                elif granted:
                    half, refreshed = self._grant(ctx, clock, claimed)
                    refreshes += refreshed
                for kind, port in ((False, bank.reads), (True, bank.writes)):
                    if left[kind] and offered[kind] and ctx.get(port.ready):
                        left[kind].pop(0)
                        offered[kind] = choose is None
                assert not (claimed and ctx.get(bank.taken)), "a job is begun although claimed"
                await ctx.tick()

        run(bank, bench)
        return self.seen

    def _give(self, ctx: Any, grant: Any) -> None:
        ctx.set(grant, 1)
        self._grants.append(grant)

    def _bursts(self, jobs: list[Job]) -> list[Burst]:
        step = place_step(self.config)
        return [
            (job.write, job.row, job.column + i, job.place + i * step, job.tag)
            for job in jobs
            for i in range(job.bursts)
        ]

    def _grant(self, ctx: Any, clock: int, claimed: bool) -> tuple[bool, bool]:
        """Grant what the bank wants; return whether an activation has begun, a refresh is done."""
        bank = self.bank
        names = ("activate", "precharge", "read", "write")
        wanted = (bank.wants_activate, bank.wants_precharge, bank.wants_read, bank.wants_write)
        wishes = {name: ctx.get(wish) for name, wish in zip(names, wanted, strict=True)}
        assert sum(wishes.values()) <= 1
        if wishes["activate"]:
            assert not claimed
            self._give(ctx, bank.activate)
            if not self.split:
                self._give(ctx, bank.activated)
            command = Command.ACT1 if self.split else Command.ACT
            self._checker_row = ctx.get(bank.row)
            self.issue(clock, command, self._checker_row)
            return self.split, False
        if wishes["precharge"]:
            self._give(ctx, bank.precharge)
            self.issue(clock, Command.PRE)
        for write, name in ((False, "read"), (True, "write")):
            if wishes[name]:
                self._give(ctx, bank.transfer)
                self._transfer(ctx, clock, write)
        if claimed and ctx.get(bank.ready_for_refresh):
            assert not any(wishes.values())
            self._give(ctx, bank.refreshing)
            per_bank = self.config.per_bank_refresh
            self.issue(clock, Command.REFPB if per_bank else Command.REFAB)
            return False, True
        return False, False


def test_commands_of_row_hits_and_a_conflict() -> None:
    """Each in the first legal clock: ACT, reads of the row, the last with precharge, ACT."""
    bench = Bench("hbm2-2000")
    t = bench.config.standard
    jobs = [Job(False, 7, 4, 2, 8, 1), Job(False, 7, 9, 1, 3, 2), Job(False, 8, 0, 1, 0, 3)]
    seen = bench.play(jobs, 200)
    # A job is current 2 clocks after it came.
    first = 2
    read = first + t["tRCDRD"] + t.activate_cycles - 1
    # The open row counts from the second clock of ACT; what precedes ACT counts to there, too.
    again = max(read + 2 + t["tRTP"], first + 1 + t["tRAS"]) + t["tRP"] - t.activate_reference
    assert seen.issues == [
        (first, Command.ACT),
        (read, Command.RD),
        (read + 1, Command.RD),
        (read + 2, Command.RDA),
        (again, Command.ACT),
        (again + read - first, Command.RD),
    ]
    assert len(seen.bursts) == sum(job.bursts for job in jobs)


def test_a_conflict_found_late_is_precharged() -> None:
    """Nothing waits behind the first job: the row stays open until another one is wanted."""
    bench = Bench("ddr4-3200")
    jobs = [Job(True, 3, 0, 1), Job(False, 4, 0, 1)]
    seen = bench.play(jobs, 300, take_writes=lambda clock: clock < 80)
    commands = [command for _, command in seen.issues]
    assert commands == [Command.ACT, Command.WR, Command.PRE, Command.ACT, Command.RD]


@pytest.mark.parametrize("name", ["hbm2-2000", "ddr4-3200", "lpddr5-6400-x16"])
@pytest.mark.parametrize("begin", [0, 5, 60])
def test_a_claim_ends_with_a_refresh(name: str, begin: int) -> None:
    """The job at hand is finished, no other begun; all are done after the refresh."""
    bench = Bench(name)
    jobs = [Job(False, row, 0, 3) for row in (1, 1, 2, 3)]
    seen = bench.play(jobs, 1500, claims=(begin,))
    commands = [command for _, command in seen.issues]
    refresh = Command.REFPB if bench.config.per_bank_refresh else Command.REFAB
    assert commands.count(refresh) == 1
    before = commands[: commands.index(refresh)]
    # Whole jobs only.
    assert sum(command in (Command.RD, Command.RDA) for command in before) % 3 == 0
    assert len(seen.bursts) == sum(job.bursts for job in jobs)


def test_an_idle_bank_is_ready_at_once() -> None:
    assert Bench("hbm2-2000").play([], 10, claims=(4,)).issues == [(4, Command.REFPB)]


def traffic(name: str, seed: int, gear: int = 1, unit: type = BankMachine) -> None:
    """Check random jobs with grants and claims at random."""
    choose = random.Random(seed)
    bench = Bench(name, gear, unit)
    jobs = [
        Job(
            write=choose.random() < 0.4,
            row=choose.randrange(2),
            column=choose.randrange(8),
            bursts=choose.choice((1, 1, 2, 4)),
            place=i,
            tag=i,
        )
        for i in range(24)
    ]
    turns = [choose.random() < 0.4 for _ in range(200)]
    begin = choose.randrange(20, 100)
    seen = bench.play(
        jobs,
        5000 // gear,
        choose=choose,
        patience=0.7,
        claims=tuple(range(begin, begin + 600, 100)),
        take_writes=lambda clock: turns[clock // 15 % 200],
    )
    assert len(seen.bursts) == sum(job.bursts for job in jobs)
    commands = {command for _, command in seen.issues}
    assert commands >= {Command.RDA, Command.WRA, Command.PRE}


@pytest.mark.parametrize(
    ("name", "gear"),
    [
        ("hbm2-2000", 1),
        ("hbm2-2000", 2),
        ("lpddr5-6400-x16", 1),
        ("lpddr5-6400-x16", 2),
        ("ddr4-3200", 1),
    ],
)
def test_traffic(name: str, gear: int, seed: int) -> None:
    traffic(name, seed, gear)


FAULTS = {
    "tRCDRD": ('distances.activate_to_column("tRCDRD")', "1"),
    "tRCDWR": ('distances.activate_to_column("tRCDWR")', "1"),
    "tRAS": ('distances.activate_to_row("tRAS")', "1"),
    "tRTP": ("distances.read_to_precharge", "1"),
    "tWR": ("distances.write_to_precharge", "1"),
    "tRP": ('distances.row_to_activate("tRP")', "1"),
    "any row is a hit": ("(row == wanted)", "1"),
    "RDA soon behind WR": ("& (is_write | since_write", "& (1 | since_write"),
    "a column twice": ("job.column.eq(job.column + 1)", "job.column.eq(job.column)"),
    "the place of the neighbour": ("place_step(config)", "1"),
    "begun although claimed": ("& ~self.claimed\n            )", "\n            )"),
    "ready before tRP": ('& since_precharge["tRP_refresh"]', ""),
    "a write is lost": ("self.taken & self.take_writes", "self.taken"),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_found(fault: str) -> None:
    faulty = mutant(BankMachine, *FAULTS[fault])
    assert any(
        refutes(lambda seed=seed: traffic("ddr4-3200", seed, unit=faulty))  # type: ignore[misc]
        for seed in (1, 2)
    )
