"""The page of made-up facts, and that of the published ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from golden.quality.chain import __main__ as command
from golden.quality.chain.document import agreement_rows, document, gap_rows, score_rows
from golden.quality.chain.measure import METHODS, TWIN, Settings
from hw.config import preset


def figure(mean: float) -> dict[str, float]:
    return {"mean": mean, "low": mean - 0.25, "high": mean + 0.25}


def facts() -> dict[str, Any]:
    """Two measures; the twin is 0.125 above the float reference."""
    rows = []
    for task in ("text", "recall"):
        for number, name in enumerate(METHODS):
            gap = 0.125 if name == TWIN else 0.0
            rows.append(
                {
                    "method": name,
                    "task": task,
                    "answers": 1016,
                    "scores": [1.0],
                    **figure(1.0 - 0.25 * number),
                    "over_fp16": dict.fromkeys(("mean", "low", "high"), 0.25 * number),
                    "over_float": figure(gap),
                    "over_lab": figure(-gap),
                    "share": 0.25 if task == "text" else 0.5,
                }
            )
    twin = {
        "predictions": 1024,
        "same_prediction": 1000,
        "windows_closed": 16,
        "agreement": {
            "steps": 2048,
            "rows": 4096,
            "cosine_sum": 4095.0,
            "cosine_worst": 0.5,
            "chunks": 4,
            "chunks_shared": 3,
            "gap_worst": 0.0625,
            "received_worst": 0.125,
        },
    }
    return {
        "command": "a command",
        "torch": "2",
        "preset": "lm",
        "config_hash": "0x12345678",
        "budget": 384,
        "weights_sha256": "0" * 64,
        "settings": {
            "model": "lm",
            "context": 2048,
            "tasks": ["text", "recall"],
            "seeds": [1, 2],
            "sequences": 4,
        },
        "rows": rows,
        "twin": dict.fromkeys(("text", "recall"), twin),
        "window_bytes": {"read": 13312, "written_more": 192},
    }


def test_scores() -> None:
    table = score_rows(facts())
    assert table[0] == ["", "traffic", "bits per byte", "over FP16", "perplexity", "recall"]
    dense, *_, twin = table[1:]
    assert dense == ["FP16", "25.00%", "1.000 (0.750 .. 1.250)", "", "2.000", "100.0 % (75 .. 125)"]
    assert twin[0] == TWIN
    assert twin[3] == "+0.750 (+0.750 .. +0.750)"


def test_gaps_and_agreement() -> None:
    text, recall = gap_rows(facts())[1:]
    shown = "+0.1250 (-0.1250 .. +0.3750) bits"
    assert text == ["text", shown, shown.replace("+0.1", "-0.1")[:7] + text[2][7:], text[3]]
    assert recall[1:] == ["+12.5 % (-12 .. +38)", "-12.5 % (-38 .. +12)", "1,000 of 1,024"]
    assert agreement_rows(facts())[1] == [
        *("text", "2,048", "16", "0.9997559", "0.500000", "75.000%", "0.062", "0.1250"),
    ]


def test_the_page() -> None:
    page = document(facts())
    assert "8 sequences\nper task (seeds 1, 2)" in page
    assert "1,016 in all" in page
    assert "*Copy*: no letters" in page
    assert "13,312 bytes" in page
    assert not any(mark in page for mark in "{}")


def test_the_published_page() -> None:
    published = json.loads(command.RESULT.read_text())
    assert command.DOCUMENT.read_text() == document(published)
    assert published["config_hash"] == f"0x{preset('lm').config_hash:08x}"
    assert all(one["agreement"]["cosine_worst"] > 0.9999 for one in published["twin"].values())


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Options become settings and the command of the page; what is made is kept."""
    asked: list[Settings] = []

    def measured(settings: Settings, **_: object) -> dict[str, Any]:
        asked.append(settings)
        return {name: fact for name, fact in facts().items() if name != "command"}

    monkeypatch.setattr(command, "measure", measured)
    options = ["--context", "512", "--seeds", "1", "--task", "recall", "--output", str(tmp_path)]
    found = CliRunner().invoke(command.main, options)
    assert found.exit_code == 0
    assert asked == [Settings(context=512, seeds=(1,), tasks=("recall",))]
    kept = json.loads((tmp_path / "chain.json").read_text())
    wanted = "python -m golden.quality.chain --context 512 --seeds 1 --task recall --publish"
    assert kept["command"] == wanted
    assert (tmp_path / "chain.md").read_text() == document(kept)
    assert "| FP16 | 25.00% |" in found.output
    wrong = CliRunner().invoke(command.main, ["--context", "4096"])
    assert wrong.exit_code == 2
    assert "4096 is not in the range 256<=x<=2048" in wrong.output
