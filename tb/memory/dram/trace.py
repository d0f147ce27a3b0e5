"""Command traces of the DRAM device: commands, violations, runs, and their text form."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from hw.memory.dram import Command

_NAMES = {command.name: command for command in Command}


class TraceError(ValueError):
    """A trace is not in the form that docs/dram.md describes; the message names the line."""


@dataclass(frozen=True)
class Issue:
    """A command in a DRAM clock.

    Parameters
    ----------
    time
        DRAM clocks since the end of the last reset.
    command
        The command.
    channel
        Pseudo-channel.
    bank_group, bank, row, column
        What it addresses; fields that the command does not use say nothing.
    bus
        Where it was issued: 1 for a column bus, else 0.
    """

    time: int
    command: Command
    channel: int = 0
    bank_group: int = 0
    bank: int = 0
    row: int = 0
    column: int = 0
    bus: int = 0


@dataclass(frozen=True, order=True)
class Violation:
    """A rule broken in a DRAM clock of a pseudo-channel."""

    time: int
    channel: int
    rule: str


@dataclass
class Trace:
    """What happened between two resets.

    Parameters
    ----------
    issues
        The commands, in order.
    cycles
        DRAM clocks from reset to the end.
    violations
        What the device found.
    """

    issues: list[Issue] = field(default_factory=list)
    cycles: int = 0
    violations: set[Violation] = field(default_factory=set)


def read_traces(path: Path) -> list[Trace]:
    """Return the runs in a trace file, one per reset.

    Raises
    ------
    TraceError
        A line has another form, a time runs backwards, or the last run has no end.
    """
    traces: list[Trace] = []
    current = Trace()
    number = 0
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line or line.startswith("#"):
            continue
        try:
            if line.startswith("!"):
                time, channel, rule = line[1:].split(",")
                current.violations.add(Violation(int(time), int(channel), rule))
            elif line.startswith("end "):
                current.cycles = int(line[4:])
                traces.append(current)
                current = Trace()
            else:
                time, name, *rest = line.split(",")
                fields = [int(value) for value in rest]
                if len(fields) != 6:
                    raise TraceError(f"{path}:{number}: a command must have 8 fields: {line!r}")
                issue = Issue(int(time), _NAMES[name], *fields)
                if current.issues and issue.time < current.issues[-1].time:
                    raise TraceError(f"{path}:{number}: the time must not run backwards")
                current.issues.append(issue)
        except (KeyError, ValueError) as error:
            if isinstance(error, TraceError):
                raise
            raise TraceError(f"{path}:{number}: not a line of a trace: {line!r}") from error
    if current.issues or current.violations:
        raise TraceError(f"{path}:{number}: the last run must have a line 'end'")
    return traces
