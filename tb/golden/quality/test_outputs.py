"""Tables, picture and document of made-up rows."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

from golden.quality import __main__ as command
from golden.quality.document import document
from golden.quality.findings import findings
from golden.quality.lab import run
from golden.quality.methods import FP16, StreamingLLM
from golden.quality.picture import draw, pareto
from golden.quality.points import Point
from golden.quality.store import Store
from golden.quality.summary import equal_table, kept_table
from golden.quality.table import SECTIONS, console_tables, markdown_table, section


def row(label: str, task: str = "copy", **changes: Any) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "method": label.split(",")[0],
        "label": label,
        "paper": "a paper",
        "dense_layers": 0,
        "control": False,
        "task": task,
        "context": 512,
        "mean": 0.5,
        "low": 0.25,
        "high": 0.75,
        "difference": {"mean": 0.125, "low": 0.0625, "high": 0.25},
        "share": 0.1357,
    }
    return facts | changes


ROWS = [
    row("FP16", "text", share=1.0, mean=1.5, difference={"mean": 0.0, "low": 0.0, "high": 0.0}),
    row("FP16", share=1.0, mean=1.0, low=1.0, high=1.0),
    row("KVO", "text"),
    row("KVO"),
    row("KVO", dense_layers=2, share=0.5),
    row("KVO, shuffled", control=True),
]


def test_sections() -> None:
    assert [section(item) for item in ROWS[3:]] == list(SECTIONS)


def test_markdown() -> None:
    assert markdown_table(ROWS, SECTIONS[0], 512).splitlines() == [
        "| method | traffic | bits per byte over FP16 | copy |",
        "| --- | ---: | ---: | ---: |",
        "| FP16 | 100.00% | 1.500 in all | 100.0% (100% .. 100%) |",
        "| KVO | 13.57% | +0.125 (+0.062 .. +0.250) | 50.0% (25% .. 75%) |",
    ]
    assert "KVO, layers 0-1 FP16 | 50.00% |  | 50.0%" in markdown_table(ROWS, SECTIONS[1], 512)
    assert markdown_table(ROWS, SECTIONS[0], 1024) == ""


def test_lines_of_a_method_stay_together() -> None:
    """In the order of the methods, each by traffic."""
    rows = [row("KVO"), row("Quest"), row("KVO, budget 160", share=0.1), row("Quest, page 8")]
    lines = markdown_table(rows, SECTIONS[0], 512).splitlines()[2:]
    names = [line.split("|")[1].strip() for line in lines]
    assert names == ["KVO, budget 160", "KVO", "Quest", "Quest, page 8"]


def test_console() -> None:
    console = Console(record=True, width=120)
    for table in console_tables(ROWS):
        console.print(table)
    text = console.export_text()
    assert [text.count(f"{part}, 512 tokens") for part in SECTIONS] == [1, 1, 1]
    assert "13.57%" in text


def test_pareto() -> None:
    """What another beats in both is left out; for text less is better."""
    rows = [row(f"m{i}", share=s, mean=m) for i, (s, m) in enumerate([(1, 3), (2, 2), (3, 4)])]
    assert [item["method"] for item in pareto(rows)] == ["m0", "m2"]
    for item in rows:
        item["task"] = "text"
    assert [item["method"] for item in pareto(rows)] == ["m0", "m1"]


def test_picture(tmp_path: Path) -> None:
    """The same rows give the same file; controls change nothing."""
    draw(ROWS, tmp_path / "a.svg")
    draw(ROWS[:-1], tmp_path / "b.svg")
    first, second = ((tmp_path / name).read_text() for name in ("a.svg", "b.svg"))
    assert first == second
    assert "bits per byte over FP16" in first


def facts() -> dict[str, Any]:
    return {
        "command": "make quality",
        "torch": "2",
        "weights_sha256": "0123456789abcdef01",
        "model": {"name": "lm", "context": 2048},
        "settings": {"contexts": [512], "seeds": [1, 2], "sequences": 4},
        "rows": ROWS,
    }


def test_document() -> None:
    text = document(facts())
    assert "8 sequences per task" in text
    assert markdown_table(ROWS, SECTIONS[0], 512) in text
    assert "| KVO | a paper |" in text
    assert "model `lm` of `golden/model` (trained to 2048 tokens)" in text
    assert max(map(len, text.splitlines())) < 120
    assert "## Over contexts" not in text


def test_document_of_several_contexts() -> None:
    """Tables over the contexts, then those of each, the longest first."""
    rows = [item | {"context": context} for context in (512, 1024) for item in ROWS]
    text = document(facts() | {"rows": rows})
    assert kept_table(rows) in text
    assert equal_table(rows, "recall") in text
    titles = [line for line in text.splitlines() if line.startswith("#")]
    assert titles == [
        "# Quality",
        "## Over contexts",
        *(f"## {part}, {context} tokens" for context in (1024, 512) for part in SECTIONS),
    ]


def test_free_generation() -> None:
    """A column of its own, and a line in the document; findings are those without it."""
    free = [row("FP16", generation="free"), row("KVO", generation="free", mean=0.0)]
    both = facts() | {"rows": ROWS + free}
    text = document(both)
    assert "copy, free |" in text
    assert "* *free*: the letters" in text
    assert "* *free*" not in document(facts())
    assert findings(ROWS + free) == findings(ROWS) != []
    assert findings(free) == []
    assert kept_table(ROWS + free) == kept_table(ROWS)


def test_free_panels(tmp_path: Path) -> None:
    draw([*ROWS, row("FP16", generation="free")], tmp_path / "a.svg")
    assert "copy, letters right, free generation" in (tmp_path / "a.svg").read_text()


def test_published_document_is_that_of_the_published_figures() -> None:
    record = command.REPOSITORY / "results" / "quality.json"
    published = json.loads(record.read_text())
    assert (command.REPOSITORY / "docs" / "quality.md").read_text() == document(published)
    assert published["label"].startswith("measured")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "make quality"),
        (["--sweep", "--publish"], 'make quality ARGS="--sweep"'),
        (["--model", "lm4k"], "make quality"),
        (["--model", "lm"], 'make quality ARGS="--model lm"'),
        (
            ["--seeds", "2", "--context", "512", "--context", "1024", "--output", "x"],
            'make quality ARGS="--context 512 --context 1024 --seeds 2"',
        ),
    ],
)
def test_command_is_recorded(words: list[str], expected: str) -> None:
    context = command.main.make_context("quality", words)
    assert command._command(context) == expected


def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From words to files: two points, one needle."""
    points = [Point(method=FP16()), Point(method=StreamingLLM(budget=40))]
    monkeypatch.setattr(command, "quick_points", lambda probe, **_: points)
    monkeypatch.setattr(command, "run", partial(run, store=Store(tmp_path / "store")))
    words = [
        "--model",
        "lm",
        "--task",
        "needle",
        "--context",
        "256",
        "--seeds",
        "1",
        "--sequences",
        "1",
    ]
    found = CliRunner().invoke(command.main, [*words, "--output", str(tmp_path)])
    assert found.exit_code == 0, found.output
    written = json.loads((tmp_path / "quality.json").read_text())
    assert [item["label"] for item in written["rows"]] == ["FP16", "StreamingLLM, budget 40"]
    assert written["command"] == f'make quality ARGS="{" ".join(words)}"'
    assert (tmp_path / "quality.md").read_text() == document(written)
    assert (tmp_path / "quality.svg").stat().st_size > 1000
    assert "StreamingLLM" in found.output


def test_context_beyond_the_model_is_refused() -> None:
    found = CliRunner().invoke(command.main, ["--model", "lm", "--context", "2049"])
    assert found.exit_code == 2
    assert "must be at most 2048 with lm, not 2049" in found.output


def test_unknown_method_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = CliRunner().invoke(command.main, ["--method", "LRU", "--context", "256"])
    assert found.exit_code == 2
    assert "must be one of ArkVale, H2O" in found.output
    assert "not LRU" in found.output
