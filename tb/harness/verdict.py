"""What the status of a run says: which stream broke its contract, if any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tb.harness.elaborate import Design
from tb.harness.execution import SimulationError
from tb.harness.wrapper import STATUS_BITS


class Hang(SimulationError):
    """The run reached its cycle limit; the message names the streams that were short."""


class ExtraItems(SimulationError):
    """A design sent more items than it should; the message names the streams."""


class StreamRuleBroken(SimulationError):
    """A design withdrew ``valid`` or changed a payload before ``ready``."""


def fields(packed: int, names: Sequence[str]) -> dict[str, int]:
    """Split a status port into its 32-bit fields, one per stream."""
    return {
        name: (packed >> (STATUS_BITS * index)) & (2**STATUS_BITS - 1)
        for index, name in enumerate(names)
    }


def judge(
    design: Design,
    status: Mapping[str, int],
    inputs: Mapping[str, Sequence[int]],
    outputs: Mapping[str, int],
    reset_at: int | None,
    where: str,
) -> dict[str, int]:
    """Raise what the status of a run shows, or return the items too many per output stream."""
    sent, received = design.stream_names(is_input=True), design.stream_names(is_input=False)
    accepted = fields(status["accepted"], sent)
    counts = fields(status["counts"], received)
    broken_at = fields(status["broken_at"], received)
    for stream, kind in fields(status["broken"], received).items():
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
