"""What docs/integration.md computes and quotes is what simulations and result files say."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from hw.config import BEAT_BYTES, BURST_BYTES, AttentionConfig, preset
from hw.formats import Status
from tb.attention.catalogue import SCENARIOS
from tb.attention.golden_data import golden_data
from tb.attention.runner import require_equal, run_attention
from tb.harness.files import REPOSITORY
from tb.memory.test_fetch import fetch

GUIDE = (REPOSITORY / "docs" / "integration.md").read_text()
TINY = replace(preset("tiny"), memory_bytes=1 << 16)


def formula() -> Callable[[float, float, int, int], float]:
    """The function ``bandwidth`` of the guide."""
    (code,) = re.findall(r"```python\n(def bandwidth.*?)```", GUIDE, re.S)
    names: dict[str, Callable[[float, float, int, int], float]] = {}
    exec(code, names)
    return names["bandwidth"]


def examples() -> list[tuple[int, int, int, int, float]]:
    """Rows of its table: tags, reorder beats, beats of a request, latency, bandwidth."""
    rows = re.findall(r"^\| (\d+) \| (\d+) \| (\d+) \| (\d+) \| (\d\.\d\d) \|$", GUIDE, re.M)
    assert len(rows) >= 6
    return [(int(a), int(b), int(c), int(d), float(e)) for a, b, c, d, e in rows]


def cycles(config: AttentionConfig, request_beats: int, latency: int, requests: int) -> int:
    """Cycles that fetch takes for requests of one length."""
    bursts = request_beats * BEAT_BYTES // BURST_BYTES
    image = bytes(bursts * BURST_BYTES)
    return fetch(config, [(0, bursts)] * requests, image, memory={"latency_min": latency}).cycles


def simulated(tags: int, reorder: int, request_beats: int, latency: int) -> float:
    """Beats per cycle of a long sequence of requests, without its beginning."""
    config = replace(TINY, memory_tags=tags, reorder_beats=reorder)
    few = 4 * reorder // request_beats
    begun, done = (cycles(config, request_beats, latency, n) for n in (few, 3 * few))
    return 2 * few * request_beats / (done - begun)


@pytest.mark.parametrize("row", examples())
def test_the_bandwidth_formula(row: tuple[int, int, int, int, float]) -> None:
    tags, reorder, request_beats, latency, quoted = row
    computed = formula()(latency, request_beats, reorder, tags)
    assert f"{computed:.2f}" == f"{quoted:.2f}"
    assert simulated(tags, reorder, request_beats, latency) == pytest.approx(computed, rel=0.01)


def test_the_formula_bounds_the_core(seed: int) -> None:
    """The whole core comes near the bound where the bound is what limits it."""
    config = preset("tiny")
    data = golden_data(SCENARIOS["attention_fused"], config, seed)[1]
    run = run_attention(config, data, seed=seed, memory={"latency_min": 600})
    require_equal(run.comparison)
    beats, requests = run.counters["fetch.beats"], run.counters["fetch.requests"]
    bound = formula()(600, beats / requests, config.reorder_beats, config.memory_tags)
    assert bound < 0.5
    assert 0.85 * bound < beats / run.cycles <= bound


def test_every_status_has_its_row() -> None:
    for status in Status:
        assert re.search(rf"^\| .*`{status.name}`.* \|$", GUIDE, re.M), status.name
