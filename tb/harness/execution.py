"""Run a built simulation and check the outcome.

    run(made, "tb.models.attention_driver", plusargs=["+seed=1"], directory=Path("build/run"))

`run` starts a build with a cocotb module; cocotb's own runner returns normally when a test fails
outside pytest. `run_native` starts a build for the native driver: settings in, the values of all
ports out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from cocotb_tools.check_results import get_results

from tb.harness.builder import Build
from tb.harness.errors import HarnessError
from tb.harness.files import tail
from tb.harness.native import start_native
from tb.harness.runner import VerilatorRunner


class SimulationError(HarnessError):
    """A simulation ran and failed, or ended without a result; the message says what was found."""


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
            plusargs=[*_random_state(seed), *plusargs],
            extra_env=environment or {},
            log_file=log,
        )
    except (RuntimeError, SystemExit):
        stopped = True
    end = _end_of(log)
    try:
        tests, failed = get_results(results)
    except RuntimeError as error:
        raise SimulationError(f"{made.top} ended without a result{end}") from error
    if failed or not tests:
        raise SimulationError(f"{failed} of {tests} cocotb tests of {module} failed{end}")
    if stopped:
        raise SimulationError(f"the simulator of {made.top} reported an error{end}")
    return log


def run_native(
    made: Build,
    *,
    directory: Path,
    settings: Mapping[str, int],
    result: Path,
    plusargs: Sequence[str] = (),
    seed: int = 1,
) -> Path:
    """Run a simulation built for the native driver; arguments and errors are those of `run`.

    Parameters
    ----------
    settings
        Values of the input ports other than ``clk``, constant over the run.
    result
        Receives the values of the other ports when ``done`` rises, as JSON, and the time that the
        cycles took.
    """
    directory.mkdir(parents=True, exist_ok=True)
    log = directory / "sim.log"
    status = start_native(
        made.directory / made.top,
        directory=directory,
        settings=settings,
        result=result,
        plusargs=[*_random_state(seed), *plusargs],
        log=log,
    )
    if not result.exists():
        raise SimulationError(f"{made.top} ended without a result{_end_of(log)}")
    if status:
        raise SimulationError(f"the simulator of {made.top} reported an error{_end_of(log)}")
    return log


def _random_state(seed: int) -> list[str]:
    """Return the simulator arguments that fill uninitialised state at random."""
    return ["+verilator+rand+reset+2", f"+verilator+seed+{seed % 2**31 or 1}"]


def _end_of(log: Path) -> str:
    return f"; end of {log}:\n{tail(log)}"
