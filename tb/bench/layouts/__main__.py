"""Compare the layouts of the value groups' scales: ``python -m tb.bench.layouts``."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from rich.console import Console
from rich.progress import track

from tb.bench.keep import keep
from tb.bench.layouts.measure import POINTS, measure
from tb.bench.layouts.replay import WrongTraffic
from tb.bench.layouts.table import document, markdown_table
from tb.harness import HarnessError
from tb.harness.files import REPOSITORY

RESULT = REPOSITORY / "results" / "layouts.json"
DOCUMENT = REPOSITORY / "docs" / "value_scale_layouts.md"
LABELS = {
    "measured": "counted by the device, the same as by the layout, padding included",
    "derived": "clocks of a core that gets a beat of 16 bytes a clock and does a step a clock, "
    "each chunk the larger of both",
    "clocks": "from the first job's first beat to the last job's last one at one pseudo-channel, "
    "refresh on and none put off before, by the number of jobs; the datapath is always ready",
}


@click.command()
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=1, show_default=True)
@click.option("--publish", is_flag=True, help="Keep the figures in results/ and docs/.")
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=REPOSITORY / "build" / "bench",
    help="Directory for layouts.json and .md; build/bench if not given.",
)
def main(seed: int, publish: bool, output: Path) -> None:
    """Measure bytes and clocks of every layout; write JSON and a table."""
    console = Console(highlight=False)
    found = []
    try:
        for point in track(POINTS, "layouts", console=console):
            found += measure(point, seed)
    except (HarnessError, WrongTraffic) as error:
        console.print("[bold red]FAILED[/]", end=" ")
        console.print(str(error), markup=False)
        sys.exit(1)
    facts = {"labels": LABELS, "points": found}
    written = keep(facts, document, output=output, results=RESULT, docs=DOCUMENT, publish=publish)
    console.print(markdown_table(found), soft_wrap=True)
    console.print(written)


if __name__ == "__main__":
    main()
