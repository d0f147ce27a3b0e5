"""Modules that are compiled once and linked into every simulation with instances of them.

Verilator flattens a design, so its C++ grows with every instance of a module. A module that is made
a library (``--lib-create``) is compiled by itself; the design gets a wrapper in its place. Such
builds are kept like those of whole simulations, so designs share them.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hw.tools.progress import step
from tb.harness.files import BUILD_ROOT, digest, locked, tail
from tb.harness.native import run_tools
from tb.harness.runtime_library import runtime_library
from tb.harness.toolchain import Verilator


@dataclass(frozen=True)
class Library:
    """A compiled module.

    Parameters
    ----------
    wrapper
        SystemVerilog to use in the place of the module.
    archive
        What to link.
    """

    wrapper: Path
    archive: Path


def compile_library(
    chosen: Verilator, text: str, name: str, *, flags: Sequence[str], make_settings: Sequence[str]
) -> Library:
    """Compile module ``name`` of the Verilog ``text``, or find it compiled.

    Parameters
    ----------
    chosen
        The Verilator to build with.
    flags
        Arguments of Verilator; none for waves.
    make_settings
        ``NAME=value`` settings for make, on top of those the Verilator itself needs.

    Raises
    ------
    RuntimeError
        A tool failed; the message holds the end of its log.
    """
    key = digest(text, name, *flags, *make_settings, chosen.identity)
    directory = BUILD_ROOT / "libraries" / f"{name}-{key}"
    made = Library(directory / f"{name}.sv", directory / f"lib{name}.a")
    with locked(BUILD_ROOT / "locks" / directory.name):
        if made.archive.exists():
            return made
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        design = directory / "design.v"
        design.write_text(text)
        verilate = [str(chosen.executable), "--cc", "--lib-create", name, "-Mdir", str(directory)]
        verilate += ["--top-module", name, "--prefix", f"V{name}", "--timescale", "1ns/1ps"]
        verilate += [*flags, str(design.resolve())]
        make = ["make", "-j", str(os.cpu_count() or 1), "-C", str(directory), "-f", f"V{name}.mk"]
        make += [*chosen.make_overrides, *make_settings, made.archive.name]
        log = directory / "build.log"
        with (
            step(f"compiling {directory.name}"),
            runtime_library(directory, chosen, make_settings) as objects,
        ):
            try:
                run_tools(chosen, verilate, objects, make, directory, log)
            except RuntimeError as error:
                raise RuntimeError(f"{error}; end of {log}:\n{tail(log)}") from error
    return made
