"""Command traces in the forms that public DRAM tools read (docs/dram.md has their command lines).

python -m tb.memory.dram.export {drampower|ramulator} <standard> <trace> > <file>
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from hw.memory.dram import Command, DramStandard, load_standard
from hw.memory.dram.commands import READS, WRITES
from tb.memory.dram.trace import Trace, read_traces


def drampower(standard: DramStandard, trace: Trace) -> Iterator[str]:
    """Yield the commands of pseudo-channel 0 as lines of DRAMPower 5's command trace.

    ``timestamp,command,rank,bank group,bank,row,column[,data]``, the bank counted over all groups.
    An activation is one command, in the cycle in which the row opens. The data of reads and writes
    are not in a trace: zeros stand for them, so energies of the interface mean nothing.
    """
    names = {
        Command.ACT2: "ACT",
        Command.REFAB: "REFA",
        Command.REFPB: "REFP2B" if standard.banks_per_refresh == 2 else "REFB",
    }
    rows: dict[tuple[int, int], int] = {}
    for issue in trace.issues:
        place = (issue.bank_group, issue.bank)
        if issue.command in (Command.ACT, Command.ACT1):
            rows[place] = issue.row
        skipped = (Command.ACT1, Command.CAS_RD, Command.CAS_WR)
        if issue.channel or issue.command in skipped:
            continue
        name = names.get(issue.command, issue.command.name)
        bank = issue.bank_group * standard.banks_per_group + issue.bank
        data = issue.command in READS | WRITES
        tail = f",{'00' * standard.burst_bytes}" if data else ""
        row, column = rows.get(place, 0), issue.column * standard.burst_length
        time = issue.time + (standard.activate_cycles - 1 if name == "ACT" else 0)
        yield f"{time},{name},0,{issue.bank_group},{bank},{row},{column}{tail}"
    yield f"{trace.cycles},END,0,0,0,0,0"


def ramulator(standard: DramStandard, trace: Trace) -> Iterator[str]:
    """Yield the reads and writes as lines of Ramulator 2's ReadWriteTrace front end.

    ``R|W channel,rank or pseudo-channel,[stack,]bank group,bank,row,column``, the column in bursts.
    Ramulator schedules them by itself, so its commands can be compared with those of the trace.
    """
    rows: dict[tuple[int, int, int], int] = {}
    for issue in trace.issues:
        place = (issue.channel, issue.bank_group, issue.bank)
        if issue.command in (Command.ACT, Command.ACT1):
            rows[place] = issue.row
        if issue.command not in READS | WRITES:
            continue
        stack, group = divmod(issue.bank_group, standard.groups_per_stack)
        levels = [0, issue.channel, *([stack] if standard.stacks > 1 else [])]
        levels += [group, issue.bank, rows.get(place, 0), issue.column]
        yield f"{'R' if issue.command in READS else 'W'} {','.join(map(str, levels))}"


FORMS: dict[str, Callable[[DramStandard, Trace], Iterator[str]]] = {
    "drampower": drampower,
    "ramulator": ramulator,
}


def main(arguments: Sequence[str]) -> int:
    """Write the first run of a trace in another form to the standard output."""
    if len(arguments) != 3 or arguments[0] not in FORMS:
        print(f"usage: python -m tb.memory.dram.export {{{'|'.join(FORMS)}}} <standard> <trace>")
        return 2
    form, standard, path = arguments
    trace = read_traces(Path(path))[0]
    print("\n".join(FORMS[form](load_standard(standard), trace)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
