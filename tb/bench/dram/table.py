"""The figures as a table: for the console and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.table import Table

from hw.memory.dram import load_standard
from tb.bench.dram.gaps import CLASSES
from tb.memory.dram.energy import modelled_energy, per_bit

#: Column heading and where its figures come from.
COLUMNS = (
    ("standard", ""),
    ("case", ""),
    ("gear", ""),
    ("refresh", ""),
    ("outstanding", ""),
    ("clocks", "measured"),
    ("bytes", "measured"),
    ("activations", "measured"),
    ("refreshes", "measured"),
    ("useful", "derived"),
    ("cap", "derived"),
    ("target", ""),
    ("met", "derived"),
    ("pJ/bit", "modelled"),
)


def target_text(derived: dict[str, Any]) -> str:
    """Whether the target is met, as a word."""
    met = derived["target_met"]
    return "" if met is None else "yes" if met else "no"


def energy_text(point: dict[str, Any]) -> str:
    """Picojoules per bit moved in the whole run, for every bit moved was asked for."""
    run, standard = point["measured"]["run"], point["standard"]
    channels = load_standard(standard).pseudo_channels
    energy = modelled_energy(standard, run, clocks=run["clocks"], channels=channels)
    return "" if energy is None else f"{per_bit(energy, run['bytes']):.2f}"


def cells(points: list[dict[str, Any]]) -> Iterator[tuple[str, ...]]:
    """The texts of each row."""
    for p in points:
        stretch, derived = p["measured"]["stretch"], p["derived"]
        target = derived["target"]
        yield (
            p["standard"],
            p["case"],
            str(p["gear"]),
            p["refresh"].replace("_", "-"),
            str(p["outstanding_bursts"]),
            f"{stretch['clocks']:,}",
            f"{stretch['bytes']:,}",
            f"{stretch['activations']:,}",
            f"{stretch['refreshes']:,} of {derived['refreshes_due']:,}",
            f"{derived['useful_fraction']:.4f}",
            f"{derived['cap']:.4f}",
            "" if target is None else f"{target:.4f}",
            target_text(derived),
            energy_text(p),
        )


def idle_cells(points: list[dict[str, Any]]) -> Iterator[tuple[str, ...]]:
    """The texts of each row of the second table: idle clocks of the data bus by what ended them."""
    for p in points:
        idle = p["derived"]["idle_share"]
        name = (p["standard"], p["case"], str(p["gear"]), p["refresh"].replace("_", "-"))
        yield (
            *name,
            str(p["outstanding_bursts"]),
            f"{sum(idle.values()):.2%}",
            *(f"{idle[kind]:.2%}" for kind in CLASSES),
        )


def console_table(points: list[dict[str, Any]]) -> Table:
    """The table for a terminal of 80 columns: without the counts."""
    table = Table(box=None, padding=(0, 1, 0, 0))
    shown = [i for i, (_, label) in enumerate(COLUMNS) if label != "measured"]
    for i in shown:
        table.add_column(COLUMNS[i][0], justify="left" if i < 2 else "right", no_wrap=True)
    for row in cells(points):
        table.add_row(*(row[i] for i in shown))
    return table


def markdown_table(points: list[dict[str, Any]]) -> str:
    """The table for a document, with the label of every figure."""
    headings = [f"{name} ({label})" if label else name for name, label in COLUMNS]
    return _markdown(headings, cells(points))


def idle_table(points: list[dict[str, Any]]) -> str:
    """The second table for a document."""
    headings = [name for name, _ in COLUMNS[:5]]
    return _markdown([*headings, "idle", *CLASSES], idle_cells(points))


def _markdown(headings: list[str], rows: Iterator[tuple[str, ...]]) -> str:
    lines = [headings, ["---"] * 2 + ["---:"] * (len(headings) - 2), *map(list, rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
