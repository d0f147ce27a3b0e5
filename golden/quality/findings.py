"""What the rows of a run say, in sentences made from them."""

from __future__ import annotations

from typing import Any

__all__ = ["findings"]

Row = dict[str, Any]
#: Rows whose traffic differs less than this from KVO's count as equal.
EQUAL = 0.15


def findings(rows: list[Row]) -> list[str]:
    """Sentences on the longest context; none where the rows do not allow it."""
    context = max(row["context"] for row in rows)
    here = [row for row in rows if row["context"] == context]
    found = (_equal_traffic(here), _whole_layers(here), _controls(here))
    return [sentence for sentence in found if sentence]


def _percent(row: Row) -> str:
    return f"{row['label']}: {row['mean']:.0%}"


def _equal_traffic(rows: list[Row]) -> str:
    """Who recalls best at the traffic of KVO as published, each method by its nearest setting."""
    recall = [
        row
        for row in rows
        if row["task"] == "recall" and not row["dense_layers"] and not row["control"]
    ]
    published = [row for row in recall if row["label"] == "KVO"]
    if not published:
        return ""
    share = published[0]["share"]
    nearest: dict[str, Row] = {}
    for row in sorted(recall, key=lambda row: abs(row["share"] / share - 1)):
        if abs(row["share"] / share - 1) <= EQUAL:
            nearest.setdefault(row["method"], row)
    ranked = sorted(nearest.values(), key=lambda row: -row["mean"])
    return (
        f"Recall at about the traffic of KVO as published ({share:.1%} of FP16, within "
        f"{EQUAL:.0%}). " + "; ".join(map(_percent, ranked)) + "."
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
