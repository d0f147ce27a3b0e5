"""Tables over all contexts: what keeps the model's quality, and what equal traffic buys."""

from __future__ import annotations

from typing import Any

from golden.quality.rows import measure_of

__all__ = [
    "EQUAL",
    "KEPT_BITS",
    "KEPT_POINTS",
    "equal_table",
    "keeps",
    "kept_share",
    "kept_table",
    "nearest",
]

Row = dict[str, Any]
#: Share of answers that copy and recall may lose to FP16, each, and still count as kept.
KEPT_POINTS = 0.01
#: Share of FP16's bits per byte that text may gain and still count as kept.
KEPT_BITS = 0.01
#: Rows whose traffic differs less than this from KVO's count as equal.
EQUAL = 0.15
_REQUIRED = ("text", "copy", "recall")


def _compressed(rows: list[Row], context: int) -> list[Row]:
    """Teacher-forced rows with every layer compressed, controls left out."""
    return [
        row
        for row in rows
        if row["context"] == context
        and not row["dense_layers"]
        and not row["control"]
        and measure_of(row).generation == "teacher-forced"
    ]


def keeps(by_task: dict[str, Row]) -> bool:
    """Whether the rows of one setting, by task, keep copy, recall and text within the bounds.

    The means are compared, on the same sequences as FP16's; False if a task or FP16 was not
    measured.
    """
    if not all(task in by_task and by_task[task]["difference"] for task in _REQUIRED):
        return False
    text = by_task["text"]
    gain = text["difference"]["mean"]
    # A loss of exactly the bound is within it, whatever its last bit.
    slack = 1e-9
    return gain <= KEPT_BITS * (text["mean"] - gain) + slack and all(
        by_task[task]["difference"]["mean"] >= -KEPT_POINTS - slack for task in ("copy", "recall")
    )


def kept_share(rows: list[Row], method: str, context: int) -> float | None:
    """Least traffic at which a setting of ``method`` keeps quality, its worst task's; or None."""
    settings: dict[str, dict[str, Row]] = {}
    for row in _compressed(rows, context):
        if row["method"] == method:
            settings.setdefault(row["label"], {})[row["task"]] = row
    shares = [
        max(by_task[task]["share"] for task in _REQUIRED)
        for by_task in settings.values()
        if keeps(by_task)
    ]
    return min(shares, default=None)


def nearest(rows: list[Row], task: str, context: int) -> dict[str, Row]:
    """By method, the row of ``task`` nearest to the traffic of KVO as published; best first.

    Methods farther off than `EQUAL` are left out; without KVO there is none.
    """
    here = [row for row in _compressed(rows, context) if row["task"] == task]
    published = [row["share"] for row in here if row["label"] == "KVO"]
    if not published:
        return {}
    found: dict[str, Row] = {}
    for row in sorted(here, key=lambda row: abs(row["share"] / published[0] - 1)):
        if abs(row["share"] / published[0] - 1) <= EQUAL:
            found.setdefault(row["method"], row)
    return dict(sorted(found.items(), key=lambda item: -float(item[1]["mean"])))


def _markdown(top: list[str], lines: list[list[str]]) -> str:
    rules = ["---", *["---:"] * (len(top) - 1)]
    return "\n".join("| " + " | ".join(line) + " |" for line in (top, rules, *lines)) + "\n"


def _contexts(rows: list[Row]) -> list[int]:
    return sorted({row["context"] for row in rows})


def kept_table(rows: list[Row]) -> str:
    """A line per method and a column per context with `kept_share`, least first at the longest."""
    contexts = _contexts(rows)
    methods = dict.fromkeys(
        row["method"] for row in rows if not row["control"] and row["method"] != "FP16"
    )
    shares = {m: [kept_share(rows, m, context) for context in contexts] for m in methods}
    order = sorted(shares, key=lambda m: [1.0 if s is None else s for s in reversed(shares[m])])
    lines = [[m, *("none" if s is None else f"{s:.2%}" for s in shares[m])] for m in order]
    return _markdown(["method", *(f"{context} tokens" for context in contexts)], lines)


def equal_table(rows: list[Row], task: str) -> str:
    """A line per method and a column per context: `nearest`; the first line has KVO's traffic."""
    contexts = _contexts(rows)
    columns = [nearest(rows, task, context) for context in contexts]
    methods = dict.fromkeys(method for column in reversed(columns) for method in column)
    traffic = [f"{column['KVO']['share']:.2%}" if column else "" for column in columns]
    lines = [["*traffic of KVO*", *traffic]]
    lines += [[m, *(f"{c[m]['mean']:.1%}" if m in c else "" for c in columns)] for m in methods]
    return _markdown(["method", *(f"{context} tokens" for context in contexts)], lines)
