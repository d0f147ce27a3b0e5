"""Measure whole decode steps at the DRAM pins: ``python -m tb.bench.generation_dram``."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console
from rich.progress import track

from tb.bench.generation.table import markdown_table
from tb.bench.generation_dram.points import POINTS, measure
from tb.bench.generation_dram.table import document, rows
from tb.bench.keep import keep
from tb.bench.options import failing, publish_option, run_options
from tb.harness import HarnessError
from tb.harness.files import REPOSITORY

RESULT = REPOSITORY / "results" / "generation_dram.json"
DOCUMENT = REPOSITORY / "docs" / "generation_dram.md"
LABELS = {
    "measured": "counted by the DRAM device model in the simulation, refresh on, from the first "
    "step to the last completion",
    "derived": "arithmetic on measured figures and on the layout of the cache",
}


@click.command()
@run_options("generation_dram.json and .md")
@publish_option
def main(seed: int, publish: bool, output: Path) -> None:
    """Simulate whole steps in an accelerator; write JSON and a table."""
    console = Console(highlight=False)
    with failing(console, HarnessError):
        points = [measure(point, seed) for point in track(POINTS, "points", console=console)]
    facts = {"labels": LABELS, "points": points}
    written = keep(facts, document, output=output, results=RESULT, docs=DOCUMENT, publish=publish)
    console.print(markdown_table(rows(points)), soft_wrap=True)
    console.print(written)


if __name__ == "__main__":
    main()
