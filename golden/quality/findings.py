"""What the rows of a run say, in sentences made from them."""

from __future__ import annotations

from typing import Any

from golden.quality.rows import measure_of
from golden.quality.summary import EQUAL, KEPT_BITS, KEPT_POINTS, kept_share, nearest

__all__ = ["findings"]

Row = dict[str, Any]


def findings(rows: list[Row]) -> list[str]:
    """Sentences on the longest context, teacher-forced; none where the rows do not allow it."""
    forced = [row for row in rows if measure_of(row).generation == "teacher-forced"]
    context = max((row["context"] for row in forced), default=0)
    here = [row for row in forced if row["context"] == context]
    if not here:
        return []
    found = (_kept(here), _equal_traffic(here), _whole_layers(here), _controls(here))
    return [sentence for sentence in found if sentence]


def _percent(row: Row) -> str:
    return f"{row['label']}: {row['mean']:.0%}"


def _kept(rows: list[Row]) -> str:
    """Who keeps the model's quality, and at what traffic."""
    context = rows[0]["context"]
    methods = dict.fromkeys(row["method"] for row in rows if row["method"] != "FP16")
    shares = {method: kept_share(rows, method, context) for method in methods}
    kept = sorted((share, method) for method, share in shares.items() if share is not None)
    if not kept:
        return ""
    others = ". No setting of another method keeps them." if len(kept) < len(methods) else "."
    return (
        f"Least traffic with copy and recall within {100 * KEPT_POINTS:g} point and bits per byte "
        f"within {KEPT_BITS:.0%} of FP16, at {context} tokens with every layer compressed. "
        + "; ".join(f"{method}: {share:.2%}" for share, method in kept)
        + others
    )


def _equal_traffic(rows: list[Row]) -> str:
    """Who recalls best at the traffic of KVO as published, each method by its nearest setting."""
    ranked = nearest(rows, "recall", rows[0]["context"])
    if not ranked:
        return ""
    return (
        f"Recall at about the traffic of KVO as published ({ranked['KVO']['share']:.1%} of FP16, "
        f"within {EQUAL:.0%}). " + "; ".join(map(_percent, ranked.values())) + "."
    )


def _whole_layers(rows: list[Row]) -> str:
    """Whether whole layers hide the differences."""
    tasks = ("copy", "recall", "needle")
    whole = [row for row in rows if row["dense_layers"] and row["task"] in tasks]
    if not whole:
        return ""
    worst = min(whole, key=lambda row: row["mean"])
    text = (
        "With the first layers in FP16 the lowest share of right answers, over all methods and "
        f"tasks, is {worst['mean']:.0%} ({worst['label']}, {worst['task']})"
    )
    if worst["mean"] > 0.9:
        text += (
            ": this model looks things up in those layers, so the comparison with whole layers "
            "says nothing about what a method does to retrieval"
        )
    return text + "."


def _controls(rows: list[Row]) -> str:
    """Which rankings are no better than random ones in any retrieval task."""
    labels = {row["label"] for row in rows if row["control"] and "shuffled" in row["label"]}
    idle = []
    for label in sorted(labels):
        named = label.replace(", shuffled", "")
        pairs = [
            (row, control)
            for row in rows
            for control in rows
            if row["label"] == named
            and not row["dense_layers"]
            and control["label"] == label
            and row["task"] == control["task"] != "text"
        ]
        if pairs and all(row["low"] <= control["high"] for row, control in pairs):
            idle.append(named)
    if not labels:
        return ""
    if not idle:
        return "Every ranking that was shuffled as a control beats its control in some task."
    return (
        f"No better than a random ranking, by the intervals, in any of copy, recall and needle: "
        f"{', '.join(idle)}."
    )
