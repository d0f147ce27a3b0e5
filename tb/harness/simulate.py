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
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from amaranth.lib import wiring

from tb.harness.builder import SimulationError, build, run
from tb.harness.elaborate import Design, PortError, elaborate
from tb.harness.files import BUILD_ROOT, REPOSITORY
from tb.harness.wrapper import (
    OBSERVED_PREFIX,
    SETTING_PREFIX,
    STATUS_BITS,
    wrapper_name,
    wrapper_ports,
    wrapper_text,
)

Stall: TypeAlias = float | Mapping[str, float]
"""Probability of a stall per cycle, 0 to 0.99, for all streams or by stream name (others 0)."""

_MODELS = REPOSITORY / "tb" / "models"
_NONE_YET = 2**STATUS_BITS - 1
_STALL_STEPS = 256
_MOST_STALL = 0.99
_run_numbers = itertools.count()


class Hang(SimulationError):
    """The run reached its cycle limit; the message names the streams that were short."""


class ExtraItems(SimulationError):
    """A design sent more items than it should; the message names the streams."""


class StreamRuleBroken(SimulationError):
    """A design withdrew ``valid`` or changed a payload before ``ready``."""


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
    """

    outputs: dict[str, list[int]]
    cycles: int
    observed: dict[str, int]
    first_output_cycle: dict[str, int]
    extra_items: dict[str, int]
    seed: int
    directory: Path | None


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

    Raises
    ------
    PortError
        A stream or signal that does not exist, is missing, or is given a value it cannot hold.
    Hang, ExtraItems, StreamRuleBroken
        The design breaks the contract of its streams.
    SimulationError
        The simulator stopped, or the run ended before ``reset_at``.
    """
    design = elaborate(component, name)
    chosen = dict(settings or {})
    _check_names(design, inputs, outputs, chosen, observe)
    stalls = _stall_steps(design, stall)
    if reset_at is not None and reset_at < 1:
        raise PortError(f"reset_at must be at least 1, not {reset_at}")
    wrapper = wrapper_text(design)
    made = build(
        design.text + "\n" + wrapper,
        [*sources, _MODELS / "stream_player.sv", _MODELS / "stream_recorder.sv"],
        top=wrapper_name(design),
        name=name,
        public=wrapper_ports(design),
        waves=waves,
        fast=fast,
    )
    directory = BUILD_ROOT / "runs" / f"{name}-{os.getpid()}-{next(_run_numbers)}"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    arguments = [
        *plusargs,
        f"+seed={seed}",
        f"+max_cycles={max_cycles}",
        f"+drain={drain}",
        f"+reset_at={reset_at or 0}",
    ]
    for stream in design.streams:
        file = directory / f"{stream.name}.hex"
        arguments += [f"+{stream.name}_file={file}", f"+{stream.name}_stall={stalls[stream.name]}"]
        if stream.is_input:
            what = f"item of {stream.name!r}"
            items = [_pattern(what, item, stream.width) for item in inputs[stream.name]]
            file.write_text("".join(f"{item:x}\n" for item in items))
            arguments.append(f"+{stream.name}_items={len(items)}")
        else:
            arguments.append(f"+{stream.name}_items={outputs[stream.name]}")
    job = {
        "settings": {
            SETTING_PREFIX + signal.name: _pattern(
                f"setting {signal.name!r}", chosen.get(signal.name, signal.initial), signal.width
            )
            for signal in design.signals
            if signal.is_input
        },
        "observe": [OBSERVED_PREFIX + signal for signal in observe],
        "result": str(directory / "status.json"),
    }
    (directory / "job.json").write_text(json.dumps(job))
    run(
        made,
        "tb.models.stream_driver",
        directory=directory,
        plusargs=arguments,
        environment={"STREAM_JOB": str(directory / "job.json")},
        seed=seed,
        waves=waves,
    )
    status = json.loads((directory / "status.json").read_text())
    where = f" (seed {seed}, files in {directory})"
    recorded = {
        stream: [int(line, 16) for line in (directory / f"{stream}.hex").read_text().split()]
        for stream in design.stream_names(is_input=False)
    }
    extra = _judge(design, status, inputs, outputs, reset_at, where)
    if extra and not allow_extra:
        listed = ", ".join(f"{stream!r} {number}" for stream, number in extra.items())
        raise ExtraItems(f"{name} sent items too many: {listed}{where}")
    firsts = _fields(status["firsts"], design.stream_names(is_input=False))
    if not waves:
        shutil.rmtree(directory, ignore_errors=True)
    return Run(
        outputs={stream: items[: outputs[stream]] for stream, items in recorded.items()},
        cycles=status["busy_cycles"],
        observed={signal: status[OBSERVED_PREFIX + signal] for signal in observe},
        first_output_cycle={s: cycle for s, cycle in firsts.items() if cycle != _NONE_YET},
        extra_items=extra,
        seed=seed,
        directory=directory if waves else None,
    )


