"""Decode steps of a layer through a cache method, all given at once or one after another."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor

from golden.model.architecture import AttentionFunction
from golden.quality.interface import CacheMethod, Prefill, Reading
from golden.quality.methods.fp16 import FP16

__all__ = ["Decoding", "Traffic", "attend", "decode", "method_attention"]


@dataclass
class Traffic:
    """Bytes of all steps so far."""

    read: int = 0
    written: int = 0
    #: What `FP16` would have moved in the same steps.
    fp16: int = 0

    @property
    def share(self) -> float:
        """All bytes over those of FP16."""
        return (self.read + self.written) / self.fp16

    def add(self, other: Traffic) -> None:
        """Add the bytes of other steps."""
        self.read += other.read
        self.written += other.written
        self.fp16 += other.fp16


def attend(query: Tensor, reading: Reading) -> tuple[Tensor, Tensor]:
    """Output ``[B, G, R, D]`` and probabilities ``[B, G, R, n]`` of a step."""
    scores = query @ reading.keys.transpose(-1, -2) / sqrt(query.shape[-1])
    probability = scores.softmax(-1)
    return probability @ reading.values, probability


class Decoding:
    """The caches of one layer during generation, and their traffic so far."""

    def __init__(self, method: CacheMethod, prefill: Prefill) -> None:
        self._state = method.start(prefill)
        self._heads = prefill.heads
        #: Tokens so far.
        self.tokens = prefill.tokens
        self.traffic = Traffic()

    def run(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """The next S steps, one after another: a step sees nothing later than itself.

        Parameters
        ----------
        query
            ``[B, G, R, S, D]``.
        key, value
            ``[B, G, S, D]``.

        Returns
        -------
        Tensor
            Outputs in the shape of ``query``.
        """
        outputs = torch.empty_like(query)
        steps, width = query.shape[-2:]
        for t in range(steps):
            reading = self._state.step(query[..., t, :], key[..., t, :], value[..., t, :])
            outputs[..., t, :], probability = attend(query[..., t, :], reading)
            self._state.observe(probability)
            self.tokens += 1
            dense = FP16.step_bytes(self._heads, self.tokens, width)
            self.traffic.add(Traffic(reading.read, reading.written, dense))
        return outputs


def decode(
    method: CacheMethod, prefill: Prefill, query: Tensor, key: Tensor, value: Tensor
) -> tuple[Tensor, Traffic]:
    """All steps after a prompt: what `Decoding.run` returns, and their traffic."""
    decoding = Decoding(method, prefill)
    return decoding.run(query, key, value), decoding.traffic


def method_attention(
    method: CacheMethod, prefills: dict[int, Prefill], traffic: Traffic, *, dense_layers: int = 0
) -> AttentionFunction:
    """Attention of a model's decode steps with ``method`` in every layer from ``dense_layers`` on.

    Each call goes on where the one before it ended.

    Parameters
    ----------
    prefills
        The prompt by layer.
    traffic
        Receives the bytes of all layers.
    dense_layers
        Layers below stay in FP16, and count as that.
    """
    decodings: dict[int, Decoding] = {}
    produced: dict[int, tuple[Tensor, Tensor]] = {}

    def attention(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        use = FP16() if layer < dense_layers else method
        produced[layer] = (key, value)
        source = max(use.producer(layer), min(layer, dense_layers))
        if layer not in decodings:
            prefill = prefills[layer]
            if source != layer:
                prefill = prefill.reading(prefills[source])
            decodings[layer] = Decoding(use, prefill)
        decoding = decodings[layer]
        decoding.traffic = Traffic()
        outputs = decoding.run(query.unflatten(1, (key.shape[1], -1)), *produced[source])
        if source != layer:
            decoding.traffic.written = 0
        traffic.add(decoding.traffic)
        return outputs.flatten(1, 2)

    return attention
