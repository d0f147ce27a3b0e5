"""Measure what writing the caches costs: ``python -m tb.bench.generation``."""

from __future__ import annotations

import json
from pathlib import Path

import click
from rich.console import Console
from rich.progress import track

from hw.cores.decode_core import DEFAULT_LANES
from tb.bench.generation.measure import IMPORTS, LATENCY, STEPS, measure_import, measure_steps
from tb.bench.generation.table import document, import_rows, markdown_table, step_rows
from tb.bench.keep import keep
from tb.bench.options import failing, publish_option, run_options
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
@run_options("generation.json and .md")
@publish_option
def main(seed: int, publish: bool, output: Path) -> None:
    """Simulate steps and imports; write JSON and a page. The area is that of results/."""
    console = Console(highlight=False)
    with failing(console, HarnessError):
        steps = [measure_steps(*point, seed) for point in track(STEPS, "steps", console=console)]
        imports = [
            measure_import(name, tokens, seed)
            for name, tokens in track(IMPORTS, "imports", console=console)
        ]
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
