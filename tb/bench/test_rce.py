"""The page about caches of constant size is that of the published figures; its model is right."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from hw.config import preset
from tb.bench.rce.__main__ import DOCUMENT, RESULT
from tb.bench.rce.energy import shares, step_energy
from tb.bench.rce.measure import measure_area, measure_batch, measure_length
from tb.bench.rce.table import batch_rows, document, length_rows
from tb.generation.rce import with_slots
from tb.generation.small import SMALL

LM = with_slots(preset("lm"))


def test_the_page_is_that_of_the_figures() -> None:
    assert DOCUMENT.read_text() == document(json.loads(RESULT.read_text()))


def test_published_figures_are_of_this_configuration() -> None:
    facts = json.loads(RESULT.read_text())
    assert facts["design"]["config_hash"] == f"0x{LM.config_hash:08x}"
    for point in facts["lengths"]:
        # The last step reads all blocks of T tokens or of B, and writes alike but for the scores.
        assert point["derived"]["size_of_all"] == point["ratio"]
        assert point["derived"]["last_step_of_all"] == pytest.approx(point["ratio"], rel=0.02)
        assert 1 < point["derived"]["traffic_of_all"] < point["ratio"]


def test_energy_by_hand() -> None:
    parts = step_energy(LM)
    # 256 keys of 64 channels for 2 rows, 12 bits by 8: 0.2 * 96 / 64 and an addition of 0.1.
    assert parts["core"]["key products"] == pytest.approx(256 * 64 * 2 * 0.4)
    # 1 + 32 + 17 * 8 bits are three words, read and written.
    assert parts["rce"]["map"] == pytest.approx(6 * 2.34 + 0.1)
    # 3.48 pJ for each bit.
    assert parts["dram"]["bits"] == pytest.approx(8 * (32 * 1664 + 40 * 32) * 3.48)


def test_votes_cost_more() -> None:
    score, votes = shares(LM), shares(replace(LM, slot_rule="votes"))
    assert 0 < score["all"] < score["chip"] < votes["chip"] < 0.1
    # More slots do not change the share much: all is per token, but for the map.
    assert shares(replace(LM, slots=1024))["chip"] == pytest.approx(score["chip"], rel=0.1)


@pytest.mark.slow
def test_figures_add_up(seed: int, tmp_path: Path) -> None:
    point = measure_length(SMALL, 2, seed)
    assert point["measured"]["steps"] == 64
    # 32 steps that fill it are half as long in the mean; 32 more read what all would, or 2/3 of it.
    assert 1.3 < point["derived"]["traffic_of_all"] < 1.6
    roomy = replace(SMALL, slot_caches=16, name="tiny-batches")
    batches = [measure_batch(roomy, caches, seed) for caches in (1, 4)]
    assert batches[0]["derived"]["cycles_per_step"] > batches[1]["derived"]["cycles_per_step"]
    assert len(batch_rows(batches)) == 3
    assert len(length_rows([point])) == 2
    area = measure_area(SMALL, tmp_path)
    assert area["scores"]["logic"] > area["saliencies"]["logic"]
    assert area["votes"]["logic"] > area["victim"]["logic"] > 100
