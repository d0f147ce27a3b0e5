"""The page about whole steps is that of the published figures, and its sums are right."""

from __future__ import annotations

import json

import pytest

from hw.accelerator_config import system_core
from hw.config import preset
from tb.bench.generation_dram.__main__ import DOCUMENT, RESULT
from tb.bench.generation_dram.points import POINTS
from tb.bench.generation_dram.table import document, rows

FACTS = json.loads(RESULT.read_text())


def test_the_page_is_that_of_the_figures() -> None:
    assert DOCUMENT.read_text() == document(FACTS)
    assert len(rows(FACTS["points"])) == 1 + len(POINTS)


def test_the_figures_are_of_today() -> None:
    for point in FACTS["points"]:
        config = system_core(preset(point["preset"]))
        assert point["config_hash"] == f"0x{config.config_hash:08x}"


def test_every_byte_has_a_kind() -> None:
    for point in FACTS["points"]:
        measured, derived = point["measured"], point["derived"]
        moved = measured["dram"]["bytes_moved"]
        assert sum(measured["bytes"].values()) == moved
        assert measured["bytes"]["over_fetch"] == measured["dram"]["violations"] == 0
        assert derived["traffic"] == pytest.approx(moved / derived["dense16_bytes"])
        # A window of each sequence closes in 64 steps, whatever the preset's window is.
        window = preset(point["preset"]).window
        assert measured["windows"] * window == measured["steps"]
