"""The benchmark's files: ``<dataset>.jsonl``, a sample to a line."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from golden.quality.longbench.datasets import DATASETS

__all__ = ["LongBenchError", "Sample", "read_samples"]


class LongBenchError(ValueError):
    """A file or a field is refused; the message says where and what is legal."""


@dataclass(frozen=True)
class Sample:
    """One question.

    Members
    -------
    dataset : its name.
    identity : ``_id``.
    context, input : fields of the prompt.
    answers : right answers, at least one; the best match counts.
    classes : ``all_classes``; empty where nothing is classified.
    length : of the sample in words or characters, as the benchmark gives it.
    """

    dataset: str
    identity: str
    context: str
    input: str
    answers: tuple[str, ...]
    classes: tuple[str, ...]
    length: int

    @property
    def prompt(self) -> str:
        """The text that the model continues."""
        return DATASETS[self.dataset].prompt.format(context=self.context, input=self.input)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


#: Field, what it must be, and the test of that.
_FIELDS = (
    ("_id", "a string", _is_text),
    ("context", "a string", _is_text),
    ("input", "a string", _is_text),
    ("answers", "a list of at least one string", lambda x: _are_texts(x) and bool(x)),
    ("all_classes", "a list of strings or null", lambda x: x is None or _are_texts(x)),
    ("length", "an integer", lambda x: isinstance(x, int) and not isinstance(x, bool)),
    ("dataset", "a string", _is_text),
    ("language", "a string", _is_text),
)


def _sample(content: Any, dataset: str, where: str) -> Sample:
    if not isinstance(content, dict):
        raise LongBenchError(f"{where}: must be an object, not {type(content).__name__}")
    for name, kind, is_legal in _FIELDS:
        if name not in content:
            raise LongBenchError(f"{where}: {name} is missing")
        if not is_legal(content[name]):
            raise LongBenchError(f"{where}: {name} must be {kind}, not {content[name]!r:.60}")
    if content["dataset"] != dataset:
        raise LongBenchError(f"{where}: dataset must be {dataset!r}, not {content['dataset']!r}")
    classes = tuple(content["all_classes"] or ())
    if DATASETS[dataset].metric == "classification" and not classes:
        raise LongBenchError(f"{where}: all_classes must name the classes, not be empty")
    return Sample(
        dataset=dataset,
        identity=content["_id"],
        context=content["context"],
        input=content["input"],
        answers=tuple(content["answers"]),
        classes=classes,
        length=content["length"],
    )


def read_samples(directory: Path, dataset: str, *, limit: int | None = None) -> list[Sample]:
    """The samples of ``directory / <dataset>.jsonl``, the first ``limit`` of them.

    Raises
    ------
    LongBenchError
        There is no such dataset or file, a line is no sample, an ``_id`` comes twice, or there is
        no sample at all.
    """
    if dataset not in DATASETS:
        raise LongBenchError(f"dataset must be one of {', '.join(DATASETS)}, not {dataset!r}")
    path = directory / f"{dataset}.jsonl"
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise LongBenchError(f"{path}: cannot be read: {error}") from error
    found: dict[str, Sample] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            content = json.loads(line)
        except ValueError as error:
            raise LongBenchError(f"{where}: must be JSON: {error}") from error
        sample = _sample(content, dataset, where)
        if sample.identity in found:
            raise LongBenchError(f"{where}: _id must be new, not {sample.identity!r} again")
        found[sample.identity] = sample
        if len(found) == limit:
            break
    if not found:
        raise LongBenchError(f"{path}: must have at least one sample")
    return list(found.values())
