"""Layers that share keys and values."""

import pytest
import torch

from golden.quality.decode import Traffic, method_attention
from golden.quality.methods.cross_layer import CrossLayer
from golden.quality.methods.fp16 import FP16
from tb.golden.quality.small import random_prompt


def test_producers() -> None:
    assert [CrossLayer(share=2).producer(layer) for layer in range(5)] == [0, 0, 2, 2, 4]
    assert [CrossLayer(share=3).producer(layer) for layer in range(5)] == [0, 0, 0, 3, 3]


@pytest.mark.parametrize(("share", "dense_layers", "source"), [(2, 0, 0), (1, 0, 1), (2, 1, 1)])
def test_layer_reads_its_producer(share: int, dense_layers: int, source: int) -> None:
    """Layer 1 decodes with the keys and values of layer 0, unless one of them stays whole."""
    wholes = {layer: random_prompt(12, seed=layer) for layer in (0, 1)}
    prefills = {layer: random_prompt(8, seed=10 + layer) for layer in (0, 1)}
    traffic = Traffic()
    method = CrossLayer(share=share)
    attention = method_attention(method, prefills, traffic, dense_layers=dense_layers)
    plain = method_attention(FP16(), {1: prefills[1].reading(prefills[source])}, Traffic())
    for layer, whole in wholes.items():
        found = attention(layer, whole.query.flatten(1, 2), whole.key, whole.value)
    expected = plain(1, wholes[1].query.flatten(1, 2), wholes[source].key, wholes[source].value)
    assert torch.equal(found, expected)
    # 12 steps of 4 caches with 32 channels: only producers write. Every layer reads.
    assert traffic.written == 12 * 4 * 128 * (1 if source == 0 else 2)
    assert traffic.read == 2 * 4 * 128 * sum(range(9, 21))


def test_parameters() -> None:
    with pytest.raises(ValueError, match="share must be an integer from 1 up, not 0"):
        CrossLayer(share=0)
