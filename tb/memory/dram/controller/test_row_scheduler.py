"""RowScheduler: in every clock the first of what the rank allows, by the trace checker's rules."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from hw.memory.dram import Command, load_standard
from hw.memory.dram.controller import ControllerConfig, row_scheduler
from hw.memory.dram.controller.activation_limits import ActivationLimits
from hw.memory.dram.controller.distances import Distances
from hw.memory.dram.controller.row_scheduler import RowScheduler
from tb.memory.dram.channel_checker import ChannelChecker
from tb.memory.dram.controller.clocked import PartFault, refutes_part, run
from tb.memory.dram.trace import Issue

#: Rules of the rank; the others are the banks' affair.
RULES = {"tRRD_S", "tRRD_L", "tFAW", "tPPD", "tpbR2act", "tpbR2pbr"}
CLOCKS = 400


class Model:
    """What has been issued, and what may be now.

    Parameters
    ----------
    config
        The scheduler's.
    older
        Banks, the oldest first.
    """

    def __init__(self, config: ControllerConfig, older: list[int]) -> None:
        self._config = config
        self._older = older
        self._checker = ChannelChecker(config.standard)
        self._split = config.standard.protocol.split_activate
        self.half: int | None = None
        self.opened: set[int] = set()

    def _issue(self, clock: int, command: Command, bank: int) -> Issue:
        group, place = divmod(bank, self._config.standard.banks_per_group)
        return Issue(clock * self._config.gear, command, 0, group, place)

    def _legal(self, clock: int, command: Command, bank: int) -> bool:
        ends = [(clock, command)]
        if command is Command.ACT1:
            ends.append((clock + 1, Command.ACT2))
        issues = [self._issue(when, what, bank) for when, what in ends]
        return not RULES & {rule for i in issues for rule, _ in self._checker.limits(i)}

    def expected(
        self, clock: int, activate: set[int], precharge: set[int], refresh: int | None
    ) -> tuple[Command, int]:
        """Return the command of this clock and its bank."""
        if self.half is not None:
            return Command.ACT2, self.half
        per_bank = self._config.per_bank_refresh
        refreshes = {refresh} if refresh is not None else set()
        kinds = (
            (Command.REFPB if per_bank else Command.REFAB, refreshes),
            (Command.ACT1 if self._split else Command.ACT, activate),
            (Command.PRE, precharge),
        )
        for command, wishes in kinds:
            for bank in self._older:
                if bank in wishes and self._legal(clock, command, bank):
                    return command, bank
        return Command.NOP, 0

    def issue(self, clock: int, command: Command, bank: int) -> None:
        """Take a command into the history."""
        self._checker.add(self._issue(clock, command, bank))
        if command in (Command.ACT, Command.ACT2):
            self.opened.add(bank)
        if command is Command.PRE:
            self.opened.discard(bank)
        self.half = bank if command is Command.ACT1 else None


def check(name: str, seed: int, scheduler: type = RowScheduler, **fields: Any) -> None:
    """Drive random wishes, grant at random; every command is the model's."""
    standard = replace(load_standard(name), banks_per_group=2)
    config, choose = ControllerConfig(standard=standard, **fields), random.Random(seed)
    rows = scheduler(config, Distances(standard, config.gear, 0))
    banks = standard.banks
    order = choose.sample(range(banks), banks)
    model = Model(config, order)
    older = sum(
        1 << i * banks + j
        for i in range(banks)
        for j in range(banks)
        if order.index(i) < order.index(j)
    )
    rest = max(40, standard["tpbR2pbr"]) if config.per_bank_refresh else 40
    issued: set[Command] = set()

    async def bench(ctx: Any) -> None:
        ctx.set(rows.older, older)
        taken = 0
        rests: dict[int, int] = {}
        for clock in range(CLOCKS):
            busy = model.opened | ({model.half} - {None})
            # A bank waits for the end of its own refresh by itself.
            closed = {b for b in range(banks) if b not in busy and clock >= rests.get(b, 0)}
            eager = choose.choice((0.1, 0.5, 1.0))
            activate = {bank for bank in closed if choose.random() < eager}
            precharge = {bank for bank in model.opened if choose.random() < 0.2}
            sets = dict(enumerate(config.bank_sets))
            ready = [i for i, members in sets.items() if closed.issuperset(members)]
            target = choose.choice(ready or [0])
            members = sets[target]
            refresh = bool(ready) and choose.random() < 0.2
            wanted_rows = [choose.randrange(standard.rows) for _ in range(banks)]
            ctx.set(rows.wants_activate, sum(1 << bank for bank in activate))
            ctx.set(rows.wants_precharge, sum(1 << bank for bank in precharge))
            ctx.set(rows.rows, wanted_rows)
            ctx.set(rows.refresh, refresh)
            ctx.set(rows.target, target)
            command, bank = model.expected(
                clock, activate, precharge, members[0] if refresh else None
            )
            # An activation may take its bus for two clocks.
            grant = clock >= taken and choose.random() < 0.8 and command is not Command.NOP
            ctx.set(rows.grant, grant)
            shown = ctx.get(rows.command)
            assert shown.command == command.value, f"clock {clock}: {command.name} of {bank}"
            if command is not Command.NOP:
                assert shown.bank == bank
                assert shown.row == wanted_rows[bank]
            mask = 1 << bank if grant else 0
            begins = command in (Command.ACT, Command.ACT1)
            ends = command in (Command.ACT, Command.ACT2)
            refreshed = sum(1 << i for i in members) if grant else 0
            assert ctx.get(rows.activate) == (mask if begins else 0)
            assert ctx.get(rows.activated) == (mask if ends else 0)
            assert ctx.get(rows.precharge) == (mask if command is Command.PRE else 0)
            is_refresh = command in (Command.REFPB, Command.REFAB)
            assert ctx.get(rows.refreshing) == (refreshed if is_refresh else 0)
            if grant:
                issued.add(command)
                model.issue(clock, command, bank)
                if is_refresh:
                    rests.update((i, clock + rest) for i in members)
                if command is Command.ACT and config.gear == 1:
                    taken = clock + standard.activate_cycles
            await ctx.tick()

    run(rows, bench)
    begin = {Command.ACT1, Command.ACT2} if standard.protocol.split_activate else {Command.ACT}
    # All banks are never closed at once in this traffic.
    refreshes = {Command.REFPB} if config.per_bank_refresh else set()
    assert issued >= {Command.PRE} | begin | refreshes