def _check_names(
    design: Design,
    inputs: Mapping[str, Any],
    outputs: Mapping[str, Any],
    settings: Mapping[str, Any],
    observe: Sequence[str],
) -> None:
    """Compare the names in a request with the ports of the design."""
    known = {
        "input stream": (set(inputs), set(design.stream_names(is_input=True)), True),
        "output stream": (set(outputs), set(design.stream_names(is_input=False)), True),
        "setting": (set(settings), set(design.signal_names(is_input=True)), False),
        "observed signal": (set(observe), set(design.signal_names(is_input=False)), False),
    }
    for kind, (given, present, complete) in known.items():
        unknown = sorted(given - present)
        if unknown:
            choices = ", ".join(sorted(present)) or "none"
            raise PortError(f"{design.name} has no {kind} {unknown[0]!r}; it has: {choices}")
        missing = sorted(present - given)
        if complete and missing:
            raise PortError(f"nothing is said about the {kind} {missing[0]!r} of {design.name}")


def _stall_steps(design: Design, stall: Stall) -> dict[str, int]:
    """Return per stream the stall probability in steps of 1/256."""
    names = [stream.name for stream in design.streams]
    wanted = dict(stall) if isinstance(stall, Mapping) else dict.fromkeys(names, stall)
    for stream, probability in wanted.items():
        if stream not in names:
            raise PortError(f"{design.name} has no stream {stream!r} to stall")
        if not 0 <= probability <= _MOST_STALL:
            raise PortError(
                f"stall of {stream!r} must be from 0 to {_MOST_STALL}, not {probability}"
            )
    return {name: round(_STALL_STEPS * wanted.get(name, 0.0)) for name in names}


def _pattern(what: str, value: int, width: int) -> int:
    """Return ``value`` as a bit pattern of ``width`` bits."""
    if not -(1 << (width - 1)) <= value < 1 << width:
        raise PortError(f"{what}: {value:#x} does not fit in {width} bits")
    return value & ((1 << width) - 1)


def _fields(packed: int, names: Sequence[str]) -> dict[str, int]:
    """Split a status port into its 32-bit fields, one per stream."""
    return {
        name: (packed >> (STATUS_BITS * index)) & (2**STATUS_BITS - 1)
        for index, name in enumerate(names)
    }


def _judge(
    design: Design,
    status: Mapping[str, int],
    inputs: Mapping[str, Sequence[int]],
    outputs: Mapping[str, int],
    reset_at: int | None,
    where: str,
) -> dict[str, int]:
    """Raise what the status of a run shows, or return the items too many per output stream."""
    sent, received = design.stream_names(is_input=True), design.stream_names(is_input=False)
    accepted = _fields(status["accepted"], sent)
    counts = _fields(status["counts"], received)
    broken_at = _fields(status["broken_at"], received)
    for stream, kind in _fields(status["broken"], received).items():
        if kind:
            what = "withdrew valid" if kind == 1 else "changed the payload"
            raise StreamRuleBroken(
                f"{design.name} {what} of {stream!r} before ready, in cycle "
                f"{broken_at[stream]}{where}"
            )
    if status["timed_out"]:
        short = [
            f"output {stream!r} gave {counts[stream]} of {wanted} items"
            for stream, wanted in outputs.items()
            if counts[stream] < wanted
        ]
        short += [
            f"input {stream!r} took {accepted[stream]} of {len(items)} items"
            for stream, items in inputs.items()
            if accepted[stream] < len(items)
        ]
        raise Hang(
            f"{design.name} was not done after {status['total_cycles']} cycles: "
            f"{'; '.join(short)}{where}"
        )
    if reset_at is not None and status["resets"] < 2:
        raise SimulationError(
            f"{design.name} was done after {status['busy_cycles']} cycles, before the reset at "
            f"cycle {reset_at}: choose an earlier one{where}"
        )
    return {
        stream: counts[stream] - wanted
        for stream, wanted in outputs.items()
        if counts[stream] > wanted
    }
