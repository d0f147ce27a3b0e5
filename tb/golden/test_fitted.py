"""Synthetic tensors with the statistics of captured KV."""

from __future__ import annotations

from dataclasses import replace
from math import sqrt

import pytest
import torch
from torch import Tensor

from golden.fitted import OUTLIER_FACTOR, SINK_SPREADS, Statistics, fitted, statistics
from hw.config import preset

LM = preset("lm")
WIDE = replace(LM, name="wide", head_dim=128, rows=3)


def spread_of_scores(query: Tensor, keys: Tensor) -> float:
    return float((query @ keys.T / sqrt(query.shape[-1])).std(-1).mean())


@pytest.mark.parametrize("context", [1, 2, 300])
def test_shapes(context: int) -> None:
    tensors = fitted(WIDE, context, 5)
    assert tensors.keys.shape == tensors.values.shape == (context, 128)
    assert tensors.queries.shape == (3, context, 128)
    for x in (tensors.keys, tensors.values, tensors.queries):
        assert bool(x.isfinite().all())
        assert torch.equal(x, x.half().float())


def test_the_seed_decides() -> None:
    one, again, other = (fitted(LM, 40, seed) for seed in (1, 1, 2))
    assert torch.equal(one.keys, again.keys)
    assert not torch.equal(one.keys, other.keys)


def test_draws_have_the_statistics() -> None:
    given = Statistics(torch.tensor([3.0]), torch.tensor([2.0]), torch.tensor([0.8]))
    drawn = given.draw(40_000, 1, torch.Generator().manual_seed(1))[:, 0]
    centred = drawn - drawn.mean()
    assert float(drawn.mean()) == pytest.approx(3.0, abs=0.15)
    assert float(drawn.std()) == pytest.approx(2.0, rel=0.03)
    assert float((centred[1:] * centred[:-1]).mean() / centred.square().mean()) == pytest.approx(
        0.8, abs=0.02
    )


def test_captured_statistics_are_those_of_a_trained_model() -> None:
    keys, values, queries, spread = statistics()
    assert len(keys.mean) == len(values.mean) == LM.layers * LM.kv_heads * LM.head_dim
    assert len(queries.mean) == LM.rows * len(keys.mean)
    # Neighbouring keys resemble each other, as RoPE's slow channels make them.
    assert float(keys.correlation.mean()) > 0.3
    assert spread > 1


def test_scores_are_as_spread_as_the_captured_ones() -> None:
    tensors = fitted(WIDE, 1000, 3)
    found = spread_of_scores(tensors.queries[:, -256:].flatten(0, 1), tensors.keys[1:])
    assert found == pytest.approx(statistics()[3], rel=0.05)


def test_sink_and_outliers() -> None:
    tensors = fitted(WIDE, 1000, 4)
    scores = tensors.queries.mean((0, 1)) @ tensors.keys.T / sqrt(128)
    assert int(scores.argmax()) == 0
    assert float(scores[0]) == pytest.approx(SINK_SPREADS * statistics()[3], rel=0.01)
    size = tensors.keys[1:].abs().mean(0).sort(descending=True).values
    assert float(size[0] / size.median()) > OUTLIER_FACTOR / 2
