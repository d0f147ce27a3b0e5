"""Runs points on a checkpoint: every task, context, way to answer and seed, resumable."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from golden.checkpoint.files import CheckpointError
from golden.model.corpus import held_out_text
from golden.quality.checkpoint.load import Checkpoint, load
from golden.quality.checkpoint.score import Prompts, perplexity
from golden.quality.checkpoint.session import Prefilled
from golden.quality.checkpoint.tasks import TASKS, Sample, Text, make_samples
from golden.quality.evaluate import Figures
from golden.quality.generate import Generation
from golden.quality.optional import optional
from golden.quality.points import Point, Probe, quick_points
from golden.quality.rows import Measure, progress_bar, summaries
from golden.quality.store import Store, digest

__all__ = ["Settings", "default_points", "environment", "held_out", "run"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is asked of every point.

    Members
    -------
    tasks : of `TASKS`.
    contexts : tokens of a sequence.
    seeds : each draws its own sequences.
    sequences : per task, context and seed; the needle, with one answer each, gets twice as many.
    generations : ways to answer; text is always teacher-forced.
    text : to be predicted, and to fill the other tasks; by default held-out text of this project.
    """

    tasks: tuple[str, ...] = TASKS
    contexts: tuple[int, ...] = (2048,)
    seeds: tuple[int, ...] = (1, 2, 3)
    sequences: int = 4
    generations: tuple[Generation, ...] = ("free",)
    text: str | None = None

    def batches(self) -> list[tuple[Measure, int, int]]:
        """Measure, seed and number of sequences."""
        forced: tuple[Generation, ...] = ("teacher-forced",)
        return [
            (
                Measure(task, context, generation),
                seed,
                self.sequences * (2 if task == "needle" else 1),
            )
            for task in self.tasks
            for context in self.contexts
            for generation in (forced if task == "text" else self.generations)
            for seed in self.seeds
        ]


def held_out() -> str:
    """Text that ``Settings.text`` is by default: manuals and modules of Python."""
    return "\n".join(part.decode() for part in held_out_text().values())


@cache
def _sources() -> str:
    """Hash of the modules that decide a figure, beside those that `digest` knows."""
    here = Path(__file__).parent
    files = [*sorted(here.glob("*.py")), here.parent / "hugging_face.py"]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def environment(checkpoint: Checkpoint) -> dict[str, str]:
    """What decides a figure beside the method, the weights and the question."""
    return {
        "dtype": str(checkpoint.model.dtype).removeprefix("torch."),
        "device": checkpoint.device.type,
        "transformers": optional("transformers").__version__,
    }


def default_points(checkpoint: Checkpoint, context: int, text: str | None = None) -> list[Point]:
    """`quick_points` at the traffic of KVO in this checkpoint's heads, where a method can run.

    Raises
    ------
    CheckpointError
        KVO is not defined for heads of this shape.
    """
    # Here, as the module needs the optional extra.
    from golden.quality.hugging_face import moves_wrongly

    ids = Text(checkpoint, held_out() if text is None else text)
    filler = ids.filler(np.random.default_rng(0), context - len(checkpoint.start))
    layers = int(checkpoint.model.config.num_hidden_layers)
    prompt = Prefilled(checkpoint, [*checkpoint.start, *filler]).layer(min(1, layers - 1))
    try:
        points = quick_points(
            Probe(prompt.query, prompt.key, prompt.value, rope_theta=prompt.rope_theta)
        )
    except ValueError as error:
        raise CheckpointError(f"methods must be named for these heads: {error}") from error
    return [
        point
        for point in points
        if point.trained
        and point.dense_layers < layers
        and all(point.method.producer(layer) == layer for layer in range(layers))
        and not moves_wrongly(point.method, checkpoint.model.config)
    ]


def run(
    checkpoint: Checkpoint,
    points: Sequence[Point],
    settings: Settings,
    *,
    store: Store | None = None,
    console: Console | None = None,
) -> list[dict[str, Any]]:
    """Measure what the store does not have, and summarise every point and measure.

    Points with ``trained=False`` run on random weights of the same shape.

    Returns
    -------
    list
        The rows of `summaries`; those of text have ``perplexity`` (per token) too.

    Raises
    ------
    CheckpointError
        A task or a context is illegal, or the text is too short.
    """
    store = store or Store()
    whole = held_out() if settings.text is None else settings.text
    text = Text(checkpoint, whole)
    facts = {
        **environment(checkpoint),
        "text": hashlib.sha256(whole.encode()).hexdigest(),
        "checkpoint_sources": _sources(),
    }
    figures: dict[tuple[Point, Measure], list[Figures]] = {}
    asked: dict[Measure, list[Sample]] = {}
    batches = settings.batches()
    controls: list[Checkpoint] = []
    with progress_bar(console) as progress:
        bar = progress.add_task("", total=len(points) * sum(count for *_, count in batches))
        for measure, seed, count in batches:
            samples = make_samples(
                checkpoint, text, measure.task, length=measure.context, sequences=count, seed=seed
            )
            asked.setdefault(measure, []).extend(samples)
            prompts = {True: Prompts(checkpoint, samples)}
            for index in range(count):
                for point in points:
                    where = f"{measure.label} {measure.context}, seed {seed}"
                    progress.update(bar, description=f"{where}: {point.label}")
                    question = {**measure._asdict(), "seed": seed, "index": [index, count]}
                    key = digest(point, checkpoint.sha256, **facts, **question)
                    found = store.get(key)
                    if found is None:
                        if point.trained not in prompts:
                            controls = controls or [_untrained(checkpoint)]
                            prompts[False] = Prompts(controls[0], samples)
                        found = prompts[point.trained].evaluate(
                            index,
                            point.method,
                            dense_layers=point.dense_layers,
                            generation=measure.generation,
                        )
                        store.put(key, found)
                    figures.setdefault((point, measure), []).append(found)
                    progress.advance(bar)
    rows = summaries(figures)
    for row, (point, measure) in zip(rows, figures, strict=True):
        if measure.task == "text":
            scores = [score for item in figures[point, measure] for score in item.scores]
            row["perplexity"] = perplexity(asked[measure], scores)
    return rows


def _untrained(checkpoint: Checkpoint) -> Checkpoint:
    other = load(
        checkpoint.directory,
        dtype=environment(checkpoint)["dtype"],
        device=checkpoint.device,
        trained=False,
    )
    return replace(other, tokenizer=checkpoint.tokenizer)
