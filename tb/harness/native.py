"""Build and run a simulation that a C++ program drives (``tb/models/native_main.cpp``)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tb.harness.files import REPOSITORY
from tb.harness.runtime_library import build_commands
from tb.harness.toolchain import Verilator

NATIVE_MAIN = REPOSITORY / "tb" / "models" / "native_main.cpp"
"""The program; it is compiled with every bench, as its port table is the bench's."""

_PORTS_FILE = "ports.inc"


def ports_table(ports: Sequence[str]) -> str:
    """Return the C++ text that tells the program which ports the bench has.

    Verilator encodes the second of two underscores in the name of a member.
    """
    members = {port: port.replace("__", "___05F") for port in ports}
    return "".join(f'PORT("{port}", {member})\n' for port, member in members.items())


def compile_native(
    chosen: Verilator,
    *,
    directory: Path,
    sources: Sequence[Path],
    top: str,
    ports: Sequence[str],
    flags: Sequence[str],
    make_settings: Sequence[str],
    objects: Sequence[Path],
    log: Path,
) -> None:
    """Compile ``sources`` and the program into the executable ``directory / top``.

    Parameters
    ----------
    chosen
        The Verilator to build with.
    directory
        Where to build.
    sources
        SystemVerilog and C++ files, the program's included, and archives to link.
    top
        Name of the top module.
    ports
        Its ports.
    flags
        Arguments of Verilator.
    make_settings
        ``NAME=value`` settings for make, on top of those the Verilator itself needs.
    objects
        Compiled files of Verilator's run-time library to start from.
    log
        Receives what the tools say.

    Raises
    ------
    RuntimeError
        A tool failed.
    """
    (directory / _PORTS_FILE).write_text(ports_table(ports))
    verilate = [str(chosen.executable), "--cc", "--exe", "-Mdir", str(directory)]
    verilate += ["--top-module", top, "--prefix", "Vtop", "-o", top, "--timescale", "1ns/1ps"]
    verilate += [*flags, *(str(source.resolve()) for source in sources)]
    make = ["make", "-j", str(os.cpu_count() or 1), "-C", str(directory), "-f", "Vtop.mk"]
    make += [*chosen.make_overrides, *make_settings]
    run_tools(chosen, verilate, objects, make, directory, log)


def run_tools(
    chosen: Verilator,
    verilate: Sequence[str],
    objects: Sequence[Path],
    make: Sequence[str],
    directory: Path,
    log: Path,
) -> None:
    """Run Verilator and make, see `tb.harness.runtime_library.build_commands`.

    Raises
    ------
    RuntimeError
        A tool failed; what they say is in ``log``.
    """
    commands = build_commands(verilate, make, objects, directory)
    with log.open("w") as output:
        for command in commands:
            done = subprocess.run(
                command,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=chosen.environment(os.environ),
                check=False,
            )
            if done.returncode:
                raise RuntimeError(f"{command[0]} ended with {done.returncode}")


def start_native(
    executable: Path,
    *,
    directory: Path,
    settings: Mapping[str, int],
    result: Path,
    plusargs: Sequence[str],
    log: Path,
) -> int:
    """Run a simulation; return its exit status, not 0 if the simulator reported an error.

    Parameters
    ----------
    executable
        What `compile_native` made.
    directory
        Working directory of the simulation.
    settings
        Values of the input ports other than the clock.
    result
        Receives the value of every other port, as JSON; it is written when ``done`` rises.
    plusargs
        Simulator arguments.
    log
        Receives what the simulation says.
    """
    listed = directory / "settings.txt"
    listed.write_text("".join(f"{port} {value:x}\n" for port, value in settings.items()))
    result.unlink(missing_ok=True)
    with log.open("w") as output:
        return subprocess.run(
            [str(executable), str(listed), str(result), *plusargs],
            cwd=directory,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        ).returncode
