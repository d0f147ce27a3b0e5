"""Figures already measured, one JSON file each, so that an interrupted run goes on where it was."""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import torch

import golden.model
import golden.reference
from golden.quality.decode import Traffic
from golden.quality.evaluate import Figures
from golden.quality.points import Point

__all__ = ["Store", "digest"]

#: Modules beside this one that decide the figures of every method.
_SHARED = ("decode", "evaluate", "interface", "storage", "tasks")
STORE = Path(__file__).parents[2] / "build" / "quality" / "store"


def _sources(method: type) -> list[Path]:
    """Files that decide a figure of ``method``.

    Its module, what that takes from others, and what all methods use.
    """
    used = {getattr(x, "__module__", None) for x in vars(sys.modules[method.__module__]).values()}
    names = {name for name in used if name and name.startswith(("golden.quality", "hw."))}
    files = {Path(str(sys.modules[name].__file__)) for name in names}
    files.add(Path(inspect.getfile(method)))
    files |= {Path(__file__).with_name(f"{name}.py") for name in _SHARED}
    reference = Path(inspect.getfile(golden.reference)).parent
    model = Path(inspect.getfile(golden.model)).parent
    files |= set(reference.glob("*.py")) | set((model / "data").glob("*.txt"))
    files |= {model / name for name in ("architecture.py", "metrics.py", "tasks.py", "corpus.py")}
    return sorted(files)


@cache
def _sources_digest(method: type) -> str:
    whole = hashlib.sha256()
    for path in _sources(method):
        whole.update(hashlib.sha256(path.read_bytes()).digest())
    return whole.hexdigest()


def digest(point: Point, weights: str, **batch: Any) -> str:
    """Hexadecimal hash of all that decides a figure.

    Parameters
    ----------
    weights
        SHA-256 of the weights file.
    batch
        Arguments of ``make_batch``.
    """
    facts = {
        "method": point.method.name,
        "parameters": point.method.parameters,
        "dense_layers": point.dense_layers,
        "trained": point.trained,
        "weights": weights,
        "batch": batch,
        "torch": torch.__version__,
        "sources": _sources_digest(type(point.method)),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


class Store:
    """Figures by digest, in a directory that is made when first written to."""

    def __init__(self, directory: Path = STORE) -> None:
        self._directory = directory

    def get(self, key: str) -> Figures | None:
        """None if there is none, or its file is damaged."""
        try:
            found = json.loads((self._directory / f"{key}.json").read_text())
            return Figures([float(x) for x in found["scores"]], Traffic(**found["traffic"]))
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def put(self, key: str, figures: Figures) -> None:
        """Write so that no reader ever sees half a file."""
        self._directory.mkdir(parents=True, exist_ok=True)
        partial = self._directory / f"{key}.partial"
        partial.write_text(json.dumps(asdict(figures)) + "\n")
        partial.replace(self._directory / f"{key}.json")
