"""Figures kept for later, and when they no longer hold."""

from pathlib import Path

import pytest

from golden.quality import store as module
from golden.quality.decode import Traffic
from golden.quality.evaluate import Figures
from golden.quality.methods import H2O, ArkVale
from golden.quality.points import Point
from golden.quality.store import Store, digest

FIGURES = Figures([0.5, 1.0], Traffic(10, 20, 300))
BATCH = {"task": "copy", "length": 512, "sequences": 2, "seed": 1}


def test_round_trip(tmp_path: Path) -> None:
    store = Store(tmp_path / "new")
    assert store.get("a") is None
    store.put("a", FIGURES)
    assert store.get("a") == FIGURES
    assert store.get("b") is None
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.json"]


@pytest.mark.parametrize("text", ["", "{", "{}", '{"scores": [1], "traffic": {"reads": 1}}'])
def test_damaged_files_count_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    assert Store(tmp_path).get("a") is None


def test_digest() -> None:
    """Equal for equal facts; different for each that differs."""
    same = digest(Point(method=H2O()), "w", **BATCH)
    assert digest(Point(method=H2O()), "w", **BATCH) == same
    others = {
        digest(Point(method=H2O(budget=100)), "w", **BATCH),
        digest(Point(method=H2O(shuffled=True)), "w", **BATCH),
        digest(Point(method=H2O(), dense_layers=2), "w", **BATCH),
        digest(Point(method=H2O(), trained=False), "w", **BATCH),
        digest(Point(method=ArkVale()), "w", **BATCH),
        digest(Point(method=H2O()), "v", **BATCH),
        digest(Point(method=H2O()), "w", **{**BATCH, "seed": 2}),
    }
    assert len(others | {same}) == 8


def test_sources() -> None:
    """What a method is made of, with what it takes from another; no other method."""
    names = {path.name for path in module._sources(ArkVale)}
    assert {"arkvale.py", "quest.py", "storage.py", "decode.py", "quantiser.py"} <= names
    assert "h2o.py" not in names
    assert "quest.py" not in {path.name for path in module._sources(H2O)}
