"""The published figures: the document is what the results file gives, for today's presets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tb.bench import publish
from tb.bench.publish import DOCUMENT, RESULTS, document, stale


@pytest.fixture
def facts() -> dict[str, Any]:
    return json.loads(RESULTS.read_text())


def test_the_document_is_that_of_the_results(facts: dict[str, Any]) -> None:
    assert DOCUMENT.read_text() == document(facts)


def test_the_results_are_those_of_todays_presets(facts: dict[str, Any]) -> None:
    assert stale(facts) == []


def test_another_figure_is_another_document(facts: dict[str, Any]) -> None:
    """Negative control."""
    facts["points"][0]["measured"]["cycles"] *= 2
    assert DOCUMENT.read_text() != document(facts)


def test_another_configuration_is_stale(facts: dict[str, Any]) -> None:
    """Negative control."""
    point = facts["points"][0]
    point["config_hash"] = "0x00000000"
    assert stale(facts) == [point["preset"]]


def test_baselines_are_tuned(facts: dict[str, Any]) -> None:
    """The aim of the dense modes: a roofline ratio of at least 0.95 from 1024 tokens on."""
    ratios = {
        (p["preset"], p["mode"], p["context"]): p["derived"]["roofline_ratio"]
        for p in facts["points"]
        if p["mode"] != "kvo" and p["context"] >= 1024
    }
    assert len(ratios) >= 8
    assert min(ratios.values()) >= 0.95, ratios


def test_publishing(facts: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RESULTS", "DOCUMENT", "PICTURE"):
        monkeypatch.setattr(publish, name, tmp_path / getattr(publish, name).name)
    source = tmp_path / "measured.json"
    source.write_text(json.dumps(facts))
    done = CliRunner().invoke(publish.main, [str(source)], catch_exceptions=False)
    assert done.exit_code == 0
    assert (tmp_path / "bench.json").read_text() == source.read_text()
    assert (tmp_path / "performance.md").read_text() == document(facts)
    assert (tmp_path / "performance.svg").stat().st_size > 1000
