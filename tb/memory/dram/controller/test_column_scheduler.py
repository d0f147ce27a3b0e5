"""ColumnScheduler: in every clock the oldest that the rank allows, by the trace checker's rules."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from hw.memory.dram import Command, load_standard
from hw.memory.dram.commands import READS, WRITES
from hw.memory.dram.controller import ControllerConfig, column_scheduler
from hw.memory.dram.controller.column_scheduler import ColumnScheduler
from hw.memory.dram.controller.distances import Distances
from hw.memory.dram.controller.transfer_limits import TransferLimits
from tb.memory.dram.channel_checker import ChannelChecker
from tb.memory.dram.controller.clocked import PartFault, refutes_part, run
from tb.memory.dram.trace import Issue

#: Rules of the rank; the others are the banks' affair.
RULES = {"tCCD_S", "tCCD_L", "tCCD_R", "tRTW", "tWTR_S", "tWTR_L"}
CLOCKS = 400


class Model:
    """What has been issued, and what may be now; the banks are in order of age in ``older``."""

    def __init__(self, config: ControllerConfig, distances: Distances, older: list[int]) -> None:
        self._config = config
        self._phase = distances.column_phase
        self._older = older
        self._checker = ChannelChecker(config.standard)
        self._newest = dict.fromkeys((False, True), -(1 << 20))
        self.announced: int | None = None
        self.writing = False

    def _time(self, clock: int) -> int:
        return clock * self._config.gear + self._phase

    def _issue(self, clock: int, command: Command, bank: int) -> Issue:
        group, place = divmod(bank, self._config.standard.banks_per_group)
        return Issue(self._time(clock), command, 0, group, place)

    def clock_stopped(self, clock: int) -> bool:
        """Whether a transfer needs a CAS; those of the other kind do not keep the clock."""
        standard = self._config.standard
        if not standard.protocol.data_clock:
            return False
        latency = standard["tCWL"] if self.writing else standard["tCL"]
        tail = latency + standard.burst_cycles + standard["tWCKPST"]
        return self._time(clock) > self._newest[self.writing] + tail

    def expected(self, clock: int, wishes: set[int]) -> tuple[int | None, bool]:
        """Return the bank whose turn it is, and whether it only announces itself in this clock."""
        if self.announced is not None:
            return self.announced, False
        # At gear 1 an announcement takes a clock of its own.
        announces = self.clock_stopped(clock) and self._config.gear == 1
        command = Command.WR if self.writing else Command.RD
        for bank in self._older:
            issue = self._issue(clock + announces, command, bank)
            if bank in wishes and not RULES & {rule for rule, _ in self._checker.limits(issue)}:
                return bank, announces
        return None, False

    def issue(self, clock: int, command: Command, bank: int) -> None:
        """Take a transfer into the history."""
        self._checker.add(self._issue(clock, command, bank))
        self._newest[self.writing] = self._time(clock)
        self.announced = None

    def turn(self, reads: bool, writes: bool) -> None:
        """Change the direction if only the other one is wanted."""
        if (reads, writes) == (not self.writing, self.writing) or not (reads or writes):
            return
        if not (writes if self.writing else reads):
            self.writing = not self.writing


def code_of(model: Model, precharge: bool) -> Command:
    """Return the command of a transfer."""
    if model.writing:
        return Command.WRA if precharge else Command.WR
    return Command.RDA if precharge else Command.RD


def check(
    name: str, seed: int, unit: type = ColumnScheduler, gear: int = 1, number: int = 0
) -> None:
    """Drive random wishes, grant at random; every command is the model's."""
    standard = replace(load_standard(name), banks_per_group=1 if name == "hbm3-6400" else 2)
    config, choose = ControllerConfig(standard=standard, gear=gear), random.Random(seed)
    distances = Distances(standard, gear, number)
    columns, banks = unit(config, distances), standard.banks
    order = choose.sample(range(banks), banks)
    model = Model(config, distances, order)
    age = {bank: i for i, bank in enumerate(order)}
    older = sum(1 << i * banks + j for i in range(banks) for j in range(banks) if age[i] < age[j])
    split = standard.protocol.data_clock
    issued: set[Command] = set()
    #: Per bank whether its job writes; None without one.
    jobs: list[bool | None] = [None] * banks

    async def bench(ctx: Any) -> None:
        ctx.set(columns.older, older)
        resume = 0
        for clock in range(CLOCKS):
            quiet = clock // 100 % 2 == 1
            for i, job in enumerate(jobs):
                if not quiet and job is None and choose.random() < 0.3:
                    jobs[i] = model.writing ^ (choose.random() < 0.9)
            if quiet and clock >= resume and jobs == [None] * banks:
                # Now and then, at about the time when a data clock stops.
                jobs[choose.randrange(banks)] = model.writing ^ (choose.random() < 0.1)
                resume = clock + choose.randrange(standard["tCL"], standard["tCL"] + 12)
            ready = {i for i in range(banks) if choose.random() < 0.7}
            if model.announced is not None:
                ready.add(model.announced)
            wishes = {i for i in ready if jobs[i] is model.writing}
            precharge = choose.getrandbits(banks)
            fields = [choose.randrange(standard.columns) for _ in range(banks)]

            def mask(write: bool, among: set[int]) -> int:
                return sum(1 << i for i in among if jobs[i] is write)

            everyone = set(range(banks))
            ctx.set(columns.has_read, mask(False, everyone))
            ctx.set(columns.has_write, mask(True, everyone))
            ctx.set(columns.wants_read, mask(False, ready))
            ctx.set(columns.wants_write, mask(True, ready))
            ctx.set(columns.auto_precharge, precharge)
            for i, column in enumerate(fields):
                ctx.set(columns.bursts[i].column, column)
            stopped = model.clock_stopped(clock)
            bank, announces = model.expected(clock, wishes)
            cas = Command.CAS_WR if model.writing else Command.CAS_RD
            wanted, announcement = Command.NOP, Command.NOP
            if bank is not None:
                wanted = cas if announces else code_of(model, bool(precharge >> bank & 1))
                if gear == 2 and stopped:
                    announcement = cas
            # What is announced has the next slot.
            grant = bank is not None and (split or choose.random() < 0.8)
            ctx.set(columns.grant, grant)
            where = f"clock {clock}, {wanted.name} of {bank}"
            assert ctx.get(columns.writing) == model.writing, where
            assert ctx.get(columns.command) == wanted.value, where
            assert ctx.get(columns.announcement) == announcement.value, where
            moves = grant and not announces
            assert ctx.get(columns.transfer) == (1 << bank if moves and bank is not None else 0)
            if bank is not None:
                burst = ctx.get(columns.burst)
                assert (burst.bank, burst.column) == (bank, fields[bank]), where
                assert burst.precharge == precharge >> bank & 1, where
            reads, writes = (any(job is kind for job in jobs) for kind in (False, True))
            if grant and bank is not None:
                issued.add(wanted)
                if announces:
                    model.announced = bank
                else:
                    model.issue(clock, wanted, bank)
                    jobs[bank] = None if choose.random() < 0.8 else model.writing
            model.turn(reads, writes)
            await ctx.tick()

    run(columns, bench)
    assert issued >= READS | WRITES
    assert not split or gear == 2 or issued >= {Command.CAS_RD, Command.CAS_WR}


