"""Inject every fault of the catalogue and see a test find it: ``python -m tb.mutants``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from hw.config import preset
from tb.attention.emission import emission
from tb.attention.report import REPORTS
from tb.harness.files import REPOSITORY
from tb.mutants.campaign import Campaign, IntactFailure, test_id, write_mutants
from tb.mutants.catalogue import FAULTS, faults_by_unit
from tb.mutants.components import COMPONENT_FAULTS, run_test
from tb.mutants.inject import InjectionError

#: The preset that has the most tests.
PRESET = "tiny"
#: Columns of the table where there is no terminal to ask.
_WIDTH = 160


def run_all(seed: int, console: Console) -> list[dict[str, Any]]:
    """Run every fault, of the core and of components around it; see `run_core`."""
    rows = run_core(seed, console)
    return [*rows, *run_components(seed, console, len(rows))]


def run_components(seed: int, console: Console, before: int) -> list[dict[str, Any]]:
    """Run the faults of components; return a row each, numbered behind those ``before``.

    Raises
    ------
    IntactFailure
        A test fails without any fault, or a fault's test cannot be run.
    """
    rows = []
    tests = list(dict.fromkeys(fault.killed_by for fault in COMPONENT_FAULTS))
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.description}"), console=console) as progress:
        task = progress.add_task("", total=len(tests) + len(COMPONENT_FAULTS))
        for test in tests:
            progress.update(task, description=f"no fault: {test}")
            run_test(test, seed)
            progress.advance(task)
        for number, fault in enumerate(COMPONENT_FAULTS, start=before + 1):
            progress.update(task, description=f"{fault.name}: {fault.killed_by}")
            outcome = run_test(fault.killed_by, seed, fault)
            rows.append(
                {
                    "number": number,
                    "unit": fault.unit,
                    "fault": fault.name,
                    "kind": fault.kind,
                    "description": fault.description,
                    "test": fault.killed_by,
                    "killed": not outcome.passed,
                    "how": outcome.reason,
                    "cycles": outcome.cycles,
                }
            )
            progress.advance(task)
    return rows


def run_core(seed: int, console: Console) -> list[dict[str, Any]]:
    """Run every fault of the core against its test and return one row per fault, in order.

    Raises
    ------
    InjectionError
        A fault does not fit the Verilog, or a unit has no fault.
    IntactFailure
        A test fails without any fault.
    """
    emitted = emission(preset(PRESET))
    by_unit = faults_by_unit(emitted.verilog.read_text(), FAULTS)
    bare = [unit for unit, faults in by_unit.items() if not faults]
    if bare:
        raise InjectionError(f"units without a fault: {', '.join(bare)}")
    units = {fault.name: unit for unit, faults in by_unit.items() for fault in faults}
    campaign = Campaign(write_mutants(emitted, FAULTS), seed)
    tests = list(dict.fromkeys(fault.killed_by for fault in FAULTS))
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    rows = []
    with Progress(*columns, TextColumn("{task.description}"), console=console) as progress:
        task = progress.add_task("", total=len(tests) + len(FAULTS))
        for test in tests:
            progress.update(task, description=f"no fault: {test}")
            campaign.run_intact(test)
            progress.advance(task)
        for number, fault in enumerate(FAULTS, start=1):
            progress.update(task, description=f"{fault.name}: {fault.killed_by}")
            outcome = campaign.run_fault(number, fault)
            rows.append(
                {
                    "number": number,
                    "unit": units[fault.name],
                    "fault": fault.name,
                    "kind": fault.kind,
                    "description": fault.description,
                    "test": test_id(fault.killed_by),
                    "killed": not outcome.passed,
                    "how": outcome.reason,
                    "cycles": outcome.cycles,
                }
            )
            progress.advance(task)
        progress.update(task, description="")
    return rows


def write_report(rows: list[dict[str, Any]], seed: int) -> Path:
    """Write what was found as JSON under ``build/reports`` and return its path."""
    REPORTS.mkdir(parents=True, exist_ok=True)
    path = REPORTS / "mutants.json"
    killed = sum(row["killed"] for row in rows)
    report = {
        "preset": PRESET,
        "config_hash": f"{preset(PRESET).config_hash:#010x}",
        "seed": seed,
        "faults": len(rows),
        "killed": killed,
        "survived": [row["fault"] for row in rows if not row["killed"]],
        "results": rows,
    }
    path.write_text(json.dumps(report, indent=2) + "\n")
    return path


def print_table(rows: list[dict[str, Any]], console: Console) -> None:
    """Show one line per fault: where it was, what it was, which test found it and how."""
    table = Table(box=None, padding=(0, 2, 0, 0), expand=True)
    for column in ("unit", "fault", "found by"):
        table.add_column(column, no_wrap=True)
    table.add_column("cycles", justify="right", no_wrap=True)
    table.add_column("how", no_wrap=True, overflow="ellipsis", ratio=1)
    for row in rows:
        how = row["how"] if row["killed"] else f"SURVIVED: {row['description']}"
        test = row["test"].rpartition("::")[2]
        cells = (row["unit"], row["fault"], test, f"{row['cycles']:,}", how)
        table.add_row(*map(_plain, cells), style=None if row["killed"] else "bold red")
    console.print(table)


def _plain(text: str) -> str:
    """Keep brackets of the text from being read as style."""
    return text.replace("[", r"\[")


@click.command()
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=1, show_default=True)
def main(seed: int) -> None:
    """Switch on one fault after the other; every one must be found."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_WIDTH)
    try:
        rows = run_all(seed, console)
    except (InjectionError, IntactFailure) as error:
        console.print(f"FAILED: {error}", style="bold red", markup=False)
        sys.exit(1)
    print_table(rows, console)
    path = write_report(rows, seed)
    survivors = [row["fault"] for row in rows if not row["killed"]]
    verdict = f"{len(rows) - len(survivors)} of {len(rows)} faults found"
    console.print(verdict, style="bold red" if survivors else "bold green")
    if survivors:
        console.print(f"survived: {', '.join(survivors)}")
    console.print(f"report: {path.relative_to(REPOSITORY)}")
    sys.exit(1 if survivors else 0)


if __name__ == "__main__":
    main()
