"""The acceptance of the twin on the trained model, and that it can fail."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from golden import acceptance
from golden.acceptance import (
    LEAST_COSINE,
    LEAST_OVERLAP,
    NEAR_TIE,
    closeness,
    dense_closeness,
    summarise,
)
from golden.captured import captured_tensors, check_model
from golden.model.capture import CapturedKV, capture
from golden.reference import quantise_query
from golden.tensors import CASES
from hw.config import ConfigError, preset
from hw.formats import Mode

LM = preset("lm")


@pytest.fixture(scope="module")
def captured() -> CapturedKV:
    return capture("mixed")


@pytest.mark.parametrize("layer", range(LM.layers))
def test_real_kv(layer: int, captured: CapturedKV) -> None:
    """Every output row of the reference's selection, and the selection itself."""
    steps = [
        closeness(
            f"layer {layer}, KV head {head}",
            captured_tensors(captured, LM, layer=layer, kv_head=head, context=context),
            LM,
            layer,
        )
        for head in range(LM.kv_heads)
        for context in (LM.max_context, 1111)
    ]
    row = summarise(steps)[0]
    assert row["steps"] == 4
    assert row["cosine_worst"] >= LEAST_COSINE
    assert row["overlap_mean"] >= LEAST_OVERLAP
    assert row["gap_worst"] <= NEAR_TIE


@pytest.mark.parametrize("mode", [Mode.DENSE8, Mode.DENSE16])
def test_dense_modes(mode: Mode, captured: CapturedKV) -> None:
    steps = [
        dense_closeness(
            "all", captured_tensors(captured, LM, layer=layer, kv_head=1, context=2048), LM, mode
        )
        for layer in range(LM.layers)
    ]
    assert summarise(steps)[0]["cosine_worst"] >= LEAST_COSINE
    # 16-bit integers lose nothing that FP16 attention would keep.
    lossless = min(c for step in steps for c in step.dense_cosines)
    assert (lossless > 0.999999) == (mode == Mode.DENSE16)


@pytest.mark.parametrize("name", ["sink", "outlier_channels"])
def test_sink_and_outliers(name: str, seed: int) -> None:
    step = closeness(name, CASES[name](LM, LM.max_context, seed), LM)
    assert min(step.cosines) >= LEAST_COSINE
    assert step.overlap >= LEAST_OVERLAP or step.gap <= NEAR_TIE


def test_coarse_queries_fail(captured: CapturedKV, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: with 5 instead of 12 bits of query the figures fall below the limits."""

    def coarse(query: Tensor) -> tuple[Tensor, Tensor]:
        codes, scale = quantise_query(query)
        return codes >> 7 << 7, scale

    monkeypatch.setattr(acceptance, "quantise_query", coarse)
    steps = [
        closeness(
            "coarse", captured_tensors(captured, LM, layer=layer, kv_head=0, context=2048), LM
        )
        for layer in range(LM.layers)
    ]
    row = summarise(steps)[0]
    assert row["overlap_mean"] < LEAST_OVERLAP
    assert row["cosine_worst"] < LEAST_COSINE
    assert row["gap_worst"] > 0


def test_another_shape_than_the_model_is_refused(captured: CapturedKV) -> None:
    with pytest.raises(ConfigError, match="head_dim must be 64 for the trained model, not 32"):
        check_model(captured, preset("tiny"))


def test_captured_tensors_belong_to_their_heads(captured: CapturedKV) -> None:
    tensors = captured_tensors(captured, LM, layer=2, kv_head=1, context=300)
    assert torch.equal(tensors.keys, captured.key[2, 1, :300].half().float())
    assert torch.equal(tensors.query, captured.query[2, 2:4, 299].half().float())
