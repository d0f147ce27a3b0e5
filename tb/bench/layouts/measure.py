"""One figure per layout: bytes by the device's count, clocks at the pins, clocks by formula."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hw.config import preset
from tb.bench.layouts.layouts import (
    LAYOUTS,
    ScaleLayout,
    bound_cycles,
    distinct_groups,
    jobs_stream,
)
from tb.bench.layouts.replay import replay
from tb.bench.layouts.selections import golden_selections

STANDARDS = ("hbm2-2000", "lpddr5-6400-x16")


@dataclass(frozen=True)
class Point:
    """What all layouts are measured on: jobs of one preset at one context."""

    preset: str
    context: int
    jobs: int


POINTS = (
    Point("lm", 2048, 8),
    Point("paper", 2048, 4),
    Point("paper", 4096, 4),
    Point("paper", 8192, 4),
)


def measure(
    point: Point, seed: int, standards: tuple[str, ...] = STANDARDS
) -> list[dict[str, Any]]:
    """Measure every layout on the same selections.

    Raises
    ------
    WrongTraffic, HarnessError
        See `replay`.
    """
    config = preset(point.preset)
    source, selections = golden_selections(config, point.context, seed, point.jobs)
    jobs = len(selections)
    selected = sum(map(len, selections))
    groups = sum(distinct_groups(chunks, config) for chunks in selections)
    closed = config.closed_tokens(point.context) // config.chunk
    found = []
    for name in LAYOUTS:
        layout = ScaleLayout(name, config)
        segments = jobs_stream(layout, selections, point.context)
        replays = {standard: replay(config, standard, segments) for standard in standards}
        size = sum(segment.size for segment in segments)
        assert all(replayed.bytes_moved == size for replayed in replays.values())
        bound = sum(bound_cycles(layout, chunks, point.context) for chunks in selections)
        found.append(
            {
                "preset": point.preset,
                "context": point.context,
                "layout": name,
                "seed": seed,
                "tensors": source,
                "jobs": jobs,
                "derived": {
                    "groups_per_chunk": groups / selected,
                    "stored_bytes": layout.stored_bytes(closed),
                    "cycles_of_an_ideal_memory": bound / jobs,
                },
                "measured": {
                    "bytes": size / jobs,
                    "clocks": {name: r.cycles / jobs for name, r in replays.items()},
                    "activations": {name: r.activations for name, r in replays.items()},
                },
            }
        )
    return found
