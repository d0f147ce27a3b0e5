"""The points as a table: for the console and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.table import Table

#: Column heading and where its figures come from.
COLUMNS = (
    ("preset", ""),
    ("mode", ""),
    ("context", ""),
    ("cycles/job", "measured"),
    ("bytes/job", "measured"),
    ("traffic", "derived"),
    ("roofline", "derived"),
    ("PE", "derived"),
    ("speed-up", "derived"),
    ("bound", "derived"),
)


def cells(points: list[dict[str, Any]]) -> Iterator[tuple[str, ...]]:
    """The texts of each row."""
    for p in points:
        measured, derived = p["measured"], p["derived"]
        speedup = "speedup_over_dense16" in derived
        yield (
            p["preset"],
            p["mode"],
            str(p["context"]),
            f"{measured['cycles'] / p['jobs']:,.0f}",
            f"{measured['memory_bytes'] / p['jobs']:,.0f}",
            f"{derived['traffic_of_dense16']:.2%}",
            f"{derived['roofline_ratio']:.3f}",
            f"{derived['pe_utilisation']:.3f}",
            f"{derived['speedup_over_dense16']:.2f}x" if speedup else "",
            f"{derived['bound_of_speedup']:.2f}x" if speedup else "",
        )


def console_table(points: list[dict[str, Any]]) -> Table:
    """The table for a terminal."""
    table = Table(box=None, padding=(0, 1, 0, 0))
    for index, (heading, _) in enumerate(COLUMNS):
        table.add_column(heading, justify="left" if index < 2 else "right", no_wrap=True)
    for row in cells(points):
        table.add_row(*row)
    return table


def markdown_table(points: list[dict[str, Any]]) -> str:
    """The table for a document, with the label of every figure."""
    headings = [f"{name} ({label})" if label else name for name, label in COLUMNS]
    rows = [headings, ["---"] * 2 + ["---:"] * (len(headings) - 2), *map(list, cells(points))]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"
