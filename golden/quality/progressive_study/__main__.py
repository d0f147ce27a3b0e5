"""Measure the variants: ``python -m golden.quality.progressive_study``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click
import torch
from rich.console import Console

from golden.model.weights import WEIGHTS
from golden.quality.progressive_study.document import document
from golden.quality.progressive_study.measure import Settings, measure
from golden.quality.progressive_study.variant import every_variant

REPOSITORY = Path(__file__).parents[3]
LABEL = "measured: float, on the trained model, teacher-forced; derived where named so"


@click.command()
@click.option(
    "--weights",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    default=WEIGHTS.with_name("lm4k.safetensors"),
    help="Of a model that reaches the context; those trained to 4096 tokens if not given.",
)
@click.option("--context", type=click.IntRange(512, 4096), default=4096)
@click.option("--seeds", type=click.IntRange(1), default=2, help="How many.")
@click.option("--publish", is_flag=True, help="Write results/progressive.json and docs/ too.")
def main(weights: Path, context: int, seeds: int, publish: bool) -> None:
    """Measure variants of the progressive format; an interrupted run goes on."""
    console = Console(highlight=False)
    settings = Settings(context=context, seeds=tuple(range(1, seeds + 1)))
    found = measure(every_variant(), settings, weights=weights, console=console)
    facts = {"label": LABEL, "torch": torch.__version__, "settings": asdict(settings), **found}
    build = REPOSITORY / "build" / "progressive_study"
    places = [(build / "progressive.json", build / "progressive_study.md")]
    if publish:
        results, docs = REPOSITORY / "results", REPOSITORY / "docs"
        places.append((results / "progressive.json", docs / "progressive_study.md"))
    for record, page in places:
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text(json.dumps(facts, indent=1) + "\n")
        page.write_text(document(facts))
        console.print(f"{record}, {page}")


if __name__ == "__main__":
    main()
