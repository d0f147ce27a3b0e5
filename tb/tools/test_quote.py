"""The figures of docs/integration.md are those of the area reports in results/."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from hw.tools import __main__ as tools
from hw.tools import quote as quoting
from hw.tools.quote import GUIDE, QuoteError, kept_reports, quote, read_report, timing_table

REPORT = {
    "preset": "tiny",
    "config_hash": "0x12345678",
    "unit": "GE",
    "levels": 44,
    "logic": 123456.7,
    "memory_bits": 2048,
    "modules": [
        {"name": "attention_core", "levels": 3},
        {"name": "attention_core.a", "levels": 9},
        {"name": "attention_core.b.c", "levels": 30},
    ],
}


def test_the_guide_quotes_the_kept_reports() -> None:
    reports = kept_reports()
    assert {report["preset"] for report in reports} >= {"tiny"}
    text = GUIDE.read_text()
    assert quote(text, timing_table(reports)) == text
    wrong = [report | {"levels": report["levels"] + 1} for report in reports]
    assert quote(text, timing_table(wrong)) != text


def test_the_command_keeps_and_quotes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guide, report = tmp_path / "guide.md", tmp_path / "tiny.json"
    monkeypatch.setattr(tools, "GUIDE", guide)
    monkeypatch.setattr(quoting, "REPOSITORY", tmp_path)
    (tmp_path / "results").mkdir()
    report.write_text(json.dumps(REPORT))
    guide.write_text("before\n<!-- timing -->\nold\n<!-- end of timing -->\nafter\n")
    done = CliRunner().invoke(tools.main, ["quote", str(report)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "results" / "area_tiny.json").read_text()) == REPORT
    text = guide.read_text()
    assert text.startswith("before\n<!-- timing -->\n| preset |")
    assert text.endswith("|\n<!-- end of timing -->\nafter\n")
    row = "| `tiny` | 0x12345678 | 44 levels | `b.c` 30, `a` 9, `attention_core` 3 | 123 kGE "
    assert f"{row}| 2048 bits |\n" in text


@pytest.mark.parametrize("content", ["", "[]", "{}", json.dumps(REPORT | {"unit": "um2"})])
def test_other_files_are_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text(content)
    with pytest.raises(QuoteError, match=r"other\.json is not an area report in GE$"):
        read_report(path)
    done = CliRunner().invoke(tools.main, ["quote", str(path)])
    assert done.exit_code == 2


def test_a_document_without_its_markers_is_refused() -> None:
    with pytest.raises(QuoteError, match="must have one block"):
        quote("<!-- timing -->\nand no end\n", "")
