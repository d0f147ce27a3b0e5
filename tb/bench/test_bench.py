"""Benchmark points: figures that add up, the table, the picture, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

from hw.config import preset
from hw.formats import KVFormat, Mode, modes
from tb.bench import points as bench_points
from tb.bench.__main__ import main
from tb.bench.picture import COLOURS, draw
from tb.bench.points import JOBS, Point, measure, phases, with_speedup
from tb.bench.publish import RESULTS
from tb.bench.table import COLUMNS, console_table, markdown_table

TINY = preset("tiny")
#: Two closed windows, all of their chunks selected, a tail of 31 tokens.
CONTEXT = 63


@pytest.fixture(scope="module")
def points() -> list[dict[str, Any]]:
    return with_speedup([measure(Point(TINY, mode, CONTEXT), 3) for mode in modes(TINY)])


@pytest.fixture
def published() -> list[dict[str, Any]]:
    """Points to show; to measure some takes half a minute."""
    found: list[dict[str, Any]] = json.loads(RESULTS.read_text())["points"]
    return found


@pytest.mark.slow
def test_figures_add_up(points: list[dict[str, Any]]) -> None:
    for point, mode in zip(points, Mode, strict=True):
        measured, derived = point["measured"], point["derived"]
        by_phase = derived["cycles_by_phase"]
        assert sum(by_phase.values()) == measured["cycles"]
        assert min(by_phase.values()) >= 0
        # All chunks of the two groups.
        moved = sum(KVFormat(TINY).traffic_bytes(CONTEXT, mode).values())
        assert measured["memory_bytes"] == JOBS * moved
        assert 0 < derived["roofline_ratio"] <= 1
        assert (point["jobs"], point["seed"], point["mode"]) == (JOBS, 3, mode.name.lower())
        assert point["config_hash"] == f"{TINY.config_hash:#010x}"


@pytest.mark.slow
def test_dense_modes_have_no_chunks(points: list[dict[str, Any]]) -> None:
    chunks = ("base keys", "deltas", "values")
    has_chunks = [any(p["derived"]["cycles_by_phase"][name] for name in chunks) for p in points]
    assert has_chunks == [True, False, False]


@pytest.mark.slow
def test_speedup(points: list[dict[str, Any]]) -> None:
    cycles = [p["measured"]["cycles"] for p in points]
    assert [p["derived"]["speedup_over_dense16"] for p in points] == [cycles[2] / c for c in cycles]
    # 8-bit codes are half of the bytes.
    assert points[1]["derived"]["bound_of_speedup"] == 2


def a_point(mode: str, context: int, cycles: int, required: float) -> dict[str, Any]:
    """As much of a point as a speed-up needs."""
    named = {"preset": "tiny", "context": context, "mode": mode}
    return {**named, "measured": {"cycles": cycles}, "derived": {"required_bytes": required}}


def test_speedup_by_hand() -> None:
    """A context without its baseline has none."""
    points = [a_point("kvo", 63, 50, 10.0), a_point("dense16", 63, 200, 80.0)]
    found = with_speedup([*points, a_point("kvo", 40, 50, 10.0)])
    assert [p["derived"].get("speedup_over_dense16") for p in found] == [4, 1, None]
    assert [p["derived"].get("bound_of_speedup") for p in found] == [8, 1, None]


def test_phases_by_hand() -> None:
    """Tiny at 33 tokens: two closed chunks in one base block, a tail of 17 tokens in 3 blocks.

    The chunks are of one value group; two would be told apart.
    """
    assert phases(Point(TINY, Mode.KVO, 33), 1000, [1, 2]) == {
        "base keys": 2 * 320 // 16,
        "deltas": 2 * 2 * 128 // 16,
        "values": 2 * 2 * 128 // 16 + 3 * 128 // 16,
        "tail keys": 2 * 3 * 384 // 16,
        "tail values": 2 * 3 * 512 // 16,
        "port idle": 1000 - 2 * (20 + 16 + 16 + 72 + 96) - 24,
    }


@pytest.mark.slow
def test_beats_beyond_the_layout_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: a layout that is not what was read."""
    wrong = {"base keys": 1, "port idle": 1}
    monkeypatch.setattr(bench_points, "phases", lambda *_: wrong)
    with pytest.raises(AssertionError, match="other beats than the layout says"):
        measure(Point(TINY, Mode.DENSE8, 9), 3)


def test_table(published: list[dict[str, Any]]) -> None:
    lines = markdown_table(published).splitlines()
    assert len(lines) == 2 + len(published)
    assert all(line.count("|") == len(COLUMNS) + 1 for line in lines)
    assert lines[0].startswith("| preset | mode | context | cycles/job (measured) |")
    assert console_table(published).row_count == len(published)


def test_picture(published: list[dict[str, Any]], tmp_path: Path) -> None:
    draw(published, tmp_path / "bench.svg")
    root = ElementTree.parse(tmp_path / "bench.svg").getroot()
    text = (tmp_path / "bench.svg").read_text()
    assert root.tag.endswith("svg")
    drawn = [colour for colour in COLOURS.values() if colour in text]
    assert drawn == list(COLOURS.values())


def test_command(tmp_path: Path) -> None:
    arguments = ["--preset", "tiny", "--context", "9", "--mode", "dense8", "--output"]
    done = CliRunner().invoke(main, [*arguments, str(tmp_path)])
    assert done.exit_code == 0, done.output
    facts = json.loads((tmp_path / "bench.json").read_text())
    assert [p["context"] for p in facts["points"]] == [9]
    assert (tmp_path / "bench.md").exists()
    assert (tmp_path / "bench.svg").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "huge"], "preset must be one of tiny"),
        (["--preset", "tiny", "--context", "257"], "context must be from 1 to 256, not 257"),
        (["--mode", "dense4"], "'dense4' is not one of"),
        (["--context", "0"], "0 is not in the range"),
    ],
)
def test_bad_options(arguments: list[str], message: str) -> None:
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2
    assert message in done.output
