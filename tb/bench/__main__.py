"""Measure the performance points: ``python -m tb.bench``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
from rich.console import Console
from rich.progress import track

from hw.config import ConfigError, preset
from hw.formats import Mode, modes
from tb.attention.runner import Mismatch
from tb.bench.options import failing, run_options
from tb.bench.picture import draw
from tb.bench.points import JOBS, LATENCY, Point, measure, with_speedup
from tb.bench.table import console_table, markdown_table
from tb.harness import HarnessError

#: Contexts of the presets that are measured by default.
DEFAULT_CONTEXTS = {
    "lm": (512, 1024, 2048),
    "paper": (1024, 4096, 8192),
    "paper-gqa": (1024, 4096, 8192),
}
LABELS = {
    "measured": "counted in the simulation of the emitted Verilog",
    "derived": "arithmetic on measured figures and on the layout of the cache",
    "roofline_ratio": "max(required bytes / 16 per cycle, useful digits / 64 per cycle) / cycles",
    "bound_of_speedup": "required bytes of dense16 / required bytes",
}


@click.command()
@click.option("--preset", "presets", multiple=True, metavar="NAME", help="Else lm and the paper's.")
@click.option("--mode", "wanted", multiple=True, type=click.Choice([m.name.lower() for m in Mode]))
@click.option("--context", "contexts", multiple=True, type=click.IntRange(min=1))
@run_options("bench.json, bench.md and bench.svg")
def main(
    presets: tuple[str, ...],
    wanted: tuple[str, ...],
    contexts: tuple[int, ...],
    seed: int,
    output: Path,
) -> None:
    """Measure presets x modes x contexts with an ideal memory; write JSON, table and picture."""
    console = Console(highlight=False)
    try:
        points = [
            Point(preset(name), mode, context)
            for name in presets or DEFAULT_CONTEXTS
            for context in contexts or DEFAULT_CONTEXTS.get(name, (preset(name).max_context,))
            for mode in modes(preset(name))
            if not wanted or mode.name.lower() in wanted
        ]
        for point in points:
            point.config.check_cache(point.context, point.config.head_dim)
        with failing(console, HarnessError, Mismatch):
            found = with_speedup(
                [measure(point, seed) for point in track(points, "points", console=console)]
            )
    except ConfigError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
    output.mkdir(parents=True, exist_ok=True)
    facts = {"labels": LABELS, "jobs": JOBS, "memory_latency": LATENCY, "points": found}
    (output / "bench.json").write_text(json.dumps(facts, indent=1) + "\n")
    (output / "bench.md").write_text(markdown_table(found))
    draw(found, output / "bench.svg")
    console.print(console_table(found))
    console.print(f"{output / 'bench.json'}, bench.md, bench.svg")


if __name__ == "__main__":
    main()
