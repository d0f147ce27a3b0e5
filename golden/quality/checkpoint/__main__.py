"""Cache methods on a checkpoint of one's own: ``python -m golden.quality.checkpoint DIR``."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
import torch
from rich.console import Console

from golden.checkpoint.files import CheckpointError
from golden.quality.checkpoint.lab import Settings, default_points, environment, run
from golden.quality.checkpoint.load import DTYPES, Checkpoint, load
from golden.quality.checkpoint.tasks import TASKS
from golden.quality.choose import chosen_points
from golden.quality.generate import GENERATIONS, Generation
from golden.quality.methods import FP16
from golden.quality.optional import MissingPackage
from golden.quality.picture import draw
from golden.quality.points import Point
from golden.quality.table import SECTIONS, console_tables, markdown_table

LABEL = "measured: float methods on a checkpoint of one's own"
OUTPUT = Path(__file__).parents[3] / "build" / "quality" / "checkpoint"


@click.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option(
    "--method",
    "methods",
    multiple=True,
    metavar="NAME[:PARAMETER=VALUE,...]",
    help="Only these, and FP16. If not given: all, at the traffic of KVO as published.",
)
@click.option("--task", "tasks", multiple=True, type=click.Choice(TASKS))
@click.option(
    "--context", "contexts", multiple=True, type=click.IntRange(256), help="Tokens; 2048."
)
@click.option("--seeds", type=click.IntRange(1), default=3, help="How many; 3.")
@click.option("--sequences", type=click.IntRange(1), default=4, help="Per task and seed; 4.")
@click.option(
    "--generation",
    "generations",
    multiple=True,
    type=click.Choice(GENERATIONS),
    help="How answers are scored; free if not given.",
)
@click.option("--text", type=click.Path(path_type=Path, dir_okay=False), help="A UTF-8 text file.")
@click.option("--dense-layers", type=click.IntRange(0), default=0, help="With --method: in FP16.")
@click.option("--untrained", is_flag=True, help="The control with random weights too.")
@click.option("--dtype", type=click.Choice(list(DTYPES)), help="Of the model.")
@click.option("--output", type=click.Path(path_type=Path, file_okay=False), default=OUTPUT)
def main(
    directory: Path,
    methods: tuple[str, ...],
    tasks: tuple[str, ...],
    contexts: tuple[int, ...],
    seeds: int,
    sequences: int,
    generations: tuple[Generation, ...],
    text: Path | None,
    dense_layers: int,
    untrained: bool,
    dtype: str | None,
    output: Path,
) -> None:
    """Measure quality and traffic on the Llama checkpoint in DIRECTORY; an interrupted run goes on.

    Writes quality.json, quality.md and quality.svg into the output directory.
    """
    try:
        named = chosen_points(methods, dense_layers=dense_layers) if methods else []
        checkpoint = load(directory, dtype=dtype)
        settings = Settings(
            tasks=tasks or TASKS,
            contexts=contexts or (min(2048, checkpoint.context),),
            seeds=tuple(range(1, seeds + 1)),
            sequences=sequences,
            generations=generations or ("free",),
            text=None if text is None else text.read_text(encoding="utf-8"),
        )
        rows = _measure(checkpoint, settings, named, untrained=untrained)
    except (CheckpointError, MissingPackage, ValueError, OSError) as error:
        raise click.ClickException(str(error)) from error
    facts: dict[str, Any] = {
        "label": LABEL,
        "checkpoint": str(directory),
        "checkpoint_sha256": checkpoint.sha256,
        **environment(checkpoint),
        "torch": torch.__version__,
        "settings": {**asdict(settings), "text": None if text is None else str(text)},
        "rows": rows,
    }
    output.mkdir(parents=True, exist_ok=True)
    (output / "quality.json").write_text(json.dumps(facts, indent=1) + "\n")
    (output / "quality.md").write_text(_document(facts))
    draw(rows, output / "quality.svg")
    click.echo(f"{output / 'quality.json'}, quality.md, quality.svg")


def _measure(
    checkpoint: Checkpoint, settings: Settings, named: list[Point], *, untrained: bool
) -> list[dict[str, Any]]:
    """Rows of all contexts, shown on the console."""
    console = Console(highlight=False)
    rows: list[dict[str, Any]] = []
    for context in settings.contexts:
        points = named or default_points(checkpoint, context, settings.text)
        if untrained:
            points = [*points, Point(method=FP16(), trained=False)]
        rows += run(checkpoint, points, replace(settings, contexts=(context,)), console=console)
    for table in console_tables(rows):
        console.print(table)
    return rows


def _document(facts: dict[str, Any]) -> str:
    rows = facts["rows"]
    parts = [
        f"# {Path(facts['checkpoint']).name}\n\n"
        f"*Measured* on {facts['device']} in {facts['dtype']}; caches in float32. "
        "In brackets: 95 % bootstrap interval over the sequences.\n"
    ]
    for context in sorted({row["context"] for row in rows}, reverse=True):
        for part in SECTIONS:
            table = markdown_table(rows, part, context)
            if table:
                parts.append(f"## {part}, {context} tokens\n\n{table}")
    return "\n".join(parts)


if __name__ == "__main__":
    main(prog_name="python -m golden.quality.checkpoint")
