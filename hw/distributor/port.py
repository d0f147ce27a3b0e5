"""The streams between jobs and slices."""

from dataclasses import dataclass

from amaranth.hdl import Shape
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import BEAT_BITS


@dataclass(frozen=True, kw_only=True)
class JobStreams:
    """The payloads of a slice's streams, and how many items a job has.

    Parameters
    ----------
    job
        The descriptor; it has the unsigned fields ``sequence``, ``layer`` and ``kv_head``.
    query, output
        Beats of a job: ``query_beats`` and ``output_beats`` of them.
    token_beats
        Beats of 16 bytes that a job brings on ``token`` if it appends one; 0 if no job does, and
        then there is no such stream.
    selection
        Items; the last one of a job has ``last``.
    completion
        It has the field ``status``, a `hw.formats.Status`.
    most_selected
        Most items that a job selects, at least 1.
    jobs_in_flight
        Jobs that a slice holds at once, at least 1.

    Raises
    ------
    ValueError
        A field of a payload is missing, or a number is below 1.
    """

    job: data.StructLayout
    query: Shape | data.Layout
    selection: data.StructLayout
    output: Shape | data.Layout
    completion: data.StructLayout
    query_beats: int
    output_beats: int
    most_selected: int
    jobs_in_flight: int
    token_beats: int = 0

    def __post_init__(self) -> None:
        needed = {
            "job": ("sequence", "layer", "kv_head"),
            "selection": ("last",),
            "completion": ("status",),
        }
        for name, fields in needed.items():
            for field in fields:
                if field not in getattr(self, name).members:
                    raise ValueError(f"{name} must have a field {field!r}")
        for name in ("query_beats", "output_beats", "most_selected", "jobs_in_flight"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)!r}")

    @property
    def signature(self) -> wiring.Signature:
        """The streams of a slice, from the side that sends it jobs."""
        token = {"token": Out(stream.Signature(BEAT_BITS))} if self.token_beats else {}
        return wiring.Signature(
            {
                "job": Out(stream.Signature(self.job)),
                "query": Out(stream.Signature(self.query)),
                **token,
                "selection": In(stream.Signature(self.selection)),
                "output": In(stream.Signature(self.output)),
                "completion": In(stream.Signature(self.completion)),
            }
        )
