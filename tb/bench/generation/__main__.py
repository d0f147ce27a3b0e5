"""Measure what writing the caches costs: ``python -m tb.bench.generation``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
from rich.console import Console
from rich.progress import track

from hw.cores.decode_core import DEFAULT_LANES
from tb.bench.generation.measure import IMPORTS, LATENCY, STEPS, measure_import, measure_steps
from tb.bench.generation.table import document, import_rows, markdown_table, step_rows
from tb.bench.keep import keep
from tb.harness import HarnessError
from tb.harness.files import REPOSITORY

RESULT = REPOSITORY / "results" / "generation.json"
DOCUMENT = REPOSITORY / "docs" / "generation.md"
AREA = REPOSITORY / "results" / "decode_core_area_lm.json"
LABELS = {
    "measured": "counted in simulation",
    "derived": "arithmetic on counts",
    "area": "synthesised, NAND2 equivalents",
}


@click.command()
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=1, show_default=True)
@click.option("--publish", is_flag=True, help="Keep the figures in results/ and docs/.")
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=REPOSITORY / "build" / "bench",
    help="Directory for generation.json and .md; build/bench if not given.",
)
def main(seed: int, publish: bool, output: Path) -> None:
    """Simulate steps and imports; write JSON and a page. The area is that of results/."""
    console = Console(highlight=False)
    try:
        steps = [measure_steps(*point, seed) for point in track(STEPS, "steps", console=console)]
        imports = [
            measure_import(name, tokens, seed)
            for name, tokens in track(IMPORTS, "imports", console=console)
        ]
    except HarnessError as error:
        console.print("[bold red]FAILED[/]", end=" ")
        console.print(str(error), markup=False)
        sys.exit(1)
    facts = {
        "labels": LABELS,
        "latency": LATENCY,
        "lanes": DEFAULT_LANES,
        "steps": steps,
        "imports": imports,
        "area": json.loads(AREA.read_text()),
    }
    written = keep(facts, document, output=output, results=RESULT, docs=DOCUMENT, publish=publish)
    console.print(markdown_table(step_rows(steps)), soft_wrap=True)
    console.print(markdown_table(import_rows(imports)), soft_wrap=True)
    console.print(written)


if __name__ == "__main__":
    main()
