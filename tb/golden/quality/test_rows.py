"""Rows made from figures."""

import pytest

from golden.quality.decode import Traffic
from golden.quality.evaluate import Figures
from golden.quality.methods import FP16, INT8
from golden.quality.points import Point
from golden.quality.rows import Measure, interval, measure_of, summaries

FORCED, FREE = Measure("copy", 512), Measure("copy", 512, "free")


def test_interval() -> None:
    """Of ten equal scores it has no width; of 0 and 1 by halves it is about +-0.3."""
    assert interval([0.5] * 10) == (0.5, 0.5, 0.5)
    mean, low, high = interval([0.0, 1.0] * 5)
    assert mean == 0.5
    assert low == pytest.approx(0.2, abs=0.11)
    assert high == pytest.approx(0.8, abs=0.11)
    wide = interval([0.0, 1.0] * 50)
    assert wide[2] - wide[1] < 0.5 * (high - low)
    assert interval([0.0, 1.0] * 5) == (mean, low, high)


def test_measures() -> None:
    assert (FORCED.label, FREE.label) == ("copy", "copy, free")
    assert measure_of({"task": "copy", "context": 512}) == FORCED
    assert measure_of({"task": "copy", "context": 512, "generation": "free"}) == FREE


def test_the_difference_is_to_fp16_answered_the_same_way() -> None:
    dense, other = Point(method=FP16()), Point(method=INT8())
    figures = {
        (dense, FORCED): [Figures([1.0, 1.0], Traffic(8, 2, 10))],
        (dense, FREE): [Figures([0.5, 0.5], Traffic(8, 2, 10))],
        (other, FORCED): [Figures([0.75], Traffic(3, 1, 10)), Figures([0.5], Traffic(3, 1, 10))],
        (other, FREE): [Figures([0.25, 0.5], Traffic(4, 1, 10))],
    }
    rows = {(row["method"], row["generation"]): row for row in summaries(figures)}
    assert rows["INT8", "teacher-forced"]["difference"]["mean"] == pytest.approx(-0.375)
    assert rows["INT8", "free"]["difference"]["mean"] == pytest.approx(-0.125)
    assert rows["INT8", "teacher-forced"]["scores"] == [0.75, 0.5]
    assert rows["INT8", "teacher-forced"]["share"] == pytest.approx(0.4)
    assert rows["INT8", "free"]["traffic"] == {"read": 4, "written": 1, "fp16": 10}
    del figures[dense, FREE]
    alone = summaries(figures)[-1]
    assert (alone["generation"], alone["difference"]) == ("free", None)
