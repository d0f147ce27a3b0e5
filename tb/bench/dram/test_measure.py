"""A figure from traffic to fraction, through the RTL."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hw.memory.dram import StandardError, standard_names
from tb.bench.dram import measure as measuring
from tb.bench.dram.gaps import RunTooShort
from tb.bench.dram.measure import measure, stretch_bounds
from tb.bench.dram.points import CASES, POINTS, STANDARDS, DramPoint, controller_facts
from tb.bench.dram.traffic import Traffic, WrongAnswer
from tb.memory.dram.image import arrange

INTERVALS = 3
SMALL = DramPoint(standard="lpddr5-6400-x16", case="gather", target=0.93)
MIXED = replace(SMALL, case="mixed", target=0.90)


def consistent(point: DramPoint, found: dict[str, Any]) -> None:
    """Check the sums of a figure."""
    stretch, run, derived = (
        found["measured"]["stretch"],
        found["measured"]["run"],
        found["derived"],
    )
    standard = point.config.standard
    assert stretch["clocks"] == INTERVALS * standard["tREFI"]
    assert run["bytes"] == (run["reads"] + run["writes"]) * standard.burst_bytes
    useful, idle = derived["useful_fraction"], sum(derived["idle_share"].values())
    assert useful + idle == pytest.approx(1, abs=1e-3)
    assert useful == pytest.approx(derived["whole_run_fraction"], abs=0.02)
    assert stretch["refreshes"] > 0.7 * derived["refreshes_due"]
    assert derived["target_met"] is (useful >= derived["target"])
    assert derived["target_met"]


def test_gather() -> None:
    found = measure(SMALL, 3, intervals=INTERVALS)
    consistent(SMALL, found)
    assert (found["case"], found["seed"], found["derived"]["write_share"]) == ("gather", 3, 0)
    fewer = measure(replace(SMALL, outstanding=32), 3, intervals=INTERVALS)
    assert fewer["derived"]["useful_fraction"] < found["derived"]["useful_fraction"] - 0.1


def test_other_contents_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: the device has another image than the check."""
    monkeypatch.setattr(
        measuring, "arrange", lambda image, places: arrange(image[16:] + image[:16], places)
    )
    with pytest.raises(WrongAnswer, match="has other data"):
        measure(replace(SMALL, case="streaming"), 3, intervals=1)


def test_bytes_that_nobody_asked_for_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: more bursts on the pins than requests."""
    monkeypatch.setattr(measuring, "BYTES", 256)
    monkeypatch.setattr(Traffic, "check", lambda *_, **__: None)
    with pytest.raises(AssertionError, match="read"):
        measure(SMALL, 3, intervals=1)


@pytest.mark.slow
def test_mixed() -> None:
    found = measure(MIXED, 3, intervals=INTERVALS)
    consistent(MIXED, found)
    assert found["derived"]["write_share"] == pytest.approx(0.05, abs=0.01)
    assert 0.3 < found["derived"]["streaming_share"] < 0.65
    assert found["derived"]["idle_share"]["turn"] > 0


@pytest.mark.slow
def test_a_client_that_is_done_too_early_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control."""
    monkeypatch.setattr(measuring, "READS_PER_WRITE", 100)
    with pytest.raises(RunTooShort, match=r"must have bursts of .* not only of"):
        measure(MIXED, 3, intervals=INTERVALS)


def test_the_points_are_what_was_promised() -> None:
    assert {point.standard for point in POINTS} == set(STANDARDS) == set(standard_names())
    assert {point.case for point in POINTS} == set(CASES)
    assert len(set(POINTS)) == len(POINTS)


def test_targets_and_caps() -> None:
    ddr4 = DramPoint(standard="ddr4-3200", case="streaming", target=0.99, of_cap=True)
    assert ddr4.cap == pytest.approx(1 - 560 / 12480)
    assert ddr4.least == pytest.approx(0.99 * ddr4.cap)
    assert (SMALL.cap, SMALL.least, replace(SMALL, target=None).least) == (1, 0.93, None)
    assert SMALL.window == 8


def test_the_stretch_begins_when_refreshes_are_due() -> None:
    interval = SMALL.config.standard["tREFI"]
    assert stretch_bounds(SMALL.config, 3) == (7 * interval, 10 * interval)


def test_the_hash_depends_on_parameters_and_timing() -> None:
    config = SMALL.config
    facts = controller_facts(config)
    assert facts["refresh"] == "per_bank"
    slower = replace(config, standard=config.standard.with_timing(tCL=18))
    others = [slower, replace(config, read_queue=4), replace(config, refresh="all_bank")]
    hashes = {controller_facts(other)["hash"] for other in (config, *others)}
    assert len(hashes) == 4
    assert controller_facts(replace(config))["hash"] == facts["hash"]


def test_bad_parameters() -> None:
    with pytest.raises(StandardError, match="gear must be one of 1, 2, not 3"):
        _ = replace(SMALL, gear=3).config
