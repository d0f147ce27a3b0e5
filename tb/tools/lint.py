"""Verilator's lint as a function."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tb.harness.toolchain import verilator


def lint(files: Sequence[Path], top: str, *, style: bool = True) -> str:
    """Return what Verilator says of ``files``: nothing if all is well.

    Parameters
    ----------
    files
        Sources in order, control files first.
    top
        Name of the top module.
    style
        Whether to look for everything (``-Wall``) rather than for errors only.
    """
    chosen = verilator()
    done = subprocess.run(
        [
            str(chosen.executable),
            "--lint-only",
            "-Wall" if style else "-Wno-style",
            "--top-module",
            top,
            *map(str, files),
        ],
        env=chosen.environment(os.environ),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode == 0) == (not done.stderr), done.stderr
    return done.stderr
