"""A picture of the rows: traffic against each measure of quality."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
# The same figures give the same file.
mpl.rcParams["svg.hashsalt"] = "kvforge"

from matplotlib.axes import Axes  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.ticker import FuncFormatter, NullFormatter  # noqa: E402

from golden.quality.rows import measure_of  # noqa: E402

__all__ = ["draw", "pareto"]

Row = dict[str, Any]
COLOURS = ("#3b6ea8", "#e08e45", "#4f9d69", "#b0413e", "#7fb0dd", "#8f6bb3", "#a5cf8b", "#7a5c3e")
MARKERS = "osD^vP*X"
TITLES = {
    "text": "bits per byte over FP16",
    "copy": "copy, letters right",
    "recall": "recall, values right",
    "needle": "needle, values right",
}


def pareto(rows: list[Row]) -> list[Row]:
    """Rows of one measure that no other beats in both traffic and quality, by traffic."""
    sign = -1 if rows and rows[0]["task"] == "text" else 1
    front: list[Row] = []
    best = float("-inf")
    for row in sorted(rows, key=lambda row: (row["share"], -sign * row["mean"])):
        if sign * row["mean"] > best:
            best = sign * row["mean"]
            front.append(row)
    return front


def _height(row: Row) -> tuple[float, float, float]:
    """Mean and ends of the interval, as drawn."""
    source = row["difference"] if row["task"] == "text" and row["difference"] else row
    return source["mean"], source["low"], source["high"]


def _title(row: Row) -> str:
    measure = measure_of(row)
    title = TITLES.get(measure.task, measure.task)
    return f"{title}, free generation" if measure.generation == "free" else title


def _panel(axis: Axes, rows: list[Row], methods: list[str]) -> None:
    front = pareto([row for row in rows if not row["dense_layers"]])
    axis.plot(
        [row["share"] for row in front],
        [_height(row)[0] for row in front],
        color="#b9b9b9",
        linewidth=1,
        zorder=1,
        label="Pareto front, every layer",
    )
    for method in methods:
        swept = [row for row in rows if row["method"] == method and not row["dense_layers"]]
        swept.sort(key=lambda row: row["share"])
        colour = COLOURS[methods.index(method) % len(COLOURS)]
        heights = [_height(row)[0] for row in swept]
        axis.plot([row["share"] for row in swept], heights, color=colour, linewidth=0.5)
    for row in rows:
        index = methods.index(row["method"])
        mean, low, high = _height(row)
        colour = COLOURS[index % len(COLOURS)]
        axis.errorbar(
            row["share"],
            mean,
            yerr=[[max(0.0, mean - low)], [max(0.0, high - mean)]],
            color=colour,
            marker=MARKERS[(index + index // len(COLOURS)) % len(MARKERS)],
            markersize=4,
            markerfacecolor="white" if row["dense_layers"] else colour,
            linewidth=0.6,
            linestyle="none",
            label=row["method"],
        )
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(mpl.ticker.FixedLocator([0.02, 0.05, 0.1, 0.2, 0.5, 1.0]))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:.0%}"))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_title(_title(rows[0]), fontsize=8)
    axis.tick_params(labelsize=7)
    axis.spines[["top", "right"]].set_visible(False)


def draw(rows: list[Row], path: Path) -> None:
    """Write an SVG with a panel per measure at the longest context; controls are left out."""
    context = max(row["context"] for row in rows)
    shown = [
        row
        for row in rows
        # A model that was not trained to share layers leaves no room for the others' differences.
        if row["context"] == context and not row["control"] and row["method"] != "cross-layer"
    ]
    measures = list(dict.fromkeys(measure_of(row) for row in shown))
    methods = list(dict.fromkeys(row["method"] for row in shown))
    lines = -(-len(measures) // 2)
    figure = Figure(figsize=(9, 0.8 + 2.6 * lines), layout="constrained")
    axes = figure.subplots(lines, 2, squeeze=False).flatten()
    for axis, measure in zip(axes, measures, strict=False):
        _panel(axis, [row for row in shown if measure_of(row) == measure], methods)
    for axis in axes[len(measures) :]:
        axis.set_visible(False)
    figure.supxlabel(
        f"traffic, share of FP16's (measured, {context} tokens); hollow: first layers in FP16",
        fontsize=8,
    )
    handles, labels = axes[0].get_legend_handles_labels()
    # The first handle of a label: that with every layer compressed.
    unique = dict(zip(reversed(labels), reversed(handles), strict=True))
    names = list(dict.fromkeys(labels))
    figure.legend(
        [unique[name] for name in names], names, loc="outside upper center", ncols=5, fontsize=7
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="svg", metadata={"Date": None})
