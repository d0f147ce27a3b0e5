"""Runs points on datasets: every sample is asked, answered freely and scored; resumable."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from rich.console import Console

from golden.quality.checkpoint.lab import environment
from golden.quality.checkpoint.load import Checkpoint
from golden.quality.checkpoint.session import Prefilled
from golden.quality.decode import Traffic
from golden.quality.evaluate import Figures
from golden.quality.longbench.datasets import DATASETS
from golden.quality.longbench.metrics import score
from golden.quality.longbench.prompt import default_length, prompt_tokens
from golden.quality.longbench.samples import LongBenchError, Sample, read_samples
from golden.quality.points import Point
from golden.quality.rows import Measure, progress_bar, summaries
from golden.quality.store import Records, digest
from golden.quality.table import line_name

__all__ = ["Outcome", "Settings", "run"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is asked of every point.

    Members
    -------
    data : directory of the benchmark's JSONL files.
    datasets : of `DATASETS`.
    max_length : tokens that a prompt is cut to; by default `default_length`.
    chat : whether the checkpoint's chat format is used where the benchmark does.
    limit : samples of each dataset, from the first; all by default.
    """

    data: Path
    datasets: tuple[str, ...] = tuple(DATASETS)
    max_length: int | None = None
    chat: bool = False
    limit: int | None = None


@dataclass(frozen=True)
class Outcome:
    """What a run found.

    Members
    -------
    rows : of `summaries`, one per point and dataset, with ``score`` (the benchmark's figure, 0 to
        100) and ``samples``.
    answers : by `line_name` of the point and dataset, the benchmark's prediction records: ``pred``,
        ``answers``, ``all_classes``, ``length`` and ``_id``.
    """

    rows: list[dict[str, Any]]
    answers: dict[tuple[str, str], list[dict[str, Any]]]


@cache
def _sources() -> str:
    """Hash of the modules that decide an answer, beside those that `digest` knows.

    Metrics are not among them: an answer is scored whenever it is read.
    """
    here = Path(__file__).parent
    files = [here / "prompt.py", here / "lab.py", here / "datasets.py"]
    files += [here.parent / name for name in ("hugging_face.py", "checkpoint/session.py")]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def _answer(
    checkpoint: Checkpoint, prefilled: Prefilled, sample: Sample, last: int, point: Point
) -> dict[str, Any]:
    """The record of one answer; ``last`` is the last token of the prompt."""
    dataset = DATASETS[sample.dataset]
    # The benchmark ends a one-line answer at the token of a line break.
    ends = checkpoint.encode("\n")[-1:] if dataset.one_line else []
    continuation = prefilled.decode(point.method, dense_layers=point.dense_layers)
    ids = continuation.generate(
        [last], limit=dataset.tokens, ends=ends, at_least=1 if dataset.one_line else 0
    )
    return {"prediction": checkpoint.decode(ids), "traffic": asdict(continuation.traffic)}


def run(
    checkpoint: Checkpoint,
    points: Sequence[Point],
    settings: Settings,
    *,
    records: Records | None = None,
    console: Console | None = None,
) -> Outcome:
    """Ask what the records do not have, and score all.

    The prompt but its last token is attended to exactly; that token and the answer are decoded with
    the method.

    Raises
    ------
    LongBenchError
        A dataset, a file or a field is refused; nothing has been asked then.
    """
    if not settings.datasets:
        raise LongBenchError("datasets must name at least one")
    if not all(point.trained for point in points):
        raise LongBenchError("points must be trained: the benchmark has no control of that kind")
    records = records or Records()
    length = default_length(checkpoint) if settings.max_length is None else settings.max_length
    samples = [
        sample
        for dataset in settings.datasets
        for sample in read_samples(settings.data, dataset, limit=settings.limit)
    ]
    facts = {**environment(checkpoint), "longbench_sources": _sources()}
    figures: dict[tuple[Point, Measure], list[Figures]] = {}
    answers: dict[tuple[str, str], list[dict[str, Any]]] = {}
    with progress_bar(console) as progress:
        bar = progress.add_task("", total=len(samples) * len(points))
        for sample in samples:
            ids = prompt_tokens(checkpoint, sample, max_length=length, chat=settings.chat)
            asked = hashlib.sha256(repr((sample.dataset, ids)).encode()).hexdigest()
            prefilled: Prefilled | None = None
            for point in points:
                progress.update(bar, description=f"{sample.dataset}: {point.label}")
                key = digest(point, checkpoint.sha256, **facts, asked=asked)
                record = records.read(key)
                if record is None:
                    prefilled = prefilled or Prefilled(checkpoint, ids[:-1])
                    record = _answer(checkpoint, prefilled, sample, ids[-1], point)
                    records.write(key, record)
                _keep(point, sample, record, length, figures, answers)
                progress.advance(bar)
    rows = summaries(figures)
    for row in rows:
        row["samples"] = len(row["scores"])
        row["score"] = round(100 * row["mean"], 2)
    return Outcome(rows, answers)


def _keep(
    point: Point,
    sample: Sample,
    record: dict[str, Any],
    length: int,
    figures: dict[tuple[Point, Measure], list[Figures]],
    answers: dict[tuple[str, str], list[dict[str, Any]]],
) -> None:
    """Score an answer and put it where it belongs."""
    traffic = Traffic(**record["traffic"])
    found = Figures([score(sample, record["prediction"])], traffic)
    measure = Measure(sample.dataset, length, "free")
    figures.setdefault((point, measure), []).append(found)
    name = line_name(point.label, point.dense_layers)
    answers.setdefault((name, sample.dataset), []).append(
        {
            "pred": record["prediction"],
            "answers": list(sample.answers),
            "all_classes": list(sample.classes) or None,
            "length": sample.length,
            "_id": sample.identity,
        }
    )
