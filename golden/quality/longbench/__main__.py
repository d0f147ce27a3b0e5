"""LongBench on a local checkpoint: ``python -m golden.quality.longbench CHECKPOINT DATA``."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import click
import torch
from rich.console import Console

from golden.checkpoint.files import CheckpointError
from golden.quality.checkpoint.lab import environment
from golden.quality.checkpoint.load import DTYPES, load
from golden.quality.choose import chosen_points
from golden.quality.longbench.datasets import DATASETS
from golden.quality.longbench.lab import Outcome, Settings, run
from golden.quality.longbench.prompt import default_length
from golden.quality.longbench.report import console_table, markdown_table
from golden.quality.longbench.samples import LongBenchError
from golden.quality.optional import MissingPackage

LABEL = "measured: float methods on a checkpoint of one's own, LongBench"
OUTPUT = Path(__file__).parents[3] / "build" / "quality" / "longbench"
_LANGUAGES = {"en": "English and code", "zh": "Chinese"}


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.argument("data", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option(
    "--method",
    "methods",
    multiple=True,
    metavar="NAME[:PARAMETER=VALUE,...]",
    help="Beside FP16; KVO as published if not given.",
)
@click.option("--dataset", "datasets", multiple=True, type=click.Choice(list(DATASETS)))
@click.option("--language", type=click.Choice(list(_LANGUAGES)), help="Only its datasets.")
@click.option("--max-length", type=click.IntRange(2), help="Tokens that a prompt is cut to.")
@click.option("--chat", is_flag=True, help="Use the checkpoint's chat format.")
@click.option("--limit", type=click.IntRange(1), help="Samples of each dataset; all.")
@click.option("--dense-layers", type=click.IntRange(0), default=0, help="Of a method, in FP16.")
@click.option("--dtype", type=click.Choice(list(DTYPES)), help="Of the model.")
@click.option("--output", type=click.Path(path_type=Path, file_okay=False), default=OUTPUT)
def main(
    checkpoint: Path,
    data: Path,
    methods: tuple[str, ...],
    datasets: tuple[str, ...],
    language: str | None,
    max_length: int | None,
    chat: bool,
    limit: int | None,
    dense_layers: int,
    dtype: str | None,
    output: Path,
) -> None:
    """Run LongBench's files in DATA on the Llama in CHECKPOINT; an interrupted run goes on.

    Writes longbench.json and longbench.md into the output directory, and the answers in the
    benchmark's own format into a directory per method.
    """
    names = datasets or tuple(DATASETS)
    if language is not None:
        names = tuple(name for name in names if DATASETS[name].language == language)
    try:
        points = chosen_points(methods or ("KVO",), dense_layers=dense_layers)
        model = load(checkpoint, dtype=dtype)
        settings = Settings(
            data=data,
            datasets=names,
            max_length=default_length(model) if max_length is None else max_length,
            chat=chat,
            limit=limit,
        )
        console = Console(highlight=False)
        found = run(model, points, settings, console=console)
    except (CheckpointError, LongBenchError, MissingPackage, ValueError) as error:
        raise click.ClickException(str(error)) from error
    console.print(console_table(found.rows))
    facts = {
        "label": LABEL,
        "checkpoint": str(checkpoint),
        "checkpoint_sha256": model.sha256,
        **environment(model),
        "torch": torch.__version__,
        "max_length": settings.max_length,
        "chat": chat,
        "limit": limit,
        "rows": found.rows,
    }
    _write(output, facts, found)
    click.echo(f"{output / 'longbench.json'}, longbench.md, and the answers by method")


def _write(output: Path, facts: dict[str, Any], found: Outcome) -> None:
    output.mkdir(parents=True, exist_ok=True)
    (output / "longbench.json").write_text(json.dumps(facts, indent=1) + "\n")
    (output / "longbench.md").write_text(markdown_table(found.rows))
    for (label, dataset), records in found.answers.items():
        folder = output / re.sub(r"[^\w.-]+", "-", label)
        folder.mkdir(exist_ok=True)
        text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        (folder / f"{dataset}.jsonl").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(prog_name="python -m golden.quality.longbench")
