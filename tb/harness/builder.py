"""Build a Verilated simulation once, to be run as often as needed.

`build` turns Verilog text and SystemVerilog sources into an executable under ``build/sim/``; its
directory carries a hash of everything the result depends on, so a second call, in this or any other
process, returns at once. `tb.harness.execution` runs it.

    made = build(verilog_text, [Path("tb/models/memory.sv"), Path("tb/bench/top.sv")],
                 top="attention_bench", name="attention_lm", public=["clk", "done"], fast=True)
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hw.tools.progress import step
from tb.harness.driver import Driver, check_driver
from tb.harness.errors import HarnessError
from tb.harness.files import BUILD_ROOT, digest, locked, tail
from tb.harness.library import compile_library
from tb.harness.native import NATIVE_MAIN, compile_native
from tb.harness.runner import VerilatorRunner
from tb.harness.runtime_library import PRELUDE, runtime_library
from tb.harness.toolchain import Verilator, check_wave_packages, verilator

_COMMON = ("--x-initial", "unique", "--no-timing", "--assert", "-Wno-fatal")
# -Og compiles an attention core in 9 s instead of 15 with -O1; its cycles cost the same.
_QUICK_MAKE = ("OPT_FAST=-Og", "OPT_SLOW=-O0", "OPT_GLOBAL=-O2")
# The slow part is what runs once, at the start; the global one is shared with quick builds.
_FAST_MAKE = ("OPT_FAST=-O3", "OPT_SLOW=-O0", "OPT_GLOBAL=-O2")


class BuildError(HarnessError):
    """Verilator or the C++ compiler refused the sources; the message holds the end of its log."""


@dataclass(frozen=True)
class Build:
    """A built simulation.

    Parameters
    ----------
    top
        Its top module.
    directory
        Where it lies.
    waves
        Whether it can record waves.
    simulator
        The Verilator that built it.
    reused
        Whether it was found in the cache rather than built by this call.
    driver
        The driver it is built for.
    """

    top: str
    directory: Path
    waves: bool
    simulator: Verilator
    reused: bool
    driver: Driver = "cocotb"


def build(
    verilog: str,
    sources: Sequence[Path],
    *,
    top: str,
    name: str,
    public: Sequence[str],
    fast: bool = False,
    waves: bool = False,
    arguments: Sequence[str] = (),
    driver: Driver = "cocotb",
    shared: Mapping[str, str] | None = None,
) -> Build:
    """Build a simulation, or find it built.

    Parameters
    ----------
    verilog
        Text of the design.
    sources
        SystemVerilog files compiled after it; C++ files (``.cpp``) are linked in.
    top
        Name of the top module.
    name
        Readable part of the directory's name.
    public
        Ports of ``top`` that the driver may touch; nothing else is visible to it.
    fast
        Whether to spend compile time on simulation speed: for runs above some 100 k cycles.
    waves
        Whether the result can record an FST file (needs the headers of liblz4 and zlib).
    arguments
        Further Verilator arguments.
    driver
        Who will toggle the clock; ``native`` wants the port ``done`` and records no waves.
    shared
        Further modules of the design, by name, each with its Verilog: compiled once for all
        instances and simulations, see `tb.harness.library`; with waves like the rest.

    Raises
    ------
    BuildError
        Verilator or the C++ compiler failed.
    DriverError
        The driver does not exist or cannot record waves.
    ToolchainError
        There is no usable Verilator, or waves are asked for without their system packages.
    """
    check_driver(driver, waves=waves)
    chosen = verilator()
    if waves:
        check_wave_packages()
    if driver == "native":
        sources = [*sources, NATIVE_MAIN]
    flags = [*_COMMON, *(["--trace-structs"] if waves else []), *arguments]
    make = _FAST_MAKE if fast else _QUICK_MAKE
    flags += ["--output-split", "20000"] if fast else ["--output-split", "0"]
    texts = [f"{source.name}\n{source.read_text()}" for source in sources]
    shared = dict(shared or {})
    if waves:
        # Only one model records waves.
        verilog, shared = "\n".join([verilog, *shared.values()]), {}
    key = digest(
        verilog,
        *shared.values(),
        *texts,
        top,
        ",".join(public),
        " ".join([*flags, *make]),
        chosen.identity,
        *([] if fast else [PRELUDE.read_text()]),
    )
    directory = BUILD_ROOT / f"{name}-{key}"
    stamp = directory / "built.json"
    with locked(BUILD_ROOT / "locks" / directory.name):
        reused = stamp.exists()
        if not reused:
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir(parents=True)
            with step(f"building the simulation {directory.name}"):
                parts = _libraries(shared, flags, make, chosen)
                _compile(
                    directory,
                    verilog,
                    [*sources, *parts],
                    top,
                    public,
                    flags,
                    make,
                    chosen,
                    waves,
                    driver,
                )
            stamp.write_text(json.dumps({"top": top, "verilator": chosen.identity}))
    return Build(top, directory, waves, chosen, reused, driver)


def _libraries(
    shared: Mapping[str, str], flags: Sequence[str], make: Sequence[str], chosen: Verilator
) -> list[Path]:
    """Compile the shared modules; return their wrappers and archives."""
    parts = []
    for name, text in shared.items():
        try:
            made = compile_library(chosen, text, name, flags=flags, make_settings=make)
        except RuntimeError as error:
            raise BuildError(f"the build of {name} failed: {error}") from error
        parts += [made.wrapper, made.archive]
    return parts


def _compile(
    directory: Path,
    verilog: str,
    sources: Sequence[Path],
    top: str,
    public: Sequence[str],
    flags: Sequence[str],
    make: Sequence[str],
    chosen: Verilator,
    waves: bool,
    driver: Driver,
) -> None:
    design = directory / "design.v"
    design.write_text(verilog)
    log = directory / "build.log"
    with runtime_library(directory, chosen, make, waves=waves) as objects:
        try:
            if driver == "native":
                compile_native(
                    chosen,
                    directory=directory,
                    sources=[design, *sources],
                    top=top,
                    ports=public,
                    flags=flags,
                    make_settings=make,
                    objects=objects,
                    log=log,
                )
                return
            control = directory / "public.vlt"
            lines = [f'public_flat_rw -module "{top}" -var "{port}"' for port in public]
            control.write_text("`verilator_config\n" + "\n".join(lines) + "\n")
            extra = [str(s.resolve()) for s in sources if s.suffix in (".cpp", ".a")]
            hdl = [source for source in sources if source.suffix not in (".cpp", ".a")]
            runner = VerilatorRunner(chosen, waves=waves, make_settings=make, objects=objects)
            runner.build(
                sources=[control, design, *hdl],
                hdl_toplevel=top,
                build_args=[*flags, *extra],
                build_dir=directory,
                timescale=("1ns", "1ps"),
                log_file=log,
            )
        except (RuntimeError, SystemExit) as error:
            raise BuildError(f"the build of {top} failed; end of {log}:\n{tail(log)}") from error
