"""A picture of the points: cycles per job, by what crossed the memory port in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
# The same figures give the same file.
mpl.rcParams["svg.hashsalt"] = "kvforge"

from matplotlib.figure import Figure  # noqa: E402

COLOURS = {
    "base keys": "#3b6ea8",
    "deltas": "#7fb0dd",
    "values": "#e08e45",
    "tail keys": "#4f9d69",
    "tail values": "#a5cf8b",
    "port idle": "#b9b9b9",
}


def draw(points: list[dict[str, Any]], path: Path) -> None:
    """Write an SVG with one bar per point; each preset and context to the scale of its longest."""
    groups: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for point in points:
        groups.setdefault((point["preset"], point["context"]), []).append(point)
    figure = Figure(figsize=(9, 0.7 + 0.75 * len(groups)), layout="constrained")
    axes = figure.subplots(len(groups), squeeze=False)[:, 0]
    for axis, ((preset, context), members) in zip(axes, groups.items(), strict=True):
        left = [0.0] * len(members)
        names = [member["mode"] for member in members]
        for phase, colour in COLOURS.items():
            width = [m["derived"]["cycles_by_phase"][phase] / m["jobs"] for m in members]
            axis.barh(names, width, left=left, color=colour, label=phase, height=0.7)
            left = [x + w for x, w in zip(left, width, strict=True)]
        axis.invert_yaxis()
        axis.set_ylabel(f"{preset}\n{context}", rotation=0, ha="right", va="center", fontsize=8)
        axis.tick_params(labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
    axes[-1].set_xlabel("cycles per job (measured)", fontsize=8)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(COLOURS), fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="svg", metadata={"Date": None})
