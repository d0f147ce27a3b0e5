"""Measure the variants: ``python -m golden.quality.progressive_study``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
import torch
from rich.console import Console

from golden.model.architecture import LayerTensors
from golden.model.corpus import held_out_tokens
from golden.model.weights import WEIGHTS, load_model
from golden.quality.interface import Prefill
from golden.quality.progressive_entropy import entropies
from golden.quality.progressive_study.document import document
from golden.quality.progressive_study.measure import Settings, measure
from golden.quality.progressive_study.variant import DEFAULT, Variant, every_variant
from golden.quality.tasks import make_batch

REPOSITORY = Path(__file__).parents[3]
LABEL = "measured: float, on the trained model, teacher-forced; derived where named so"
#: Settings worth more sequences: what copy and recall lose there is near the noise of the study.
CONFIRMED = (
    DEFAULT,
    replace(DEFAULT, top=384),
    replace(DEFAULT, top=448),
    replace(DEFAULT, part=2),
    replace(DEFAULT, top=384, reach=8),
    replace(DEFAULT, part=8, plane_bits=2),
    replace(DEFAULT, part=8, plane_bits=2, top=384),
)


def run(
    variants: Sequence[Variant], weights: Path, context: int, seeds: int, console: Console
) -> dict[str, Any]:
    """The facts of the page: the study on ``seeds`` seeds, `CONFIRMED` on one more."""
    settings = Settings(context=context, seeds=tuple(range(1, seeds + 1)))
    more = replace(settings, seeds=tuple(range(1, seeds + 2)), copy=2 * settings.copy)
    study = measure(variants, settings, weights=weights, console=console)
    confirmed = measure(CONFIRMED, more, weights=weights, console=console)
    return {
        "label": LABEL,
        "torch": torch.__version__,
        "study": {"settings": asdict(settings), **study},
        "confirmed": {"settings": asdict(more), **confirmed},
        "entropy": _entropy(weights, context),
    }


def _entropy(weights: Path, context: int) -> dict[str, float]:
    """Of the codes of the first batch of text."""
    batch = make_batch("text", held_out_tokens(), length=context, sequences=2, seed=1)
    model, captured = load_model(weights), dict[int, LayerTensors]()
    with torch.no_grad():
        model(batch.tokens, captured=captured)
    groups = model.config.kv_heads
    return entropies(
        {
            layer: Prefill(
                query=tensors.query.unflatten(1, (groups, -1)),
                key=tensors.key,
                value=tensors.value,
            )
            for layer, tensors in captured.items()
        }
    )


def write(facts: dict[str, Any], record: Path, page: Path) -> None:
    """The JSON and the page made from it."""
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(json.dumps(facts, indent=1) + "\n")
    page.write_text(document(facts))


@click.command()
@click.option(
    "--weights",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    default=WEIGHTS.with_name("lm4k.safetensors"),
    help="Of a model that reaches the context; those trained to 4096 tokens if not given.",
)
@click.option("--context", type=click.IntRange(512, 4096), default=4096)
@click.option("--seeds", type=click.IntRange(1), default=1, help="Of the study; 1 if not given.")
@click.option("--publish", is_flag=True, help="Write results/progressive.json and docs/ too.")
def main(weights: Path, context: int, seeds: int, publish: bool) -> None:
    """Measure variants of the progressive format; an interrupted run goes on."""
    console = Console(highlight=False)
    facts = run(every_variant(), weights, context, seeds, console)
    build = REPOSITORY / "build" / "progressive_study"
    places = [(build / "progressive.json", build / "progressive_study.md")]
    if publish:
        results, docs = REPOSITORY / "results", REPOSITORY / "docs"
        places.append((results / "progressive.json", docs / "progressive_study.md"))
    for record, page in places:
        write(facts, record, page)
        console.print(f"{record}, {page}")


if __name__ == "__main__":
    main()
