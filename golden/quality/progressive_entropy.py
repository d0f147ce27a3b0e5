"""Entropy of what the progressive format stores: what a lossless code could save at best."""

from __future__ import annotations

import torch
from torch import Tensor

from golden.progressive.reference import HeadStatistics, compress
from golden.quality.interface import Prefill
from golden.quality.methods.progressive import Progressive

__all__ = ["entropies"]


def _entropy(codes: Tensor, bits: int) -> float:
    """Bits per code of ``[B, G, T, D]``, each channel of each head with its own frequencies."""
    by_channel = codes.movedim(-2, -1).flatten(0, -2)
    counts = torch.zeros(len(by_channel), 1 << bits, dtype=torch.float64)
    counts.scatter_add_(-1, by_channel, torch.ones_like(by_channel, dtype=torch.float64))
    share = counts / counts.sum(-1, keepdim=True)
    return float(torch.special.entr(share).sum(-1).mean() / torch.log(torch.tensor(2.0)))


def entropies(prefills: dict[int, Prefill]) -> dict[str, float]:
    """Bits per element, averaged over layers, heads and channels; frequencies are known for free.

    ``plane``: the most significant key bits, of 1; ``screen``: the upper key bits, of
    ``screen_bits``; ``key`` and ``value``: whole codes, of ``key_bits`` and ``value_bits``;
    ``scale``, ``zero``: the bytes of a key, of 8 each.
    """
    found: dict[str, list[float]] = {}
    for prefill in prefills.values():
        form = Progressive().form(head_dim=prefill.key.shape[-1])
        statistics = HeadStatistics.of(prefill.key, prefill.value, prefill.query.flatten(2, 3))
        tokens = compress(prefill.key, prefill.value, statistics, form)
        codes = tokens.key.codes
        for name, what, bits in (
            ("plane", codes >> form.key_bits - 1, 1),
            ("screen", codes >> form.key_bits - form.screen_bits, form.screen_bits),
            ("key", codes, form.key_bits),
            ("value", tokens.value.codes, form.value_bits),
            ("scale", tokens.key.scale, 8),
            ("zero", tokens.key.zero, 8),
        ):
            found.setdefault(name, []).append(_entropy(what, bits))
    return {name: sum(values) / len(values) for name, values in found.items()}
