"""Runs the points: every task, context and seed, resumable; and what the figures say together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from safetensors import safe_open

from golden.model.architecture import LanguageModel
from golden.model.corpus import held_out_tokens
from golden.model.weights import WEIGHTS, load_model, weights_sha256
from golden.quality.decode import Traffic
from golden.quality.evaluate import Figures, Prompt
from golden.quality.points import Point
from golden.quality.store import Store, digest
from golden.quality.tasks import TASKS, make_batch

__all__ = ["Settings", "interval", "load_models", "run"]

#: Sequences of the bootstrap, and the share that the interval holds.
RESAMPLES = 2000
CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is asked of every point.

    Members
    -------
    tasks : names of `TASKS`.
    contexts : tokens of a sequence.
    seeds : each draws its own sequences.
    sequences : per task, context and seed; the needle, with one answer each, gets twice as many.
    """

    tasks: tuple[str, ...] = tuple(TASKS)
    contexts: tuple[int, ...] = (2048,)
    seeds: tuple[int, ...] = (1, 2, 3)
    sequences: int = 4

    def batches(self) -> list[dict[str, Any]]:
        """Arguments of ``make_batch``."""
        return [
            {
                "task": task,
                "length": length,
                "sequences": self.sequences * (2 if task == "needle" else 1),
                "seed": seed,
            }
            for task in self.tasks
            for length in self.contexts
            for seed in self.seeds
        ]


def load_models(weights: Path = WEIGHTS) -> dict[bool, LanguageModel]:
    """The trained model (True) and the same before training (False)."""
    trained = load_model(weights)
    with safe_open(weights, framework="pt") as file:
        seed = int((file.metadata() or {}).get("seed", 0))
    return {True: trained, False: LanguageModel(trained.config, seed=seed).eval()}


def interval(scores: Sequence[float]) -> tuple[float, float, float]:
    """Mean, and its bootstrap interval over the sequences (percentiles, always the same draws)."""
    values = np.asarray(scores, dtype=np.float64)
    drawn = np.random.default_rng(0).choice(values, (RESAMPLES, len(values)))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(drawn.mean(-1), (tail, 1 - tail))
    return float(values.mean()), float(low), float(high)


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
        A dictionary per (point, task, context): ``method``, ``label``, ``parameters``, ``paper``,
        ``dense_layers``, ``trained``, ``task``, ``context``, ``scores`` (one per sequence),
        ``mean``, ``low``, ``high``, the same of the ``difference`` to FP16 on the same sequences
        (None without FP16 among the points), ``traffic`` (bytes, all layers and steps) and
        ``share`` of FP16's bytes.
    """
    store = store or Store()
    sha = weights_sha256(weights)
    models = load_models(weights)
    text = held_out_tokens()
    figures: dict[tuple[Point, str, int], list[Figures]] = {}
    batches = settings.batches()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console or Console(stderr=True)) as progress:
        bar = progress.add_task("", total=len(points) * len(batches))
        for batch in batches:
            prompts: dict[bool, Prompt] = {}
            for point in points:
                where = f"{batch['task']} {batch['length']}, seed {batch['seed']}"
                progress.update(bar, description=f"{where}: {point.label}")
                key = digest(point, sha, **batch)
                found = store.get(key)
                if found is None:
                    if point.trained not in prompts:
                        arguments = dict(batch)
                        made = make_batch(arguments.pop("task"), text, **arguments)
                        prompts[point.trained] = Prompt(models[point.trained], made)
                    prompt = prompts[point.trained]
                    found = prompt.evaluate(point.method, dense_layers=point.dense_layers)
                    store.put(key, found)
                figures.setdefault((point, batch["task"], batch["length"]), []).append(found)
                progress.advance(bar)
    return [
        _summary(point, task, length, found, _dense(figures, point, task, length))
        for (point, task, length), found in figures.items()
    ]


def _dense(
    figures: dict[tuple[Point, str, int], list[Figures]], point: Point, task: str, length: int
) -> list[Figures] | None:
    """Figures of FP16 in the same model."""
    for (other, other_task, other_length), found in figures.items():
        same = (other_task, other_length, other.trained) == (task, length, point.trained)
        if same and other.method.name == "FP16":
            return found
    return None


def _summary(
    point: Point, task: str, length: int, found: list[Figures], dense: list[Figures] | None
) -> dict[str, Any]:
    scores = [score for item in found for score in item.scores]
    mean, low, high = interval(scores)
    difference = None
    if dense is not None:
        reference = [score for item in dense for score in item.scores]
        names = ("mean", "low", "high")
        gaps = [x - y for x, y in zip(scores, reference, strict=True)]
        difference = dict(zip(names, interval(gaps), strict=True))
    traffic = Traffic()
    for item in found:
        traffic.add(item.traffic)
    return {
        "method": point.method.name,
        "label": point.label,
        "parameters": point.method.parameters,
        "paper": point.method.paper,
        "dense_layers": point.dense_layers,
        "trained": point.trained,
        "control": point.is_control,
        "task": task,
        "context": length,
        "scores": [round(score, 5) for score in scores],
        "mean": mean,
        "low": low,
        "high": high,
        "difference": difference,
        "traffic": {"read": traffic.read, "written": traffic.written, "fp16": traffic.fp16},
        "share": traffic.share,
    }
