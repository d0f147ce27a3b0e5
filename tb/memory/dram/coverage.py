"""Which rules a command trace runs into: commands that come in the first cycle that is legal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import replace

from hw.memory.dram import Command, DramStandard
from tb.memory.dram.channel_checker import ITSELF, OF_OPEN_ROWS, ROUND, WINDOW, ChannelChecker
from tb.memory.dram.constraints import constraints
from tb.memory.dram.trace import Trace

#: A rule, what it counts from (see `ChannelChecker.causes`), and the name of the later command.
Pair = tuple[str, str, str]
_CAUSES = {ITSELF, WINDOW, ROUND}
_CLOSING = {Command.RDA, Command.WRA}


def punctual(standard: DramStandard, trace: Trace, cycles: int = 1) -> Counter[Pair]:
    """Return per rule and pair of commands how many would have broken it ``cycles`` earlier.

    Parameters
    ----------
    standard
        The standard.
    trace
        A trace without violations.
    cycles
        1, or the gear of a controller that cannot issue a command in every cycle.
    """
    checkers = [ChannelChecker(standard) for _ in range(standard.pseudo_channels)]
    found: Counter[Pair] = Counter()
    for issue in trace.issues:
        checker = checkers[issue.channel]
        early = replace(issue, time=issue.time - cycles)
        found.update(
            {(rule, cause, issue.command.name) for rule, cause, _ in checker.causes(early)}
        )
        checker.add(issue)
    return found


def pairs(standard: DramStandard, commands: Collection[Command] | None = None) -> set[Pair]:
    """Return all that rules can count between, in traces of these commands only.

    Left out are distances of a cycle where a bus takes one command in a cycle, those between stacks
    that are not there, and those from a read or write that closes its row, if they end with it.
    """
    allowed = {command.name for command in commands or standard.protocol.commands}
    return {pair for pair in _pairs(standard) if set(pair[1:]) - _CAUSES <= allowed}


def _pairs(standard: DramStandard) -> Iterator[Pair]:
    for constraint in constraints(standard):
        if constraint.rule == "tCCD_R" and standard.stacks == 1:
            continue
        before = constraint.before - (_CLOSING if constraint.rule in OF_OPEN_ROWS else set())
        for first in before if constraint.cycles > 1 else ():
            yield from ((constraint.rule, first.name, after.name) for after in constraint.after)
    split, per_bank = standard.protocol.split_activate, standard.protocol.per_bank_refresh
    begin, activate = (Command.ACT1, Command.ACT2) if split else (Command.ACT,) * 2
    refreshes = (Command.REFPB,) if per_bank else ()
    yield from (("tRP", ITSELF, after.name) for after in (begin, Command.REFAB, *refreshes))
    yield from (("tFAW", WINDOW, after.name) for after in (activate, *refreshes))
    yield from (("tpbRround", ROUND, after.name) for after in refreshes)
