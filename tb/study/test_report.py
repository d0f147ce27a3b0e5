"""The published area study: made from its results, for today's published size."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hw.study.__main__ import DOCUMENT, RESULTS
from hw.study.points import CONFIG, points
from hw.study.products import PRODUCTS
from hw.study.report import document


@pytest.fixture
def facts() -> dict[str, Any]:
    return json.loads(RESULTS.read_text())


def test_the_document_is_that_of_the_results(facts: dict[str, Any]) -> None:
    assert DOCUMENT.read_text() == document(facts)
    # Negative control: another figure is another document.
    facts["points"][0]["logic"] += 1000
    assert DOCUMENT.read_text() != document(facts)


def test_every_point_was_measured_on_todays_size(facts: dict[str, Any]) -> None:
    assert facts["config_hash"] == f"{CONFIG.config_hash:#010x}"
    measured = [(p["question"], p["unit"], p["form"]) for p in facts["points"]]
    assert measured == [(p.question, p.unit, p.form) for p in points()]
    assert all(p["logic"] > 0 for p in facts["points"])


def test_modules_have_names_of_their_own() -> None:
    names = [point.module for point in points()]
    assert len(set(names)) == len({(p.unit, p.form) for p in points()})


def test_the_chosen_product_is_the_smallest(facts: dict[str, Any]) -> None:
    """What docs/decisions.md says of the PE array."""
    found = {p["form"]: p["logic"] for p in facts["points"] if p["question"] == "digit product"}
    assert min(found, key=lambda form: found[form]) == "two gated copies and one adder"
    assert set(found) == set(PRODUCTS)


def test_slopes_by_hand() -> None:
    point = {"question": "rows", "unit": "U", "levels": 1, "memory_bits": 0}
    facts = {
        "preset": "p",
        "config_hash": "0x0",
        "points": [
            {**point, "form": "1 rows", "logic": 1000.0},
            {**point, "form": "3 rows", "logic": 5000.0},
        ],
    }
    assert "One more costs (derived from the totals, kGE): `U` 2.00; together 2.00." in document(
        facts
    )
