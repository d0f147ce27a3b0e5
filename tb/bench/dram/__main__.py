"""Measure the DRAM figures: ``python -m tb.bench.dram``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
from rich.console import Console
from rich.progress import track

from hw.memory.dram import standard_names
from tb.bench.dram.gaps import RunTooShort
from tb.bench.dram.measure import INTERVALS, measure
from tb.bench.dram.points import CASES, POINTS
from tb.bench.dram.publish import publish as copy_figures
from tb.bench.dram.table import console_table, idle_table, markdown_table
from tb.bench.dram.traffic import WrongAnswer
from tb.bench.options import failing, publish_option, run_options
from tb.harness import HarnessError

LABELS = {
    "measured": "counted in the simulation of the emitted Verilog against the device model",
    "run": "from reset to the last word, by the device's counters; in DRAM clocks",
    "stretch": "from the command trace, from 7 tREFI on, since 6 refreshes may be put off",
    "derived": "arithmetic on measured figures",
    "useful_fraction": "bytes asked for / bytes that the data pins can move in the clocks",
    "cap": "1 - tRFCab / tREFI where all banks are refreshed at once",
}


@click.command()
@click.option(
    "--standard", "standards", multiple=True, type=click.Choice(standard_names()), help="Else all."
)
@click.option("--case", "cases", multiple=True, type=click.Choice(CASES), help="Else all.")
@run_options("dram.json and dram.md")
@click.option(
    "--intervals",
    type=click.IntRange(min=1),
    default=INTERVALS,
    show_default=True,
    help="tREFI that a figure covers; multiples of 3 hold as many refreshes as are due.",
)
@publish_option
def main(
    standards: tuple[str, ...],
    cases: tuple[str, ...],
    seed: int,
    intervals: int,
    output: Path,
    publish: bool,
) -> None:
    """Measure the DRAM controller at the pins, refresh on; write JSON and tables."""
    console = Console(highlight=False)
    points = [
        point
        for point in POINTS
        if point.standard in (standards or standard_names()) and point.case in (cases or CASES)
    ]
    if not points:
        click.echo(f"error: no figure has case {cases} and standard {standards}", err=True)
        sys.exit(2)
    output.mkdir(parents=True, exist_ok=True)
    found = []
    with failing(console, HarnessError, WrongAnswer, RunTooShort):
        for point in track(points, "DRAM figures", console=console):
            found.append(measure(point, seed, intervals=intervals))
            facts = {"labels": LABELS, "intervals": intervals, "points": found}
            # After each, since a run takes many minutes.
            (output / "dram.json").write_text(json.dumps(facts, indent=1) + "\n")
            (output / "dram.md").write_text(markdown_table(found) + "\n" + idle_table(found))
    console.print(console_table(found))
    console.print(f"{output / 'dram.json'}, dram.md")
    if publish:
        console.print(copy_figures(output / "dram.json"))


if __name__ == "__main__":
    main()
