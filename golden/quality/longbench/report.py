"""The rows of a run as a table: datasets downwards, methods across."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.table import Table

from golden.quality.table import line_name

__all__ = ["console_table", "lines", "markdown_table"]

Row = dict[str, Any]


def _name(row: Row) -> str:
    return line_name(row["label"], row["dense_layers"])


def lines(rows: list[Row]) -> Iterator[list[str]]:
    """Headings, a line per dataset, the mean of the datasets, and the traffic of all together."""
    names = list(dict.fromkeys(map(_name, rows)))
    datasets = list(dict.fromkeys(row["task"] for row in rows))
    scores = {(row["task"], _name(row)): row["score"] for row in rows}
    yield ["dataset", *names]
    for dataset in datasets:
        yield [dataset, *(f"{scores[dataset, name]:.2f}" for name in names)]
    means = [sum(scores[dataset, name] for dataset in datasets) / len(datasets) for name in names]
    yield ["mean", *(f"{mean:.2f}" for mean in means)]
    yield ["traffic", *(f"{_share([row for row in rows if _name(row) == n]):.2%}" for n in names)]


def _share(rows: list[Row]) -> float:
    moved = sum(row["traffic"]["read"] + row["traffic"]["written"] for row in rows)
    return float(moved / sum(row["traffic"]["fp16"] for row in rows))


def console_table(rows: list[Row]) -> Table:
    """For the console."""
    top, *rest = lines(rows)
    table = Table(title="LongBench", box=None, padding=(0, 1, 0, 0))
    for index, heading in enumerate(top):
        table.add_column(heading, justify="right" if index else "left")
    for line in rest:
        table.add_row(*line)
    return table


def markdown_table(rows: list[Row]) -> str:
    """For a document."""
    top, *rest = lines(rows)
    rules = ["---"] + ["---:"] * (len(top) - 1)
    return "\n".join("| " + " | ".join(line) + " |" for line in (top, rules, *rest)) + "\n"
