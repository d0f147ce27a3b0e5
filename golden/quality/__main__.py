"""Measure cache methods on the trained model: ``python -m golden.quality``."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import click
import torch
from rich.console import Console

from golden.model.weights import MODELS, load_model, weights_sha256
from golden.quality.document import document
from golden.quality.generate import GENERATIONS, Generation
from golden.quality.lab import Settings, run
from golden.quality.picture import draw
from golden.quality.points import BUDGETED, FIXED, Probe, quick_points, sweep_points
from golden.quality.table import console_tables
from golden.quality.tasks import TASKS

REPOSITORY = Path(__file__).parents[2]
LABEL = "measured: float methods on the trained model"
#: Contexts of a sweep, up to what the model was trained for.
CONTEXTS = (512, 1024, 2048, 4096)
#: One model for every context, so that contexts differ by nothing else.
MODEL = "lm4k"
FULL = Settings(seeds=(1, 2, 3, 4, 5), sequences=8)


@click.command()
@click.option("--sweep", is_flag=True, help="Every context; other budgets and whole layers.")
@click.option("--full", is_flag=True, help="Other budgets at every context, five seeds: hours.")
@click.option(
    "--model",
    type=click.Choice(sorted(MODELS)),
    default=MODEL,
    show_default=True,
    help="lm was trained to 2048 tokens and is the one that the hardware's tests use.",
)
@click.option("--method", "methods", multiple=True, metavar="NAME", help="Only these, and FP16.")
@click.option("--task", "tasks", multiple=True, type=click.Choice(sorted(TASKS)))
@click.option("--context", "contexts", multiple=True, type=click.IntRange(256, 4096))
@click.option("--seeds", type=click.IntRange(1), help="How many; 3, or 5 with --full.")
@click.option("--sequences", type=click.IntRange(1), help="Per task and seed; 4, or 8 with --full.")
@click.option(
    "--generation",
    "generations",
    multiple=True,
    type=click.Choice(GENERATIONS),
    help="How answers are scored; teacher-forced if not given.",
)
@click.option("--publish", is_flag=True, help="Write results/quality.json and docs/quality.* too.")
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=REPOSITORY / "build" / "quality",
    help="Directory for quality.json, .md and .svg; build/quality if not given.",
)
def main(
    sweep: bool,
    full: bool,
    model: str,
    methods: tuple[str, ...],
    tasks: tuple[str, ...],
    contexts: tuple[int, ...],
    seeds: int | None,
    sequences: int | None,
    generations: tuple[Generation, ...],
    publish: bool,
    output: Path,
) -> None:
    """Measure quality and traffic; write JSON, tables and a picture. An interrupted run goes on."""
    base = FULL if full else Settings()
    chosen = MODELS[model]
    if contexts and max(contexts) > chosen.context:
        listed = f"at most {chosen.context} with {model}, not {max(contexts)}"
        raise click.BadParameter(f"must be {listed}", param_hint="--context")
    swept = tuple(context for context in CONTEXTS if context <= chosen.context)
    settings = Settings(
        tasks=tasks or base.tasks,
        contexts=contexts or (swept if full or sweep else base.contexts),
        seeds=tuple(range(1, seeds + 1)) if seeds else base.seeds,
        sequences=sequences or base.sequences,
        generations=generations or base.generations,
    )
    known = sorted({method.name for method in (*BUDGETED, *FIXED)})
    unknown = sorted(set(methods) - set(known))
    if unknown:
        listed = f"one of {', '.join(known)}, not {unknown[0]}"
        raise click.BadParameter(f"must be {listed}", param_hint="--method")
    console = Console(highlight=False)
    trained = load_model(chosen.path)
    rows = []
    longest = max(settings.contexts)
    for context in sorted(settings.contexts, reverse=True):
        with console.status(f"settings of equal traffic at {context} tokens"):
            probe = Probe.of_model(trained, context)
            budgets = full or (sweep and context == longest)
            points = (sweep_points if budgets else quick_points)(probe)
        if methods:
            points = [point for point in points if point.method.name in {*methods, "FP16"}]
        here = replace(settings, contexts=(context,))
        rows += run(points, here, weights=chosen.path, console=console)
    facts = {
        "label": LABEL,
        "command": _command(click.get_current_context()),
        "torch": torch.__version__,
        "model": {"name": model, "context": chosen.context},
        "weights_sha256": weights_sha256(chosen.path),
        "settings": asdict(settings),
        "rows": rows,
    }
    for table in console_tables(rows):
        console.print(table)
    places = [(output / "quality.json", output)]
    if publish:
        places.append((REPOSITORY / "results" / "quality.json", REPOSITORY / "docs"))
    for record, directory in places:
        for folder in (record.parent, directory):
            folder.mkdir(parents=True, exist_ok=True)
        record.write_text(json.dumps(facts, indent=1) + "\n")
        (directory / "quality.md").write_text(document(facts))
        draw(rows, directory / "quality.svg")
        console.print(f"{record}, {directory / 'quality.md'}, quality.svg")


def _command(context: click.Context) -> str:
    """The make command that measures the same again."""
    words: list[str] = []
    for parameter in context.command.params:
        given = context.params.get(str(parameter.name))
        is_default = not given or given == parameter.default
        if parameter.name in ("publish", "output") or is_default:
            continue
        for value in given if isinstance(given, tuple) else (given,):
            words += [parameter.opts[0]] if value is True else [parameter.opts[0], str(value)]
    if not words:
        return "make quality"
    arguments = " ".join(words)
    return f'make quality ARGS="{arguments}"'


if __name__ == "__main__":
    main()
