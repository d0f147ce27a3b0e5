"""The settings that move equal traffic."""

from dataclasses import replace
from typing import Any

import pytest

from golden.quality import points as module
from golden.quality.methods import FP16, H2O, KIVI, KVO, Progressive, Quest, StreamingLLM
from golden.quality.points import DEFINED, Point, Probe, matched, quick_points, sweep_points
from tb.golden.quality.small import random_prompt


@pytest.fixture(scope="module")
def probe() -> Probe:
    whole = random_prompt(600, width=64)
    return Probe(whole.query[:1, :1], whole.key[:1, :1], whole.value[:1, :1], steps=2)


def test_share(probe: Probe) -> None:
    """Steps of 599 and 600 tokens, and the one written."""
    assert probe.share(FP16()) == 1.0
    expected = 2 * (100 + 1) / (600 + 601)
    assert probe.share(StreamingLLM(budget=100)) == pytest.approx(expected)


def test_largest_setting_that_fits(probe: Probe) -> None:
    for method in (H2O(), StreamingLLM(), Quest()):
        found = matched(method, 0.25, probe)
        assert found is not None
        assert found.knob is not None
        budget = found.parameters["budget"]
        next_up: dict[str, Any] = {"budget": budget + found.knob.step}
        more = replace(found, **next_up)
        assert probe.share(found) <= 0.25 < probe.share(more)


def test_what_cannot_be_matched(probe: Probe) -> None:
    """KVO ends at 512 tokens and has its tail; KIVI has no knob."""
    assert matched(KVO(), 0.05, probe) is None
    assert matched(KVO(), 0.9, probe) is None
    assert matched(StreamingLLM(), 0.001, probe) is None
    with pytest.raises(ValueError, match="KIVI has no knob"):
        matched(KIVI(), 0.25, probe)


def test_quick_points(probe: Probe) -> None:
    points = quick_points(probe, whole_layers=True)
    assert len(set(points)) == len(points)
    assert set(quick_points(probe)) == {point for point in points if not point.dense_layers}
    assert points[0] == Point(method=FP16())
    published = probe.share(KVO())
    for point in points:
        own = point.method in DEFINED or point.is_control
        if point.method.knob is not None and not own:
            assert 0.9 * published <= probe.share(point.method) <= published
    layers = {d: {p.method for p in points if p.dense_layers == d} for d in (0, 2)}
    assert layers[2] < layers[0]
    assert {0, 2} == {p.dense_layers for p in points if p.method == Progressive()}
    assert set(DEFINED) < layers[0]
    assert len({p.method for p in points if p.method.name == "Progressive"} - set(DEFINED)) == 2
    controls = [point for point in points if point.is_control]
    assert Point(method=KVO(shuffled=True)) in controls
    assert Point(method=Progressive(shuffled=True)) in controls
    assert Point(method=FP16(), trained=False) in controls


def test_kvo_stays_as_published() -> None:
    """In 300 tokens every budget from 192 on moves the same bytes."""
    whole = random_prompt(300)
    short = Probe(whole.query, whole.key, whole.value, steps=2)
    assert matched(KVO(), short.share(KVO()), short) != KVO()
    assert Point(method=KVO()) in quick_points(short)


def test_sweep_points(probe: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the quick run has, and each budgeted method at the other shares."""
    monkeypatch.setattr(module, "BUDGETED", (StreamingLLM(), Quest()))
    monkeypatch.setattr(module, "SWEEP_SHARES", (0.2, 0.4))
    points = sweep_points(probe)
    assert len(set(points)) == len(points)
    assert set(quick_points(probe)) <= set(points)
    budgets = {(p.dense_layers, p.method) for p in points if p.method.name == "Quest"}
    assert len([p for p in budgets if p[0] == 0 and not p[1].shuffled]) == 3
    assert len([p for p in budgets if p[0] == 2]) == 1


def test_labels() -> None:
    assert Point(method=KVO()).label == "KVO"
    assert Point(method=FP16(), trained=False).label == "FP16, untrained model"


def test_steps_are_checked() -> None:
    whole = random_prompt(8)
    with pytest.raises(ValueError, match="steps must be 1 to 7, not 8"):
        Probe(whole.query, whole.key, whole.value, steps=8)
