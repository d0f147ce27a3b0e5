"""Compare the layouts of the value groups' scales: ``python -m tb.bench.layouts``."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console
from rich.progress import track

from tb.bench.keep import keep
from tb.bench.layouts.measure import POINTS, measure
from tb.bench.layouts.replay import WrongTraffic
from tb.bench.layouts.table import document, markdown_table
from tb.bench.options import failing, publish_option, run_options
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
@run_options("layouts.json and .md")
@publish_option
def main(seed: int, publish: bool, output: Path) -> None:
    """Measure bytes and clocks of every layout; write JSON and a table."""
    console = Console(highlight=False)
    found = []
    with failing(console, HarnessError, WrongTraffic):
        for point in track(POINTS, "layouts", console=console):
            found += measure(point, seed)
    facts = {"labels": LABELS, "points": found}
    written = keep(facts, document, output=output, results=RESULT, docs=DOCUMENT, publish=publish)
    console.print(markdown_table(found), soft_wrap=True)
    console.print(written)


if __name__ == "__main__":
    main()
