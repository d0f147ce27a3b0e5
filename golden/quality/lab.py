"""Runs the points: every task, context and seed, resumable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from safetensors import safe_open

from golden.model.architecture import LanguageModel
from golden.model.corpus import held_out_tokens
from golden.model.weights import WEIGHTS, load_model, weights_sha256
from golden.quality.evaluate import Figures, Prompt
from golden.quality.generate import Generation
from golden.quality.points import Point
from golden.quality.rows import Measure, progress_bar, summaries
from golden.quality.store import Store, digest
from golden.quality.tasks import TASKS, make_batch

__all__ = ["Settings", "load_models", "run"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is asked of every point.

    Members
    -------
    tasks : names of `TASKS`.
    contexts : tokens of a sequence.
    seeds : each draws its own sequences.
    sequences : per task, context and seed; the needle, with one answer each, gets twice as many.
    generations : of `GENERATIONS`; text is always teacher-forced.
    """

    tasks: tuple[str, ...] = tuple(TASKS)
    contexts: tuple[int, ...] = (2048,)
    seeds: tuple[int, ...] = (1, 2, 3)
    sequences: int = 4
    generations: tuple[Generation, ...] = ("teacher-forced",)

    def batches(self) -> list[dict[str, Any]]:
        """Arguments of ``make_batch``, and ``generation``."""
        return [
            {
                "task": task,
                "length": length,
                "sequences": self.sequences * (2 if task == "needle" else 1),
                "seed": seed,
                "generation": generation,
            }
            for task in self.tasks
            for length in self.contexts
            for seed in self.seeds
            for generation in (self.generations if TASKS[task].unit else ("teacher-forced",))
        ]


def load_models(weights: Path = WEIGHTS) -> dict[bool, LanguageModel]:
    """The trained model (True) and the same before training (False)."""
    trained = load_model(weights)
    with safe_open(weights, framework="pt") as file:
        seed = int((file.metadata() or {}).get("seed", 0))
    return {True: trained, False: LanguageModel(trained.config, seed=seed).eval()}


def run(
    points: Sequence[Point],
    settings: Settings,
    *,
    weights: Path = WEIGHTS,
    store: Store | None = None,
    console: Console | None = None,
) -> list[dict[str, Any]]:
    """Measure what the store does not have, and summarise every point, task and context.

    Returns
    -------
    list
        The rows of `summaries`.
    """
    store = store or Store()
    sha = weights_sha256(weights)
    models = load_models(weights)
    text = held_out_tokens()
    figures: dict[tuple[Point, Measure], list[Figures]] = {}
    batches = settings.batches()
    with progress_bar(console) as progress:
        bar = progress.add_task("", total=len(points) * len(batches))
        prompts: dict[bool, Prompt] = {}
        attended: dict[str, Any] = {}
        for batch in batches:
            arguments = {name: value for name, value in batch.items() if name != "generation"}
            # Both ways to answer go on from the same prompts.
            if arguments != attended:
                prompts, attended = {}, arguments
            for point in points:
                measure = Measure(batch["task"], batch["length"], batch["generation"])
                where = f"{measure.label} {batch['length']}, seed {batch['seed']}"
                progress.update(bar, description=f"{where}: {point.label}")
                key = digest(point, sha, **batch)
                found = store.get(key)
                if found is None:
                    if point.trained not in prompts:
                        made = make_batch(text=text, **arguments)
                        prompts[point.trained] = Prompt(models[point.trained], made)
                    found = prompts[point.trained].evaluate(
                        point.method,
                        dense_layers=point.dense_layers,
                        generation=measure.generation,
                    )
                    store.put(key, found)
                figures.setdefault((point, measure), []).append(found)
                progress.advance(bar)
    return summaries(figures)