@pytest.mark.parametrize("gear", [1, 2])
@pytest.mark.parametrize("name", ["hbm2-2000", "lpddr5-6400-x16", "ddr4-3200"])
def test_first_of_what_is_allowed(name: str, gear: int, seed: int) -> None:
    check(name, seed, gear=gear)


#: Faults: where, what is replaced and by what, and the standard that shows it.
FAULTS: dict[str, PartFault] = {
    "a refresh goes behind activations": (
        RowScheduler,
        "kind.eq(possible & -possible)",
        "kind.eq(Mux(possible[2], 4, possible & -possible))",
        "hbm2-2000",
    ),
    "tPPD": (RowScheduler, 'distances.row("tPPD")', "1", "lpddr5-6400-x16"),
    "not the oldest": (
        RowScheduler,
        "oldest(to_activate, self.older)",
        "to_activate & -to_activate",
        "ddr4-3200",
    ),
    "the row of another bank": (
        RowScheduler,
        "select(bank, self.rows)",
        "self.rows[0]",
        "ddr4-3200",
    ),
    "the second half is forgotten": (
        RowScheduler,
        "half.eq(self.activate)",
        "half.eq(0)",
        "lpddr5-6400-x16",
    ),
    "tRRD_S": (
        ActivationLimits,
        'self._since_activate("tRRD_S")',
        'self._since_activate("tPPD")',
        "ddr4-3200",
    ),
    "tRRD_L": (
        ActivationLimits,
        'self._since_activate("tRRD_L")',
        'self._since_activate("tRRD_S")',
        "ddr4-3200",
    ),
    "tFAW": (
        ActivationLimits,
        'by_activation = self._since_activate("tFAW")',
        'by_activation = self._since_activate("tRRD_L")',
        "ddr4-3200",
    ),
    "tpbR2act": (
        ActivationLimits,
        'distances.row_to_activate("tpbR2act")',
        "1",
        "hbm2-2000",
    ),
    "tpbR2pbr": (ActivationLimits, 'distances.row("tpbR2pbr")', "1", "hbm2-2000"),
    "a refresh is none of the four": (
        ActivationLimits,
        "m.If(activated | refreshing)",
        "m.If(activated)",
        "lpddr5-6400-x16",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_found(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert refutes_part(check, FAULTS[fault], RowScheduler, row_scheduler, monkeypatch)
