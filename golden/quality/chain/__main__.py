"""Measure the trained model on the hardware's twin: ``python -m golden.quality.chain``."""

from __future__ import annotations

import json
from pathlib import Path

import click
from rich.console import Console

from golden.model.weights import MODELS
from golden.quality.chain.document import (
    agreement_rows,
    document,
    gap_rows,
    markdown_table,
    score_rows,
)
from golden.quality.chain.measure import Settings, measure
from golden.quality.tasks import TASKS

REPOSITORY = Path(__file__).parents[3]
RESULT = REPOSITORY / "results" / "chain.json"
DOCUMENT = REPOSITORY / "docs" / "chain.md"
BASE = Settings()


@click.command()
@click.option("--model", type=click.Choice(sorted(MODELS)), default=BASE.model, show_default=True)
@click.option("--context", type=click.IntRange(256, 2048), default=BASE.context, show_default=True)
@click.option("--task", "tasks", multiple=True, type=click.Choice(sorted(TASKS)))
@click.option("--seeds", type=click.IntRange(1), default=len(BASE.seeds), show_default=True)
@click.option(
    "--sequences",
    type=click.IntRange(1),
    default=BASE.sequences,
    show_default=True,
    help="Per task and seed; one takes some ten seconds.",
)
@click.option("--publish", is_flag=True, help="Keep the figures in results/ and docs/.")
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=REPOSITORY / "build" / "quality" / "chain",
    help="Directory for chain.json and .md; build/quality/chain if not given.",
)
def main(
    model: str,
    context: int,
    tasks: tuple[str, ...],
    seeds: int,
    sequences: int,
    publish: bool,
    output: Path,
) -> None:
    """Perplexity, copy and recall with every layer on the twin; an interrupted run goes on."""
    settings = Settings(
        model=model,
        context=context,
        tasks=tasks or BASE.tasks,
        seeds=tuple(range(1, seeds + 1)),
        sequences=sequences,
    )
    console = Console(highlight=False)
    facts = {"command": _command(settings), **measure(settings, console=console)}
    for title, rows in (
        ("Quality", score_rows(facts)),
        ("The twin less the float methods", gap_rows(facts)),
        ("Step by step", agreement_rows(facts)),
    ):
        console.print(f"[bold]{title}[/]")
        console.print(markdown_table(rows), soft_wrap=True)
    places = [(output / RESULT.name, output / DOCUMENT.name)]
    if publish:
        places.append((RESULT, DOCUMENT))
    for record, page in places:
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text(json.dumps(facts, indent=1) + "\n")
        page.write_text(document(facts))
        console.print(f"{record}, {page.name}")


def _command(settings: Settings) -> str:
    """What measures the same again and publishes it."""
    words = ["python -m golden.quality.chain"]
    for option, value, usual in (
        ("model", settings.model, BASE.model),
        ("context", settings.context, BASE.context),
        ("seeds", len(settings.seeds), len(BASE.seeds)),
        ("sequences", settings.sequences, BASE.sequences),
    ):
        if value != usual:
            words.append(f"--{option} {value}")
    if settings.tasks != BASE.tasks:
        words += [f"--task {task}" for task in settings.tasks]
    return " ".join([*words, "--publish"])


if __name__ == "__main__":
    main()
