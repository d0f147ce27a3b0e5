"""Compiled objects of Verilator's run-time library, shared by the builds of a kind."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tb.harness.files import BUILD_ROOT, locked


@contextmanager
def runtime_library(directory: Path, key: str) -> Iterator[list[Path]]:
    """Give the objects of Verilator's run-time library to a build, and keep those it adds.

    They depend on the flags only, which ``key`` stands for, and take most of a small build's time.
    """
    kept = BUILD_ROOT / "runtime" / key
    with locked(kept.with_suffix(".lock")):
        objects = sorted(kept.glob("*.o"))
        if not objects:
            # The first build of its kind keeps the others waiting: they gain by it.
            yield []
            _keep_objects(directory, kept)
            return
    yield objects
    with locked(kept.with_suffix(".lock")):
        _keep_objects(directory, kept)


def _keep_objects(directory: Path, kept: Path) -> None:
    kept.mkdir(parents=True, exist_ok=True)
    for built in directory.glob("verilated*.o"):
        if not (kept / built.name).exists():
            temporary = kept / f"{built.name}.partial"
            shutil.copyfile(built, temporary)
            temporary.replace(kept / built.name)
