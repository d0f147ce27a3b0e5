"""Points on a checkpoint: resumable, summarised, and the command."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

pytest.importorskip("transformers", reason="the optional extra 'quality' is not installed")

from golden.checkpoint.files import CheckpointError
from golden.quality.checkpoint import __main__ as command
from golden.quality.checkpoint import run as run_function
from golden.quality.checkpoint.lab import Settings, default_points
from golden.quality.checkpoint.load import Checkpoint
from golden.quality.checkpoint.score import Prompts
from golden.quality.methods import FP16, StreamingLLM
from golden.quality.points import Point
from golden.quality.store import Store
from tb.golden.quality.checkpoint.small import quiet

POINTS = [Point(method=FP16()), Point(method=StreamingLLM(budget=40))]
SETTINGS = Settings(
    tasks=("text", "needle"),
    contexts=(300,),
    seeds=(1, 2),
    sequences=1,
    generations=("teacher-forced", "free"),
)


def run(checkpoint: Checkpoint, store: Path, **changes: Any) -> list[dict[str, Any]]:
    arguments: dict[str, Any] = {"points": POINTS, "settings": SETTINGS} | changes
    return run_function(checkpoint, store=Store(store), console=quiet(), **arguments)


def test_batches() -> None:
    """Text one way, the needle both ways and twice as often."""
    found = [(m.task, m.generation, seed, count) for m, seed, count in SETTINGS.batches()]
    assert found == [
        ("text", "teacher-forced", 1, 1),
        ("text", "teacher-forced", 2, 1),
        ("needle", "teacher-forced", 1, 2),
        ("needle", "teacher-forced", 2, 2),
        ("needle", "free", 1, 2),
        ("needle", "free", 2, 2),
    ]


def test_run_and_resume(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = run(checkpoint, tmp_path)
    assert [(row["method"], row["task"], row["generation"]) for row in rows] == [
        (method, task, way)
        for task, way in (
            ("text", "teacher-forced"),
            ("needle", "teacher-forced"),
            ("needle", "free"),
        )
        for method in ("FP16", "StreamingLLM")
    ]
    dense, window = rows[:2]
    assert dense["share"] == 1.0 > window["share"]
    assert len(dense["scores"]) == 2
    # Bytes are tokens here: as many bits to a byte as to a token.
    assert dense["perplexity"] == pytest.approx(2 ** dense["mean"])
    assert window["difference"]["mean"] == pytest.approx(window["mean"] - dense["mean"])
    assert "perplexity" not in rows[2]
    # A random model knows no number.
    assert [row["mean"] for row in rows[2:]] == [0.0] * 4

    def fail(*arguments: object, **named: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(Prompts, "evaluate", fail)
    assert run(checkpoint, tmp_path) == rows
    once = Settings(tasks=("text",), contexts=(300,), seeds=(1,), sequences=1)
    run(checkpoint, tmp_path, settings=once)
    for changes in (
        {"points": [Point(method=StreamingLLM(budget=41))]},
        {"settings": replace(once, contexts=(301,))},
        {"settings": replace(once, seeds=(3,))},
        {"settings": replace(once, text="ab" * 300)},
    ):
        with pytest.raises(AssertionError, match="measured again"):
            run(checkpoint, tmp_path, **changes)


def test_untrained(checkpoint: Checkpoint, tmp_path: Path) -> None:
    points = [Point(method=FP16(), trained=trained) for trained in (True, False)]
    settings = Settings(tasks=("text",), contexts=(300,), seeds=(1,), sequences=2)
    trained, control = run(checkpoint, tmp_path, points=points, settings=settings)
    assert (trained["control"], control["control"]) == (False, True)
    assert len({*trained["scores"], *control["scores"]}) == 4


@pytest.mark.slow
def test_default_points(checkpoint: Checkpoint) -> None:
    """All methods that keep a cache in every layer, at the traffic of KVO, and controls."""
    found = default_points(checkpoint, 600)
    names = {point.method.name for point in found}
    assert {"FP16", "KVO", "Quest", "H2O", "INT8", "SnapKV"} <= names
    assert "cross-layer" not in names
    assert any(point.method.shuffled for point in found)
    assert all(point.trained for point in found)
    # This model has two layers: leaving both whole is FP16.
    assert not any(point.dense_layers for point in found)


def test_command(checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From words to files."""
    text = tmp_path / "mine.txt"
    text.write_text("All that glisters is not gold. " * 40)
    monkeypatch.setattr("golden.quality.checkpoint.lab.Store", lambda: Store(tmp_path / "store"))
    words = [str(checkpoint.directory), "--method", "StreamingLLM:budget=40", "--task", "text"]
    words += ["--context", "300", "--seeds", "1", "--sequences", "1", "--text", str(text)]
    found = CliRunner().invoke(command.main, [*words, "--output", str(tmp_path / "out")])
    assert found.exit_code == 0, found.output
    written = json.loads((tmp_path / "out" / "quality.json").read_text())
    assert [row["label"] for row in written["rows"]] == ["FP16", "StreamingLLM, budget 40"]
    assert written["checkpoint_sha256"] == checkpoint.sha256
    assert (written["dtype"], written["settings"]["text"]) == ("float32", str(text))
    assert "| StreamingLLM, budget 40 |" in (tmp_path / "out" / "quality.md").read_text()
    assert (tmp_path / "out" / "quality.svg").stat().st_size > 1000
    assert "StreamingLLM" in found.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--context", "2000"], r"context must be 136..1024, not 2000"),
        (["--method", "LRU"], "method must be one of ArkVale"),
        (["--method", "Quest:budget=20"], "budget must be a multiple of page 16, not 20"),
        (["--method", "cross-layer"], "method must keep a cache in every layer"),
    ],
)
def test_command_errors(checkpoint: Checkpoint, words: list[str], message: str) -> None:
    base = [str(checkpoint.directory), "--task", "text", "--method", "INT8"]
    found = CliRunner().invoke(command.main, [*base, *words])
    assert found.exit_code == 1
    assert message in found.output.replace("\n", " ")


def test_heads_without_kvo_are_told(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(probe: object) -> None:
        raise ValueError("head_dim must be 32 to 256")

    monkeypatch.setattr("golden.quality.checkpoint.lab.quick_points", refuse)
    with pytest.raises(CheckpointError, match="methods must be named for these heads: head_dim"):
        default_points(checkpoint, 300)
