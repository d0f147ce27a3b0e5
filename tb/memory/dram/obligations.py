"""What has to happen in time: refreshes, second halves of activations, accesses behind a CAS.

Each function looks at a whole run of one pseudo-channel and returns the cycles in which its rule is
found broken.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from hw.memory.dram import Command, DramStandard
from hw.memory.dram.commands import READS, WRITES
from tb.memory.dram.trace import Issue


def refresh_set(standard: DramStandard, bank_group: int, bank: int) -> int:
    """Return which set of banks REFPB refreshes when it addresses this bank."""
    return (bank_group * standard.banks_per_group + bank) % standard.refresh_sets


def overdue_refreshes(standard: DramStandard, issues: Sequence[Issue], cycles: int) -> set[int]:
    """Rule tREFI: at no multiple of tREFI may a bank be owed more than the limit.

    With X the refreshes due less those done, and as credit ends at the limit P, the debt after an
    event is ``X + max(0, max over the events so far of -P - X)``.
    """
    limit = standard.postponed_refreshes
    due = range(standard["tREFI"], cycles, standard["tREFI"])
    broken: set[int] = set()
    for wanted in range(standard.refresh_sets):
        done = [
            issue.time
            for issue in issues
            if issue.command is Command.REFAB
            or (
                issue.command is Command.REFPB
                and refresh_set(standard, issue.bank_group, issue.bank) == wanted
            )
        ]
        # What falls due in a cycle comes before the refreshes of that cycle.
        events = sorted([*((time, 1) for time in due), *((time, -1) for time in done)], key=_order)
        balance = list(accumulate(step for _, step in events))
        credit_lost = accumulate((max(0, -limit - x) for x in balance), max)
        last = {
            time: x + lost for (time, _), x, lost in zip(events, balance, credit_lost, strict=True)
        }
        broken |= {time for time in due if last[time] > limit}
    return broken


def _order(event: tuple[int, int]) -> tuple[int, int]:
    time, step = event
    return time, -step


def late_halves(standard: DramStandard, issues: Sequence[Issue], cycles: int) -> set[int]:
    """Rule tAAD: the second half of an activation comes at most tAAD after the first."""
    halves = [issue for issue in issues if issue.command in (Command.ACT1, Command.ACT2)]
    broken: set[int] = set()
    for i, first in enumerate(halves):
        if first.command is not Command.ACT1:
            continue
        deadline = first.time + standard["tAAD"]
        ends = (
            later.time
            for later in halves[i + 1 :]
            if later.command is Command.ACT1
            or (later.bank_group, later.bank) == (first.bank_group, first.bank)
        )
        if next(ends, cycles) > deadline and deadline + 1 < cycles:
            broken.add(deadline + 1)
    return broken


def broken_promises(issues: Sequence[Issue], cycles: int) -> set[int]:
    """Rule CAS_ORDER: the read or write that a CAS announces comes in the next cycle."""
    broken: set[int] = set()
    by_time = {issue.time: issue.command for issue in issues}
    for time, command in by_time.items():
        wanted = {Command.CAS_RD: READS, Command.CAS_WR: WRITES}.get(command)
        if wanted is not None and time + 1 < cycles and by_time.get(time + 1) not in wanted:
            broken.add(time + 1)
    return broken
