"""The rows of a run as tables, for the console and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.table import Table

from golden.quality.rows import measure_of

__all__ = [
    "SECTIONS",
    "cells",
    "console_tables",
    "headings",
    "line_name",
    "markdown_table",
    "section",
]

Row = dict[str, Any]
#: Headings of the parts of the table, in order.
SECTIONS = ("Every layer compressed", "First layers in FP16", "Controls")
#: Headings of measures that are not headed by their own label.
_MEASURES = {"text": "bits per byte over FP16"}


def section(row: Row) -> str:
    """Which part of the table a row belongs to."""
    if row["control"]:
        return SECTIONS[2]
    return SECTIONS[1] if row["dense_layers"] else SECTIONS[0]


def line_name(label: str, dense_layers: int) -> str:
    """Of a point: its label, and the layers that stay in FP16."""
    return f"{label}, layers 0-{dense_layers - 1} FP16" if dense_layers else label


def headings(rows: list[Row]) -> list[str]:
    """Of the columns."""
    return ["method", "traffic", *(_MEASURES.get(name, name) for name in _columns(rows))]


def _columns(rows: list[Row]) -> list[str]:
    return list(dict.fromkeys(measure_of(row).label for row in rows))


def _measure(row: Row) -> str:
    """Mean and interval: shares in percent, text as the difference to FP16."""
    if row["task"] == "text":
        gap = row["difference"]
        if gap is None or not any(gap.values()):
            return f"{row['mean']:.3f} in all"
        return f"{gap['mean']:+.3f} ({gap['low']:+.3f} .. {gap['high']:+.3f})"
    return f"{row['mean']:.1%} ({row['low']:.0%} .. {row['high']:.0%})"


def cells(rows: list[Row], part: str, context: int) -> Iterator[list[str]]:
    """The texts of each line of one part at one context, a method's lines together.

    Traffic is that of the first task.
    """
    lines: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        if section(row) == part and row["context"] == context:
            lines.setdefault((row["label"], row["dense_layers"]), []).append(row)
    methods = list(dict.fromkeys(found[0]["method"] for found in lines.values()))
    order = sorted(
        lines.items(), key=lambda line: (methods.index(line[1][0]["method"]), line[1][0]["share"])
    )
    for (label, dense_layers), found in order:
        by_column = {measure_of(row).label: row for row in found}
        name = line_name(label, dense_layers)
        measures = [
            _measure(by_column[column]) if column in by_column else "" for column in _columns(rows)
        ]
        yield [name, f"{found[0]['share']:.2%}", *measures]


def console_tables(rows: list[Row]) -> Iterator[Table]:
    """A table per part and context."""
    for context in sorted({row["context"] for row in rows}):
        for part in SECTIONS:
            lines = list(cells(rows, part, context))
            if lines:
                table = Table(title=f"{part}, {context} tokens", box=None, padding=(0, 1, 0, 0))
                for index, heading in enumerate(headings(rows)):
                    table.add_column(heading, justify="right" if index else "left")
                for line in lines:
                    table.add_row(*line)
                yield table


def markdown_table(rows: list[Row], part: str, context: int) -> str:
    """One part at one context; empty if it has no lines."""
    lines = list(cells(rows, part, context))
    if not lines:
        return ""
    top = headings(rows)
    rules = ["---"] + ["---:"] * (len(top) - 1)
    return "\n".join("| " + " | ".join(line) + " |" for line in (top, rules, *lines)) + "\n"