@pytest.mark.parametrize(
    ("name", "gear", "number"),
    [
        ("hbm2-2000", 1, 0),
        ("hbm2-2000", 2, 1),
        ("hbm3-6400", 1, 0),
        ("lpddr5-6400-x16", 1, 0),
        ("lpddr5-6400-x16", 2, 0),
        ("ddr4-3200", 1, 0),
    ],
)
def test_oldest_of_what_is_allowed(name: str, gear: int, number: int, seed: int) -> None:
    check(name, seed, gear=gear, number=number)


#: Faults: where, what is replaced and by what, and the standard that shows it.
FAULTS: dict[str, PartFault] = {
    "not the oldest": (
        ColumnScheduler,
        "first = oldest(possible, self.older)",
        "first = possible & -possible",
        "hbm2-2000",
    ),
    "turns while reads are left": (
        ColumnScheduler,
        "~self.writing & ~self.has_read.any() &",
        "~self.writing &",
        "ddr4-3200",
    ),
    "precharge of another bank": (
        ColumnScheduler,
        "(chosen & self.auto_precharge).any()",
        "self.auto_precharge.any()",
        "ddr4-3200",
    ),
    "announced but not next": (
        ColumnScheduler,
        "Mux(announced.any(), announced, first)",
        "first",
        "lpddr5-6400-x16",
    ),
    "tCCD_L": (
        TransferLimits,
        'distances.column("tCCD_L")',
        'distances.column("tCCD_S")',
        "ddr4-3200",
    ),
    "tCCD_S": (TransferLimits, 'distances.column("tCCD_S")', "1", "ddr4-3200"),
    "tCCD_R": (
        TransferLimits,
        'distances.column("tCCD_R")',
        'distances.column("tCCD_S")',
        "hbm3-6400",
    ),
    "tRTW": (TransferLimits, 'distances.column("tRTW")', "1", "ddr4-3200"),
    "tWTR_S": (
        TransferLimits,
        'distances.write_to_read("tWTR_S")',
        "1",
        "ddr4-3200",
    ),
    "tWTR_L": (
        TransferLimits,
        'distances.write_to_read("tWTR_L")',
        'distances.write_to_read("tWTR_S")',
        "ddr4-3200",
    ),
    "the clock runs on": (
        TransferLimits,
        "distances.data_clock(latency) + 1",
        "distances.data_clock(latency) + 2",
        "lpddr5-6400-x16",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_found(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert refutes_part(check, FAULTS[fault], ColumnScheduler, column_scheduler, monkeypatch)
