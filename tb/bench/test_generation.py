"""The page about the writing side is that of the published figures, and its sums are right."""

from __future__ import annotations

import json
from itertools import combinations

import pytest
import torch

from hw.config import preset
from tb.bench.generation.__main__ import AREA, DOCUMENT, RESULT
from tb.bench.generation.measure import STEPS, measure_import, measure_steps
from tb.bench.generation.table import area_rows, document, import_rows, step_rows
from tb.generation.scenario import make_generation, spans, tensors_of


def test_the_page_is_that_of_the_figures() -> None:
    assert DOCUMENT.read_text() == document(json.loads(RESULT.read_text()))


def test_parts_add_up() -> None:
    report = json.loads(AREA.read_text())
    rows = area_rows(report)
    parts = [float(row[1]) for row in rows[1:]]
    assert sum(parts[:-1]) == pytest.approx(parts[-1], abs=0.3)
    assert parts[-1] == pytest.approx(report["logic"] / 1000, abs=0.1)
    assert all(part > 1 for part in parts)


def test_the_mean_is_over_all_steps() -> None:
    """A layer with three times the steps counts three times; every layer has its own row."""
    point = json.loads(RESULT.read_text())["steps"][-1]
    long = {name: dict(point[name]) for name in ("measured", "derived")}
    for label, figure in (
        ("measured", "steps"),
        ("measured", "bytes_read"),
        ("measured", "bytes_written"),
        ("derived", "dense16_bytes"),
    ):
        long[label][figure] *= 3
    long["measured"]["cycles"] *= 6
    rows = step_rows([point, {**point, **long}])[1:]
    assert [row[0].split(", ")[1] for row in rows] == [point["tensors"]] * 2 + ["mean of 2 layers"]
    first, second, mean = (float(row[3].replace(",", "")) for row in rows)
    assert second == pytest.approx(2 * first, abs=1)
    assert mean == pytest.approx((first + 3 * second) / 4, abs=1)
    assert rows[0][4:6] == rows[1][4:6] == rows[2][4:6]


def test_every_layer_and_head() -> None:
    """Of a layer every sequence has every KV head, each with its own tensors."""
    assert STEPS[1:] == tuple(("lm", layer) for layer in range(4))
    tiny = preset("tiny")
    golden, _ = make_generation(tiny, 1, 0)
    assert len(golden.placements) == 2 * len(spans(tiny))
    keys = []
    for layer in (0, 3):
        tensors, source = tensors_of(preset("lm"), 1, [(40, 0), (40, 1)], layer)
        assert source == f"captured from layer {layer} of the trained model"
        keys += [head.keys for head in tensors]
    assert not any(torch.equal(a, b) for a, b in combinations(keys, 2))


@pytest.mark.slow
def test_figures_add_up() -> None:
    steps = measure_steps("tiny", None, 2)
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
