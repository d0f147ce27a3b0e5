"""The energy columns of the table at the DRAM pins."""

from __future__ import annotations

from typing import Any

import pytest

from hw.memory.dram import dram_energy, load_energy, load_standard
from tb.bench.accelerator.table import markdown_table

COUNTS = {"activations": 10, "reads": 1000, "writes": 0}
COUNTS |= {"all_bank_refreshes": 0, "per_bank_refreshes": 4}


def point(mode: str, times: int, **fields: Any) -> dict[str, Any]:
    """A point whose DRAM did ``times`` as much."""
    derived = {"pin_bytes_per_job": 1.0, "useful_utilisation": 0.5, "pin_utilisation": 0.5}
    derived |= {"share_of_dense16": 1.0, "required_bytes": 32_000}
    shape = {"preset": "paper", "mode": mode, "standard": "hbm2-2000", "context": 2048}
    counts = {name: times * count for name, count in COUNTS.items()}
    measured = {"cycles": 2000 * times, "dram": counts}
    shape |= {"slices": 1, "jobs": 8, "measured": measured, "derived": derived}
    return shape | fields


def energies(points: list[dict[str, Any]]) -> list[list[str]]:
    """Return the cells of both columns, a row each."""
    rows = markdown_table(points).splitlines()[2:]
    return [[cell.strip() for cell in row.split("|")[-3:-1]] for row in rows]


def test_energy_per_bit_and_of_a_dense_job() -> None:
    table = load_energy(load_standard("hbm2-2000"))
    assert table is not None
    once = sum(dram_energy(table, COUNTS, clocks=2000).values()) / (8 * 32_000)
    found = energies([point("kvo", 1), point("dense16", 2, jobs=4), point("kvo", 2, jobs=16)])
    assert [float(each) for each, _ in found] == pytest.approx([once, 2 * once, 2 * once], abs=0.01)
    assert [share for _, share in found] == ["25.00%", "100.00%", "25.00%"]


def test_without_a_baseline_or_a_table() -> None:
    dense = point("dense16", 4, context=4096)
    wide = point("dense16", 4, slices=4)
    assert energies([point("kvo", 1), dense, wide])[0][1] == ""
    assert energies([point("kvo", 1, standard="hbm3-6400")]) == [["no table", ""]]
