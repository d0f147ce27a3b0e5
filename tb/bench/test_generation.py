"""The page about the writing side is that of the published figures, and its sums are right."""

from __future__ import annotations

import json

import pytest

from tb.bench.generation.__main__ import AREA, DOCUMENT, RESULT
from tb.bench.generation.measure import measure_import, measure_steps
from tb.bench.generation.table import area_rows, document, import_rows, step_rows


def test_the_page_is_that_of_the_figures() -> None:
    assert DOCUMENT.read_text() == document(json.loads(RESULT.read_text()))


def test_parts_add_up() -> None:
    report = json.loads(AREA.read_text())
    rows = area_rows(report)
    parts = [float(row[1]) for row in rows[1:]]
    assert sum(parts[:-1]) == pytest.approx(parts[-1], abs=0.3)
    assert parts[-1] == pytest.approx(report["logic"] / 1000, abs=0.1)
    assert all(part > 1 for part in parts)


@pytest.mark.slow
def test_figures_add_up() -> None:
    steps = measure_steps("tiny", 2)
    assert steps["measured"]["steps"] == steps["measured"]["tokens_appended"]
    assert 0 < steps["derived"]["written_share"] < steps["derived"]["traffic"] < 1
    imported = measure_import("tiny", 48, 2)
    assert imported["measured"]["windows"] == 2
    # 160 B of source and 160 of tail a token, and what the two windows read and write.
    assert 20 < imported["derived"]["beats_per_token"] < 45
    # Each port gives a beat a cycle at most.
    steady = imported["derived"]["steady"]
    assert max(steady["read_per_token"], steady["written_per_token"]) <= steady["cycles_per_token"]
    assert steady["over_beats"] > -0.01
    assert len(step_rows([steps])) == len(import_rows([imported])) == 2
