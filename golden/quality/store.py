"""Figures already measured, one JSON file each, so that an interrupted run goes on where it was."""

from __future__ import annotations

import ast
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

__all__ = ["Records", "Store", "digest", "imported_files"]

#: Modules beside this one that decide the figures of every method.
_SHARED = ("decode", "evaluate", "generate", "interface", "storage", "tasks")
STORE = Path(__file__).parents[2] / "build" / "quality" / "store"


def imported_files(path: Path) -> set[Path]:
    """Files of this repository that a module imports from, itself included; through all levels."""
    found: set[Path] = set()
    waiting = [path]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        for node in ast.walk(ast.parse(path.read_text())):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            for name in names:
                file = getattr(sys.modules.get(name), "__file__", None)
                if name.startswith(("golden.", "hw.")) and file:
                    waiting.append(Path(file))
    return found


def _sources(method: type) -> list[Path]:
    """Files that decide a figure of ``method``: its module, what that uses, and the lab's own."""
    files = imported_files(Path(inspect.getfile(method)))
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
        Arguments of ``make_batch``, and ``generation``.
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


class Records:
    """JSON objects by digest, in a directory that is made when first written to."""

    def __init__(self, directory: Path = STORE) -> None:
        self._directory = directory

    def read(self, key: str) -> dict[str, Any] | None:
        """None if there is none, or its file is damaged."""
        try:
            found = json.loads((self._directory / f"{key}.json").read_text())
        except (FileNotFoundError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def write(self, key: str, record: dict[str, Any]) -> None:
        """Write so that no reader ever sees half a file."""
        self._directory.mkdir(parents=True, exist_ok=True)
        partial = self._directory / f"{key}.partial"
        partial.write_text(json.dumps(record) + "\n")
        partial.replace(self._directory / f"{key}.json")


class Store(Records):
    """Figures by digest."""

    def get(self, key: str) -> Figures | None:
        """None if there are none, or their file is damaged."""
        found = self.read(key) or {}
        try:
            return Figures([float(x) for x in found["scores"]], Traffic(**found["traffic"]))
        except (ValueError, KeyError, TypeError):
            return None

    def put(self, key: str, figures: Figures) -> None:
        """Keep them."""
        self.write(key, asdict(figures))
