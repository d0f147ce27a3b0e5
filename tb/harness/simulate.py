"""Run one component against lists of items: the unit-test entry point.

    run = simulate(
        PeArray(rows=4),
        name="pe_array",
        inputs={"operand": [0x12, 0x34]},
        outputs={"result": 2},
        settings={"k": 48},
        stall={"operand": 0.3, "result": 0.9},
    )
    assert run.outputs["result"] == expected

Whatever breaks the contract of a stream is an error here, so a test compares values only: an item
too few (`Hang`), an item too many (`ExtraItems`), ``valid`` or a payload that does not wait for
``ready`` (`StreamRuleBroken`).
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from amaranth.lib import wiring

from tb.harness.builder import build
from tb.harness.driver import Driver, Speed
from tb.harness.elaborate import Design, PortError, elaborate
from tb.harness.execution import run, run_native
from tb.harness.files import BUILD_ROOT, REPOSITORY
from tb.harness.request import Stall, check_names, pattern, stall_steps
from tb.harness.verdict import ExtraItems, fields, judge
from tb.harness.wrapper import (
    OBSERVED_PREFIX,
    SETTING_PREFIX,
    STATUS_BITS,
    wrapper_name,
    wrapper_ports,
    wrapper_text,
)

#: What drives a bench under cocotb.
DRIVER_MODULE = "tb.models.stream_driver"

_MODELS = REPOSITORY / "tb" / "models"
_NONE_YET = 2**STATUS_BITS - 1
_STATUS_FILE = "status.json"
_run_numbers = itertools.count()


@dataclass(frozen=True)
class Run:
    """What a simulation gave.

    Parameters
    ----------
    outputs
        Per output stream the payloads, as unsigned integers, in order.
    cycles
        Cycles from the end of the (last) reset until every item had been taken.
    observed
        Final values of the plain outputs asked for, as unsigned integers.
    first_output_cycle
        Per output stream the cycle of its first item, counted like ``cycles``; streams without an
        item are absent.
    extra_items
        Per output stream the number of items beyond the expected ones, streams without any left
        out; only a run with ``allow_extra`` can have some.
    seed
        The seed of the run.
    directory
        Where its files are, None when they were removed.
    driver
        Who toggled the clock; like the speed, no part of the result that two runs are compared by.
    speed
        How fast the cycles went by.
    """

    outputs: dict[str, list[int]]
    cycles: int
    observed: dict[str, int]
    first_output_cycle: dict[str, int]
    extra_items: dict[str, int]
    seed: int
    directory: Path | None
    driver: Driver = field(compare=False)
    speed: Speed = field(compare=False)


def simulate(
    component: wiring.Component,
    *,
    name: str,
    inputs: Mapping[str, Sequence[int]],
    outputs: Mapping[str, int],
    settings: Mapping[str, int] | None = None,
    observe: Sequence[str] = (),
    stall: Stall = 0.0,
    seed: int = 1,
    reset_at: int | None = None,
    max_cycles: int = 200_000,
    drain: int = 64,
    allow_extra: bool = False,
    waves: bool = False,
    fast: bool = False,
    sources: Sequence[Path] = (),
    plusargs: Sequence[str] = (),
    arguments: Sequence[str] = (),
    driver: Driver | None = None,
    driver_module: str | None = None,
) -> Run:
    """Play items into a component and record what comes out.

    Parameters
    ----------
    component
        A component whose ports are streams (`amaranth.lib.stream`) and plain signals. An array of
        streams ``x`` is addressed as ``x__0``, ``x__1``; a nested one as ``outer__inner``.
    name
        Name of the Verilog module and of the build directory: a lower-case identifier.
    inputs
        Per input stream, all of them, the packed payloads to send; negative numbers are taken as
        two's complement of the payload's width.
    outputs
        Per output stream, all of them, how many items to wait for.
    settings
        Plain inputs, constant over the run and set before reset ends; the others keep their
        initial value.
    observe
        Plain outputs to read after the last item.
    stall
        Probability, in steps of 1/256, that an input is not valid or an output is not ready in a
        cycle.
    seed
        Seed of the stalls and of uninitialised state; at least 0.
    reset_at
        Cycle (counted from the end of the first reset, at least 1) at which reset is asserted for
        4 cycles; players then start again and recorders forget.
    max_cycles
        Limit, all resets and the drain included.
    drain
        Cycles without stalls to listen on for items too many.
    allow_extra
        Whether items too many are returned in ``extra_items`` rather than an error.
    waves
        Whether to record an FST file, which is then kept.
    fast
        Whether to compile for speed: worth it above some 100 k cycles.
    sources
        Further Verilog files, for a component that instantiates modules of them.
    plusargs
        Further simulator arguments, for the models in those files.
    arguments
        Further arguments of Verilator.
    driver
        Who toggles the clock: ``cocotb``, or ``native`` for a C++ program, which starts at once
        and has no waves. Everything else is the same. By default cocotb where waves or a driver
        module need it, else native: a start of Python costs more than most runs.
    driver_module
        Dotted name of the module to run under cocotb: one that does more than `DRIVER_MODULE`
        beside calling its ``drive``.

    Raises
    ------
    DriverError
        The driver does not exist or cannot record waves.
    PortError
        A stream or signal that does not exist, is missing, or is given a value it cannot hold.
    Hang, ExtraItems, StreamRuleBroken
        The design breaks the contract of its streams.
    SimulationError
        The simulator stopped, or the run ended before ``reset_at``.
    """
    driver = driver or ("cocotb" if waves or driver_module else "native")
    design = elaborate(component, name)
    chosen = dict(settings or {})
    check_names(design, inputs, outputs, chosen, observe)
    if reset_at is not None and reset_at < 1:
        raise PortError(f"reset_at must be at least 1, not {reset_at}")
    limits = {"seed": seed, "max_cycles": max_cycles, "drain": drain, "reset_at": reset_at or 0}
    steps = stall_steps(design, stall)
    made = build(
        design.text + "\n" + wrapper_text(design),
        [*sources, _MODELS / "stream_player.sv", _MODELS / "stream_recorder.sv"],
        top=wrapper_name(design),
        name=name,
        public=wrapper_ports(design),
        waves=waves,
        fast=fast,
        arguments=arguments,
        driver=driver,
        shared=design.shared,
    )
    directory = BUILD_ROOT / "runs" / f"{name}-{os.getpid()}-{next(_run_numbers)}"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    at_run = [*plusargs, *(f"+{key}={value}" for key, value in limits.items())]
    at_run += _stream_arguments(design, inputs, outputs, steps, directory)
    driven = _settings(design, chosen)
    result = directory / _STATUS_FILE
    if driver == "native":
        run_native(
            made,
            directory=directory,
            settings=driven,
            result=result,
            plusargs=at_run,
            seed=seed,
        )
    else:
        job = directory / "job.json"
        seen = [OBSERVED_PREFIX + signal for signal in observe]
        job.write_text(json.dumps({"settings": driven, "observe": seen, "result": str(result)}))
        run(
            made,
            driver_module or DRIVER_MODULE,
            directory=directory,
            plusargs=at_run,
            environment={"STREAM_JOB": str(job)},
            seed=seed,
            waves=waves,
        )
    status = json.loads(result.read_text())
    where = f" (seed {seed}, files in {directory})"
    extra = judge(design, status, inputs, outputs, reset_at, where)
    if extra and not allow_extra:
        listed = ", ".join(f"{stream!r} {number}" for stream, number in extra.items())
        raise ExtraItems(f"{name} sent items too many: {listed}{where}")
    received = design.stream_names(is_input=False)
    recorded = {stream: _read_items(directory / f"{stream}.hex") for stream in received}
    firsts = fields(status["firsts"], received)
    if not waves:
        shutil.rmtree(directory, ignore_errors=True)
    return Run(
        outputs={stream: items[: outputs[stream]] for stream, items in recorded.items()},
        cycles=status["busy_cycles"],
        observed={signal: status[OBSERVED_PREFIX + signal] for signal in observe},
        first_output_cycle={name: cycle for name, cycle in firsts.items() if cycle != _NONE_YET},
        extra_items=extra,
        seed=seed,
        directory=directory if waves else None,
        driver=driver,
        speed=Speed(status["total_cycles"], status["wall_ns"] / 1e9, status["cpu_ns"] / 1e9),
    )


def _stream_arguments(
    design: Design,
    inputs: Mapping[str, Sequence[int]],
    outputs: Mapping[str, int],
    steps: Mapping[str, int],
    directory: Path,
) -> list[str]:
    """Write the files of the players; return the plusargs of every stream."""
    plusargs = []
    for stream in design.streams:
        file = directory / f"{stream.name}.hex"
        if stream.is_input:
            what = f"item of {stream.name!r}"
            items = [pattern(what, item, stream.width) for item in inputs[stream.name]]
            file.write_text("".join(f"{item:x}\n" for item in items))
            count = len(items)
        else:
            count = outputs[stream.name]
        plusargs += [
            f"+{stream.name}_file={file}",
            f"+{stream.name}_items={count}",
            f"+{stream.name}_stall={steps[stream.name]}",
        ]
    return plusargs


def _settings(design: Design, settings: Mapping[str, int]) -> dict[str, int]:
    """Return what to drive the wrapper's ports of the plain inputs with."""
    driven = {}
    for signal in design.signals:
        if signal.is_input:
            value = settings.get(signal.name, signal.initial)
            what = f"setting {signal.name!r}"
            driven[SETTING_PREFIX + signal.name] = pattern(what, value, signal.width)
    return driven


def _read_items(path: Path) -> list[int]:
    """Return the items that a recorder wrote."""
    return [int(line, 16) for line in path.read_text().split()]
