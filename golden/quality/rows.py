"""What the figures of several runs say together: one row per point and measure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from golden.quality.decode import Traffic
from golden.quality.evaluate import Figures
from golden.quality.generate import Generation
from golden.quality.points import Point

__all__ = ["Measure", "interval", "measure_of", "progress_bar", "summaries"]

#: Sequences of the bootstrap, and the share that the interval holds.
RESAMPLES = 2000
CONFIDENCE = 0.95


class Measure(NamedTuple):
    """What is asked, at which context, and how it is answered."""

    task: str
    #: Tokens of a sequence.
    context: int
    generation: Generation = "teacher-forced"

    @property
    def label(self) -> str:
        """Task, and ``free`` where the answers were."""
        return f"{self.task}, free" if self.generation == "free" else self.task


def measure_of(row: Mapping[str, Any]) -> Measure:
    """The measure of a row; rows without ``generation`` are teacher-forced."""
    return Measure(row["task"], row["context"], row.get("generation", "teacher-forced"))


def interval(scores: Sequence[float]) -> tuple[float, float, float]:
    """Mean, and its bootstrap interval over the sequences (percentiles, always the same draws)."""
    values = np.asarray(scores, dtype=np.float64)
    drawn = np.random.default_rng(0).choice(values, (RESAMPLES, len(values)))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(drawn.mean(-1), (tail, 1 - tail))
    return float(values.mean()), float(low), float(high)


def progress_bar(console: Console | None = None) -> Progress:
    """A bar with a description, a count and the time; on the standard error if not told."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=console or Console(stderr=True))


def summaries(figures: Mapping[tuple[Point, Measure], list[Figures]]) -> list[dict[str, Any]]:
    """A row per point and measure.

    Returns
    -------
    list
        Dictionaries with ``method``, ``label``, ``parameters``, ``paper``, ``dense_layers``,
        ``trained``, ``control``, ``task``, ``generation``, ``context``, ``scores`` (one per
        sequence), ``mean``, ``low``, ``high``, the same of the ``difference`` to FP16 on the same
        sequences (None without FP16 among the points), ``traffic`` (bytes, all layers and steps)
        and ``share`` of FP16's bytes.
    """
    dense = {
        (point.trained, measure): found
        for (point, measure), found in figures.items()
        if point.method.name == "FP16"
    }
    return [
        _summary(point, measure, found, dense.get((point.trained, measure)))
        for (point, measure), found in figures.items()
    ]


def _summary(
    point: Point, measure: Measure, found: list[Figures], dense: list[Figures] | None
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
        "task": measure.task,
        "generation": measure.generation,
        "context": measure.context,
        "scores": [round(score, 5) for score in scores],
        "mean": mean,
        "low": low,
        "high": high,
        "difference": difference,
        "traffic": {"read": traffic.read, "written": traffic.written, "fp16": traffic.fp16},
        "share": traffic.share,
    }
