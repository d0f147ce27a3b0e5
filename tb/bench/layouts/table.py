"""The figures of the layouts as a document."""

from __future__ import annotations

from typing import Any

from tb.bench.layouts.layouts import LAYOUTS

_TEXT = """# Layouts of the value groups' scales

Made by `python -m tb.bench.layouts --publish` from `results/layouts.json`; do not edit. All chunks
of a value group have the same scales. What a job reads of each layout, for chunks that the golden
model selects, goes through the core's fetch unit, the RTL DRAM controller and the device model.

{layouts}

Except for `chunk`, the selected chunks of a group follow each other, groups in the order of their
best chunk.

{table}
*Groups*: value groups with a selected chunk, over selected chunks (derived). *Bytes* a job:
{measured}. *Stored*: closed chunks of one head (derived). *Ideal memory*: {derived}. *Clocks* a
job at the pins (measured): {clocks}. In brackets the difference from `chunk`.

Seed {seed}; tensors: {tensors}.
"""


def _difference(value: float, reference: float) -> str:
    return f"{value:,.0f}" if value == reference else f"{value:,.0f} ({value / reference - 1:+.1%})"


def markdown_table(points: list[dict[str, Any]]) -> str:
    """One line per case and layout."""
    standards = list(points[0]["measured"]["clocks"])
    headings = ["case", "groups", "layout", "bytes", "stored", "ideal memory"]
    headings += [f"{standard} clocks" for standard in standards]
    lines = [headings, ["---"] * len(headings)]
    for p in points:
        same = next(
            q
            for q in points
            if (q["preset"], q["context"], q["layout"]) == (p["preset"], p["context"], "chunk")
        )
        figures = [
            (point["measured"]["bytes"], *_derived(point), *point["measured"]["clocks"].values())
            for point in (p, same)
        ]
        lines.append(
            [
                f"`{p['preset']}` at {p['context']}",
                f"{p['derived']['groups_per_chunk']:.3f}",
                p["layout"],
                *(_difference(*both) for both in zip(*figures, strict=True)),
            ]
        )
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _derived(point: dict[str, Any]) -> tuple[float, float]:
    derived = point["derived"]
    return derived["stored_bytes"], derived["cycles_of_an_ideal_memory"]


def document(facts: dict[str, Any]) -> str:
    """The text of docs/value_scale_layouts.md."""
    points = facts["points"]
    tensors = {f"`{p['preset']}` {p['tensors']}" for p in points}
    return _TEXT.format(
        layouts="\n".join(f"* `{name}`: {meaning}." for name, meaning in LAYOUTS.items()),
        table=markdown_table(points),
        seed=points[0]["seed"],
        tensors="; ".join(sorted(tensors)),
        **facts["labels"],
    )
