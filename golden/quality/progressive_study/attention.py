"""All decode steps of a layer at once: what each may see is a mask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import log, sqrt

import torch
from torch import Tensor

from golden.model.architecture import AttentionFunction
from golden.progressive.format import PAGE_TOKENS
from golden.progressive.reference import choose_channels, keep
from golden.quality.decode import Traffic
from golden.quality.interface import Prefill
from golden.quality.methods.fp16 import FP16
from golden.quality.progressive_study.tensors import (
    PRODUCT,
    SINK_TOKEN,
    Levels,
    changed,
    code_key,
    hadamard,
    levels,
)
from golden.quality.progressive_study.variant import Variant

__all__ = ["Counts", "LevelStore", "study_attention"]

#: Distance of ``narrow`` "reach", in powers of two, and pages in turn of "reuse".
_DISTANCE, _TURN = 11.5, 4


@dataclass
class Counts:
    """What a variant read, over all layers, heads and steps.

    Members
    -------
    traffic : bytes at the model's head dimension.
    heads : KV heads times steps.
    candidates, kept : tokens; the newest are among both.
    """

    traffic: Traffic = field(default_factory=Traffic)
    heads: int = 0
    candidates: int = 0
    kept: int = 0


class LevelStore:
    """Levels of the layers of one prompt, for the variants that share them."""

    def __init__(self) -> None:
        self._key: object = None
        self._found: dict[int, Levels] = {}

    def get(self, variant: Variant, layer: int, make: Callable[[], Levels]) -> Levels:
        """Those of a layer; the store holds one kind of codes at a time."""
        if self._key != code_key(variant):
            self._key, self._found = code_key(variant), {}
        if layer not in self._found:
            self._found[layer] = make()
        return self._found[layer]


def _products(query: Tensor, keys: Tensor) -> Tensor:
    """``[B, G, R, S, T]`` of ``[B, G, R, S, D]`` and ``[B, G, T, D]``."""
    rows, steps = query.shape[2:4]
    return (query.flatten(2, 3) @ keys.transpose(-1, -2)).unflatten(2, (rows, steps))


def study_attention(
    variant: Variant, prefills: dict[int, Prefill], counts: Counts, store: LevelStore
) -> AttentionFunction:
    """Attention of a model's decode steps with ``variant`` in every layer."""

    def attention(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        prefill = prefills[layer]
        by_group = query.unflatten(1, (key.shape[1], -1))
        keys = torch.cat((prefill.key, key), -2)
        values = torch.cat((prefill.value, value), -2)
        step = torch.arange(prefill.tokens, keys.shape[-2]).unsqueeze(-1)
        token = torch.arange(keys.shape[-2])
        fp16 = sum(FP16.step_bytes(prefill.heads, int(t) + 1, keys.shape[-1]) for t in step)
        if layer < variant.dense_layers:
            scores = _products(by_group, keys) / sqrt(keys.shape[-1])
            weight = scores.masked_fill(token > step, -torch.inf).softmax(-1)
            counts.traffic.add(Traffic(fp16, 0, fp16))
            return (weight @ values.unsqueeze(2)).flatten(1, 2)
        asked, keys = changed(variant, layer, prefill.query, by_group, keys)
        past, _ = changed(variant, layer, prefill.query, prefill.query, prefill.key)
        seen = store.get(variant, layer, lambda: levels(variant, past, keys, values))
        counts.traffic.fp16 += fp16
        return _attend(variant, asked, seen, step, token, counts).flatten(1, 2)

    return attention


def _attend(
    variant: Variant, query: Tensor, seen: Levels, step: Tensor, token: Tensor, counts: Counts
) -> Tensor:
    """Outputs ``[B, G, R, S, D]``; ``step [S, 1]`` are the positions of the queries."""
    width = query.shape[-1]
    folded = query * seen.weight[:, :, None, None] / (sqrt(width) * log(2))
    if variant.rotation == "hadamard":
        folded = folded @ hadamard(width).float()
    first = token < variant.first
    newest = (token <= step) & (token > step - variant.window)
    ranked = (token <= step - variant.window) & ~first
    by_row = _products(folded * _channels(variant, folded).unsqueeze(2), seen.plane)
    estimates = by_row.mean(2) if variant.combine == "mean" else by_row.amax(2)
    chosen = _chosen(variant, estimates.masked_fill(~ranked, -torch.inf))
    candidate = newest | first | (chosen & ranked)

    upper = _products(folded, seen.upper).masked_fill(~candidate.unsqueeze(2), -torch.inf)
    # `keep` takes the rows before the tokens.
    kept = keep(upper.transpose(2, 3), variant.reach, variant.first) & candidate
    scores = torch.where(kept.unsqueeze(2), _products(folded, seen.whole), upper)
    weight = (scores * log(2)).softmax(-1) * kept.unsqueeze(2)
    output = weight @ seen.values.unsqueeze(2)
    if variant.change == "sink":
        one = slice(SINK_TOKEN, SINK_TOKEN + 1)
        sink = weight[..., one]
        output = (output - sink * seen.values[:, :, None, one]) / (1 - sink).clamp(min=1e-6)
    _count(variant, counts, candidate, kept, step, width)
    return output * seen.value_scale[:, :, None, None] + seen.value_centre[:, :, None, None]


def _channels(variant: Variant, query: Tensor) -> Tensor:
    """1 where a step ``[B, G, R, S, D]`` reads the channel's planes: ``[B, G, S, D]``."""
    by_step = query.transpose(2, 3)
    count = query.shape[-1] // variant.part
    mask = torch.zeros_like(by_step[..., 0, :])
    if variant.estimate == "products":
        split = by_step.unflatten(-1, (-1, PRODUCT)).abs().sum(-1)
        index = choose_channels(split, count // PRODUCT)
        whole = torch.zeros_like(split[..., 0, :]).scatter(-1, index, 1.0)
        return whole.repeat_interleave(PRODUCT, -1)
    return mask.scatter(-1, choose_channels(by_step, count), 1.0)


def _chosen(variant: Variant, estimates: Tensor) -> Tensor:
    """Mask ``[B, G, S, T]`` of the candidates by rank; those not ranked have -inf."""
    top = min(variant.top, estimates.shape[-1])
    if variant.narrow == "reuse":
        estimates = _reused(estimates, top)
    index = estimates.topk(top, -1).indices
    chosen = torch.zeros_like(estimates, dtype=torch.bool).scatter(-1, index, True)
    if variant.narrow == "reach":
        chosen &= estimates >= estimates.amax(-1, keepdim=True) - _DISTANCE
    return chosen & (estimates > -torch.inf)


def _reused(estimates: Tensor, top: int) -> Tensor:
    """Estimates of the best 2 ``top`` of the step before and of the pages whose turn it is."""
    page = torch.arange(estimates.shape[-1]) // PAGE_TOKENS
    seen = torch.ones_like(estimates[..., 0, :], dtype=torch.bool)
    steps = []
    for number, row in enumerate(estimates.unbind(-2)):
        allowed = row.masked_fill(~(seen | (page % _TURN == number % _TURN)), -torch.inf)
        steps.append(allowed)
        best = allowed.topk(min(2 * top, allowed.shape[-1]), -1).indices
        seen = torch.zeros_like(seen).scatter(-1, best, True)
    return torch.stack(steps, -2)


def _count(
    variant: Variant, counts: Counts, candidate: Tensor, kept: Tensor, step: Tensor, width: int
) -> None:
    form = variant.form(width)
    heads = candidate.shape[0] * candidate.shape[1]
    candidates, whole = int(candidate.sum()), int(kept.sum())
    for number in step.flatten().tolist():
        bytes_ = form.step_bytes(number + 1, kept=0)
        counts.traffic.read += heads * (bytes_.read - bytes_.keys)
        counts.traffic.written += heads * bytes_.written
    counts.traffic.read += candidates * form.key_bytes + whole * form.rest_bytes
    counts.heads += heads * len(step)
    counts.candidates += candidates
    counts.kept += whole
