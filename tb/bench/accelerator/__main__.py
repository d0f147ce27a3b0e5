"""Measure attention through DRAM: ``python -m tb.bench.accelerator``."""

from __future__ import annotations

import json
from pathlib import Path

import click
from rich.console import Console
from rich.progress import track

from hw.formats import Mode
from tb.attention.runner import Mismatch
from tb.bench.accelerator.points import Point, find_point, measure, with_projections
from tb.bench.accelerator.table import document, markdown_table
from tb.bench.keep import keep
from tb.bench.options import failing, publish_option, run_options
from tb.harness import HarnessError
from tb.harness.files import REPOSITORY

#: What is measured by default; slices beyond one with ``--wide``.
POINTS = (
    Point("paper", Mode.KVO, 2048),
    Point("paper", Mode.KVO, 4096),
    Point("paper", Mode.KVO, 8192),
    Point("paper", Mode.DENSE16, 2048),
    Point("paper", Mode.DENSE16, 4096),
)
WIDE = (Point("paper", Mode.KVO, 4096, slices=4),)
RESULT = REPOSITORY / "results" / "attention_dram.json"
DOCUMENT = REPOSITORY / "docs" / "attention_dram.md"
LABELS = {
    "measured": "counted by the DRAM device model in the simulation, refresh on",
    "derived": "arithmetic on measured figures and on the layout of the cache",
    "projected": "the traffic of two measured contexts continued linearly",
}


@click.command()
@run_options("attention_dram.json and .md")
@click.option("--wide", is_flag=True, help="Also four slices on four channels.")
@click.option(
    "--reuse",
    is_flag=True,
    help="Take what results/ has of the same configuration and seed, and measure the others only.",
)
@publish_option
def main(seed: int, wide: bool, reuse: bool, publish: bool, output: Path) -> None:
    """Measure bytes and bandwidth at the DRAM pins; write JSON and a table.

    --reuse is for a change that cannot alter a cycle: the hash of a configuration does not cover
    the sources of the hardware.
    """
    console = Console(highlight=False)
    points = [*POINTS, *(WIDE if wide else ())]
    known = json.loads(RESULT.read_text())["points"] if reuse else []
    with failing(console, HarnessError, Mismatch):
        found = with_projections(
            [
                find_point(point, seed, known) or measure(point, seed)
                for point in track(points, "points", console=console)
            ]
        )
    facts = {"labels": LABELS, "points": found}
    written = keep(facts, document, output=output, results=RESULT, docs=DOCUMENT, publish=publish)
    console.print(markdown_table(found), soft_wrap=True)
    console.print(written)


if __name__ == "__main__":
    main()
