"""A second checker of DRAM commands, which looks back over a trace.

The device model keeps, per rule and bank, the cycle from which the next command may come. This
checker shares neither that formulation nor its code: it holds every command against the earlier
ones, by the minimal distances of `tb.memory.dram.constraints`, and what has to happen in time
against `tb.memory.dram.obligations`.

    python -m tb.memory.dram.trace_checker <standard> <trace>
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from hw.memory.dram import Command, DramStandard, load_standard
from hw.memory.dram.commands import COLUMN_COMMANDS
from tb.memory.dram.channel_checker import ChannelChecker
from tb.memory.dram.obligations import broken_promises, late_halves, overdue_refreshes
from tb.memory.dram.trace import Issue, Trace, Violation, read_traces


def check_trace(standard: DramStandard, trace: Trace) -> set[Violation]:
    """Return every violation in a run."""
    found = _bus_violations(standard, trace.issues)
    for channel in range(standard.pseudo_channels):
        checker = ChannelChecker(standard)
        issues = [
            issue
            for issue in trace.issues
            if issue.channel == channel and issue.command in standard.protocol.commands
        ]
        for issue in issues:
            found |= {Violation(issue.time, channel, rule) for rule in checker.broken(issue)}
            checker.add(issue)
        late = {"tREFI": overdue_refreshes(standard, issues, trace.cycles)}
        if standard.protocol.split_activate:
            late["tAAD"] = late_halves(standard, issues, trace.cycles)
        if standard.protocol.data_clock:
            late["CAS_ORDER"] = broken_promises(issues, trace.cycles)
        found |= {Violation(t, channel, rule) for rule, times in late.items() for t in times}
    return found


def _bus_violations(standard: DramStandard, issues: Sequence[Issue]) -> set[Violation]:
    """Commands that the family has not, and commands on a bus that is wrong or taken."""
    found: set[Violation] = set()
    activated: int | None = None
    for issue in issues:
        if issue.command not in standard.protocol.commands:
            found.add(Violation(issue.time, issue.channel, "COMMAND"))
            continue
        if not standard.protocol.column_bus:
            continue
        column = issue.command in COLUMN_COMMANDS
        taken = (
            not column
            and activated is not None
            and issue.time - activated < standard.activate_cycles
        )
        if taken or (issue.bus == 1) != column:
            found.add(Violation(issue.time, issue.channel, "BUS"))
        if issue.command is Command.ACT:
            activated = issue.time
    return found


def main(arguments: Sequence[str]) -> int:
    """Check a trace file; return 1 and list the violations if there are any."""
    if len(arguments) != 2:
        print("usage: python -m tb.memory.dram.trace_checker <standard> <trace>")
        return 2
    standard = load_standard(arguments[0])
    traces = read_traces(Path(arguments[1]))
    found = [(run, v) for run, t in enumerate(traces) for v in sorted(check_trace(standard, t))]
    for run, violation in found:
        print(f"run {run}, cycle {violation.time}, channel {violation.channel}: {violation.rule}")
    commands = sum(len(trace.issues) for trace in traces)
    print(f"{commands} commands in {len(traces)} runs: {len(found)} violations")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
