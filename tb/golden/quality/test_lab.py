"""A run over points, and what it says of them."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from golden.quality import lab
from golden.quality.evaluate import Prompt
from golden.quality.lab import Settings, run
from golden.quality.methods import FP16, StreamingLLM
from golden.quality.points import Point
from golden.quality.store import Store

POINTS = [Point(method=FP16()), Point(method=StreamingLLM(budget=40))]
SETTINGS = Settings(tasks=("needle",), contexts=(256,), seeds=(1, 2), sequences=1)


def quiet() -> Console:
    return Console(file=io.StringIO())


def test_batches() -> None:
    settings = Settings(tasks=("copy", "needle"), contexts=(512, 1024), seeds=(1,), sequences=3)
    assert [(b["task"], b["length"], b["sequences"]) for b in settings.batches()] == [
        ("copy", 512, 3),
        ("copy", 1024, 3),
        ("needle", 512, 6),
        ("needle", 1024, 6),
    ]


def test_generations() -> None:
    """Every task both ways but text, which has no answer."""
    both = Settings(
        tasks=("text", "recall"),
        contexts=(512,),
        seeds=(1,),
        generations=("teacher-forced", "free"),
    )
    assert [(b["task"], b["generation"]) for b in both.batches()] == [
        ("text", "teacher-forced"),
        ("recall", "teacher-forced"),
        ("recall", "free"),
    ]


def test_run_both_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A needle is one answer: right both ways or neither, and its own row. One prompt does."""
    made: list[object] = []

    class Counted(Prompt):
        def __init__(self, *given: Any) -> None:
            made.append(given)
            super().__init__(*given)

    monkeypatch.setattr(lab, "Prompt", Counted)
    settings = replace(SETTINGS, seeds=(1,), generations=("teacher-forced", "free"))
    rows = run(POINTS, settings, store=Store(tmp_path), console=quiet())
    forced, free = (
        {row["label"]: row for row in rows if row["generation"] == way}
        for way in ("teacher-forced", "free")
    )
    assert list(forced) == list(free) == ["FP16", "StreamingLLM, budget 40"]
    for label, row in forced.items():
        assert free[label]["scores"] == row["scores"]
        assert free[label]["traffic"] == row["traffic"]
    assert len(list(tmp_path.iterdir())) == 4
    assert len(made) == 1


def test_run_and_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two points, two seeds of two needles; a second run measures nothing again."""
    store = Store(tmp_path)
    rows = run(POINTS, SETTINGS, store=store, console=quiet())
    assert [row["label"] for row in rows] == ["FP16", "StreamingLLM, budget 40"]
    dense, window = rows
    assert len(dense["scores"]) == len(window["scores"]) == 4
    assert dense["mean"] > 0.7 > 0.3 > window["mean"]
    assert dense["difference"] == {"mean": 0.0, "low": 0.0, "high": 0.0}
    assert window["difference"]["mean"] == pytest.approx(window["mean"] - dense["mean"])
    assert dense["share"] == 1.0
    # Three steps at 253 to 255 tokens: 41 of 254, 255 and 256 tokens' bytes.
    assert window["share"] == pytest.approx(3 * 41 / (254 + 255 + 256))

    def fail(*arguments: object, **named: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(Prompt, "evaluate", fail)
    assert run(POINTS, SETTINGS, store=store, console=quiet()) == rows
    with pytest.raises(AssertionError, match="measured again"):
        run([Point(method=StreamingLLM(budget=41))], SETTINGS, store=store, console=quiet())


def test_without_fp16_there_is_no_difference(tmp_path: Path) -> None:
    rows = run(POINTS[1:], SETTINGS, store=Store(tmp_path), console=quiet())
    assert rows[0]["difference"] is None


def test_models() -> None:
    models = lab.load_models()
    assert models[True].config == models[False].config
    assert models[True].norm.weight.var() > 0
    assert models[False].norm.weight.var() == 0
