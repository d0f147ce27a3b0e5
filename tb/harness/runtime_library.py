"""What builds share: compiled objects of Verilator's run-time library, its header precompiled."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tb.harness.files import BUILD_ROOT, REPOSITORY, digest, locked
from tb.harness.toolchain import Verilator

PRELUDE = REPOSITORY / "tb" / "models" / "prelude.h"
"""Included in front of every C++ file of a build that is not ``fast``."""


@contextmanager
def runtime_library(
    directory: Path, chosen: Verilator, make_settings: Sequence[str], *, waves: bool = False
) -> Iterator[list[Path]]:
    """Give the objects of Verilator's run-time library to a build, and keep those it adds.

    Of all that differs between builds they depend on ``OPT_GLOBAL`` and on waves only: drivers,
    arguments of Verilator and the optimisation of the model do not reach them.

    Parameters
    ----------
    directory
        Where the build takes place.
    chosen
        The Verilator to build with.
    make_settings
        ``NAME=value`` settings of make that decide how the objects are compiled.
    waves
        Whether the simulation can record waves.
    """
    level = [word for word in make_settings if word.startswith("OPT_GLOBAL=")]
    key = digest(*level, chosen.identity, str(waves))
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


def build_commands(
    verilate: Sequence[str], make: Sequence[str], objects: Sequence[Path], directory: Path
) -> list[list[str]]:
    """Return the commands of a build, with ``objects`` and the precompiled header made use of.

    Parameters
    ----------
    verilate, make
        The two commands that would do alone.
    objects
        What `runtime_library` gave.
    directory
        Where they build.
    """
    commands = [list(verilate)]
    if objects:
        # After Verilator, whose make file the objects must be younger than.
        commands.append(["cp", *map(str, objects), str(directory)])
    split = commands[0].index("--output-split") + 1
    if commands[0][split] != "0":
        # Such a build precompiles a header of its own, and a compiler takes but one.
        return [*commands, list(make)]
    settings = [word for word in make if "=" in word]
    kept = BUILD_ROOT / "prelude" / digest(PRELUDE.read_text(), commands[0][0], *settings)
    header, precompiled = kept / PRELUDE.name, kept / f"{PRELUDE.name}.gch"
    if not precompiled.exists():
        kept.mkdir(parents=True, exist_ok=True)
        # By Verilator's make file, hence with its flags, where no other process writes.
        own = directory.resolve() / PRELUDE.name
        program = [word for word in make if not word.endswith(".a")]
        commands += [
            ["cp", str(PRELUDE), str(own)],
            [*program, f"{own}.fast.gch"],
            ["mv", str(own), str(header)],
            ["mv", f"{own}.fast.gch", str(precompiled)],
        ]
    # At no other level of optimisation than its own: GCC may fail there.
    included = f" -include {header}"
    return [*commands, [w + included if w.startswith("OPT_FAST=") else w for w in make]]
