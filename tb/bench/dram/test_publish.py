"""The published DRAM figures: document, results and command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tb.bench.dram import __main__ as command
from tb.bench.dram import publish as publishing
from tb.bench.dram.gaps import RunTooShort
from tb.bench.dram.points import DramPoint
from tb.bench.dram.publish import DOCUMENT, RESULTS, document, key, stale
from tb.bench.dram.table import COLUMNS, console_table, idle_table, markdown_table


@pytest.fixture
def facts() -> dict[str, Any]:
    return json.loads(RESULTS.read_text())


def test_the_document_is_that_of_the_results(facts: dict[str, Any]) -> None:
    assert DOCUMENT.read_text() == document(facts)


def test_the_results_are_those_of_todays_parameters(facts: dict[str, Any]) -> None:
    assert stale(facts) == []


def test_another_figure_is_another_document(facts: dict[str, Any]) -> None:
    """Negative control."""
    facts["points"][0]["derived"]["useful_fraction"] = 0.5
    assert DOCUMENT.read_text() != document(facts)


def test_other_parameters_and_missing_figures_are_stale(facts: dict[str, Any]) -> None:
    """Negative control."""
    facts["points"][0]["controller"]["hash"] = "0x00000000"
    names = [" ".join(map(str, key(point))) for point in facts["points"]]
    del facts["points"][2]
    assert stale(facts) == [names[0], names[2]]


def test_figures_add_up(facts: dict[str, Any]) -> None:
    for point in facts["points"]:
        derived = point["derived"]
        whole = derived["useful_fraction"] + sum(derived["idle_share"].values())
        assert whole == pytest.approx(1, abs=1e-3)
        assert derived["useful_fraction"] <= derived["cap"] + 1e-3


def test_what_missed_its_target_is_said(facts: dict[str, Any]) -> None:
    point = next(p for p in facts["points"] if p["standard"] == "hbm3-6400")
    point["derived"] |= {"target_met": False, "useful_fraction": 0.5}
    assert (
        "(gear 1, 128 outstanding): 0.5000. A refresh blocks its bank for 320 clocks, 1.64 "
        "refreshes are under way on average, and the bursts outstanding last 256 clocks"
    ) in document(facts)
    for point in facts["points"]:
        point["derived"]["target_met"] = True
    assert "Below the target" not in document(facts)


def test_tables(facts: dict[str, Any]) -> None:
    points = facts["points"]
    lines = markdown_table(points).splitlines()
    assert len(lines) == len(idle_table(points).splitlines()) == 2 + len(points)
    assert all(line.count("|") == len(COLUMNS) + 1 for line in lines)
    assert lines[0].startswith("| standard | case | gear | refresh | outstanding | clocks (")
    assert console_table(points).row_count == len(points)


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("RESULTS", "DOCUMENT"):
        monkeypatch.setattr(publishing, name, tmp_path / getattr(publishing, name).name)
    return tmp_path


def test_publishing_parts(facts: dict[str, Any], places: Path) -> None:
    """Parts of a run, in any order, are one document."""
    parts = [facts["points"][1:], facts["points"][:1]]
    sources = [places / f"part{i}.json" for i in range(2)]
    for source, part in zip(sources, parts, strict=True):
        source.write_text(json.dumps({**facts, "points": part}))
    done = CliRunner().invoke(publishing.main, list(map(str, sources)), catch_exceptions=False)
    assert done.exit_code == 0
    assert json.loads((places / "dram.json").read_text()) == facts
    assert (places / "dram_performance.md").read_text() == document(facts)


def test_command(facts: dict[str, Any], places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[DramPoint, int]] = []

    def fake(point: DramPoint, seed: int, *, intervals: int) -> dict[str, Any]:
        asked.append((point, seed))
        assert intervals == 3
        return facts["points"][len(asked) - 1]

    monkeypatch.setattr(command, "measure", fake)
    options = ["--standard", "hbm2-2000", "--case", "mixed", "--seed", "5", "--intervals", "3"]
    arguments = [*options, "--output", str(places / "out"), "--publish"]
    done = CliRunner().invoke(command.main, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert [(point.standard, point.case, seed) for point, seed in asked] == [
        ("hbm2-2000", "mixed", 5)
    ]
    written = json.loads((places / "out" / "dram.json").read_text())
    assert written["points"] == facts["points"][:1]
    assert (places / "out" / "dram.md").read_text().startswith("| standard |")
    assert (places / "dram_performance.md").exists()


def test_a_failure_is_told(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fake(*_: object, **__: object) -> None:
        raise RunTooShort("pseudo-channel 0 [x] must be busy")

    monkeypatch.setattr(command, "measure", fake)
    done = CliRunner().invoke(command.main, ["--output", str(places)])
    assert done.exit_code == 1
    assert "FAILED pseudo-channel 0 [x] must be busy" in done.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--standard", "ddr9"], "'ddr9' is not one of"),
        (["--case", "mad"], "'mad' is not one of"),
        (["--intervals", "0"], "0 is not in the range"),
        (["--standard", "ddr4-3200", "--case", "mixed"], "no figure has case"),
    ],
)
def test_bad_options(arguments: list[str], message: str) -> None:
    done = CliRunner().invoke(command.main, arguments)
    assert done.exit_code == 2
    assert message in done.output
