"""Arithmetic of the figures at the DRAM pins, and that what is published is today's."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hw.accelerator_config import system_core
from hw.config import preset
from hw.formats import Mode
from tb.bench.accelerator.__main__ import DOCUMENT, RESULT
from tb.bench.accelerator.points import Point, find_point, with_projections
from tb.bench.accelerator.table import document


def point(mode: str, context: int, cycles: int, moved: float, share: float) -> dict[str, Any]:
    return {
        "preset": "paper",
        "mode": mode,
        "standard": "hbm2-2000",
        "slices": 1,
        "context": context,
        "jobs": 8,
        "measured": {"cycles": cycles},
        "derived": {
            "share_of_dense16": share,
            "pin_bytes_per_job": moved,
            "required_bytes": 8 * moved,
        },
    }


def test_comparison_with_the_dense_baseline() -> None:
    dense = point("dense16", 4096, 1000, 2000.0, 1.0)
    found = with_projections([dense, point("kvo", 4096, 100, 160.0, 0.08)])
    derived = found[1]["derived"]
    assert derived["share_with_two_dense_layers"] == pytest.approx((2 * 1.0 + 30 * 0.08) / 32)
    assert derived["speedup_over_dense16"] == pytest.approx(10)
    assert derived["bound_of_speedup"] == pytest.approx(12.5)
    assert "speedup_over_dense16" not in found[0]["derived"]


def test_projection_goes_on_in_a_line() -> None:
    near = [point("kvo", 4096, 1, 100.0, 0.1), point("kvo", 8192, 1, 140.0, 0.05)]
    far = with_projections(near)[1]["projected"]
    assert far["pin_bytes_per_job"] == pytest.approx(140 + 40 / 4096 * (32768 - 8192))
    assert far["share_of_dense16"] == pytest.approx(far["pin_bytes_per_job"] / (32768 * 4 * 128))
    mixed = 2 / 32 + 30 / 32 * far["share_of_dense16"]
    assert far["share_with_two_dense_layers"] == pytest.approx(mixed)


def test_figures_of_another_design_are_not_reused() -> None:
    core = system_core(preset("paper"))
    wanted = Point("paper", Mode.KVO, 4096, slices=2)
    known = point("kvo", 4096, 1, 1.0, 0.1) | {
        "config_hash": f"{core.config_hash:#010x}",
        "slices": 2,
        "jobs": 16,
        "seed": 1,
    }
    assert find_point(wanted, 1, [known]) is known
    others = {"config_hash": "0x00000000", "slices": 4, "jobs": 8, "mode": "dense16", "seed": 2}
    for name, other in others.items():
        assert find_point(wanted, 1, [known | {name: other}]) is None


def test_what_is_published_adds_up() -> None:
    facts = json.loads(RESULT.read_text())
    assert DOCUMENT.read_text() == document(facts)
    for p in facts["points"]:
        assert p["derived"]["unexplained_bytes"] == 0


def test_what_is_published_is_of_todays_configuration() -> None:
    for p in json.loads(RESULT.read_text())["points"]:
        core = system_core(preset(p["preset"]))
        assert p["config_hash"] == f"{core.config_hash:#010x}", "measure again"
