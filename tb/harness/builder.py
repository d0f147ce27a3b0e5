"""Build a Verilated simulation once and run it as often as needed.

`build` turns Verilog text and SystemVerilog sources into an executable under ``build/sim/``; its
directory carries a hash of everything the result depends on, so a second call, in this or any other
process, returns at once. `run` starts that executable with a cocotb module and checks the outcome:
cocotb's own runner returns normally when a test fails outside pytest.

    made = build(verilog_text, [Path("tb/models/memory.sv"), Path("tb/bench/top.sv")],
                 top="attention_bench", name="attention_lm", public=["clk", "done"], fast=True)
    run(made, "tb.models.attention_driver", plusargs=["+seed=1"], directory=Path("build/run"))
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cocotb_tools.check_results import get_results

from hw.tools.progress import step
from tb.harness.errors import HarnessError
from tb.harness.files import BUILD_ROOT, digest, locked
from tb.harness.runner import VerilatorRunner
from tb.harness.toolchain import Verilator, check_wave_packages, verilator

_COMMON = ("--x-initial", "unique", "--no-timing", "--assert", "-Wno-fatal")
_QUICK_MAKE = ("OPT_FAST=-O1", "OPT_SLOW=-O0", "OPT_GLOBAL=-O2")
_FAST_MAKE = ("OPT_FAST=-O3", "OPT_SLOW=-O1", "OPT_GLOBAL=-O3")
_LOG_LINES = 40


class BuildError(HarnessError):
    """Verilator or the C++ compiler refused the sources; the message holds the end of its log."""


class SimulationError(HarnessError):
    """A simulation ran and failed, or ended without a result; the message says what was found."""


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
    """

    top: str
    directory: Path
    waves: bool
    simulator: Verilator
    reused: bool


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
        Ports of ``top`` that cocotb may touch; nothing else is visible to it.
    fast
        Whether to spend compile time on simulation speed: for runs above some 100 k cycles.
    waves
        Whether the result can record an FST file (needs the headers of liblz4 and zlib).
    arguments
        Further Verilator arguments.

    Raises
    ------
    BuildError
        Verilator or the C++ compiler failed.
    ToolchainError
        There is no usable Verilator, or waves are asked for without their system packages.
    """
    chosen = verilator()
    if waves:
        check_wave_packages()
    flags = [*_COMMON, *(["--trace-structs"] if waves else []), *arguments]
    make = _FAST_MAKE if fast else _QUICK_MAKE
    flags += ["--output-split", "20000"] if fast else ["--output-split", "0"]
    texts = [f"{source.name}\n{source.read_text()}" for source in sources]
    key = digest(verilog, *texts, top, ",".join(public), " ".join([*flags, *make]), chosen.identity)
    directory = BUILD_ROOT / f"{name}-{key}"
    stamp = directory / "built.json"
    with locked(BUILD_ROOT / "locks" / directory.name):
        reused = stamp.exists()
        if not reused:
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir(parents=True)
            with step(f"building the simulation {directory.name}"):
                _compile(directory, verilog, sources, top, public, flags, make, chosen, waves)
            stamp.write_text(json.dumps({"top": top, "verilator": chosen.identity}))
    return Build(top, directory, waves, chosen, reused)


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
) -> None:
    design = directory / "design.v"
    design.write_text(verilog)
    control = directory / "public.vlt"
    lines = [f'public_flat_rw -module "{top}" -var "{port}"' for port in public]
    control.write_text("`verilator_config\n" + "\n".join(lines) + "\n")
    extra = [str(source.resolve()) for source in sources if source.suffix == ".cpp"]
    hdl = [source for source in sources if source.suffix != ".cpp"]
    log = directory / "build.log"
    with _runtime_library(directory, digest(*flags, *make, chosen.identity)) as objects:
        try:
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


@contextmanager
def _runtime_library(directory: Path, key: str) -> Iterator[list[Path]]:
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


def run(
    made: Build,
    module: str,
    *,
    directory: Path,
    plusargs: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    seed: int = 1,
    waves: bool = False,
) -> Path:
    """Run a built simulation under the cocotb module ``module``.

    Parameters
    ----------
    made
        What `build` returned.
    module
        Dotted name of the Python module that holds the cocotb tests.
    directory
        Working directory of the simulation, created if missing; gets ``sim.log``.
    plusargs
        Simulator arguments such as ``+seed=1``.
    environment
        Further environment variables of the simulation.
    seed
        Seed of Python's and Verilator's random numbers (uninitialised state included).
    waves
        Whether to record ``dump.fst`` in ``directory``; needs a build with waves.

    Returns
    -------
    Path
        The log of the run.

    Raises
    ------
    SimulationError
        A test failed, no test ran, or the simulator stopped early.
    """
    directory.mkdir(parents=True, exist_ok=True)
    log, results = directory / "sim.log", directory.resolve() / "results.xml"
    runner = VerilatorRunner(made.simulator, waves=waves)
    stopped = False
    try:
        runner.test(
            module,
            made.top,
            hdl_toplevel_lang="verilog",
            build_dir=made.directory,
            test_dir=directory,
            results_xml=str(results),
            seed=seed,
            plusargs=["+verilator+rand+reset+2", f"+verilator+seed+{seed % 2**31 or 1}", *plusargs],
            extra_env=environment or {},
            log_file=log,
        )
    except (RuntimeError, SystemExit):
        stopped = True
    end = f"; end of {log}:\n{tail(log)}"
    try:
        tests, failed = get_results(results)
    except RuntimeError as error:
        raise SimulationError(f"{made.top} ended without a result{end}") from error
    if failed or not tests:
        raise SimulationError(f"{failed} of {tests} cocotb tests of {module} failed{end}")
    if stopped:
        raise SimulationError(f"the simulator of {made.top} reported an error{end}")
    return log


def tail(path: Path, lines: int = _LOG_LINES) -> str:
    """Return the last ``lines`` lines of a log, or a note that there is none."""
    if not path.exists():
        return "(no log)"
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
