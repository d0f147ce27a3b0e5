"""Checks of what a test asks for, against the ports of the design."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from tb.harness.elaborate import Design, PortError

Stall: TypeAlias = float | Mapping[str, float]
"""Probability of a stall per cycle, 0 to 0.99, for all streams or by stream name (others 0)."""

_STALL_STEPS = 256
_MOST_STALL = 0.99


def check_names(
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


def stall_steps(design: Design, stall: Stall) -> dict[str, int]:
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


def pattern(what: str, value: int, width: int) -> int:
    """Return ``value`` as a bit pattern of ``width`` bits."""
    if not -(1 << (width - 1)) <= value < 1 << width:
        raise PortError(f"{what}: {value:#x} does not fit in {width} bits")
    return value & ((1 << width) - 1)
