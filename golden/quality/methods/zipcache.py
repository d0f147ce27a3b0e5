"""ZipCache: salient tokens in 4 bits, the others in 2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from golden.quality.interface import CacheMethod, CacheState, Prefill, Reading
from golden.quality.storage import (
    FP16_BYTES,
    PAIR_BYTES,
    STATISTIC_BYTES,
    Ranking,
    TokenBuffer,
    affine,
    bursts,
    half,
    token_bytes,
)

__all__ = ["ZipCache"]


@dataclass(frozen=True, kw_only=True)
class ZipCache(CacheMethod):
    """Mixed precision by normalised attention, found from a few probe queries.

    Saliency (equation 8 of the paper): ``p_i = sum over k of A[k, i] / nnz(A[:, i])``, the mean
    over the probe queries that can see token i, so that early tokens gain nothing by being seen
    more often. Probes (section 4.3): ``probes`` percent of the newest queries, and as many random
    ones. Quantiser (section 4.1): keys per channel; values per token after a division by ``c_j =
    sqrt(max abs X_j)`` of each channel. The prompt is one block; while decoding, each ``interval``
    tokens become a block, with probes among their own queries, and are FP16 until then.

    A block of n tokens stores codes, a mask of n bits (which are salient), per-channel scales of
    the keys of both widths, per-token scales of the values, and ``c``. Its probes read and write
    the sum and the count of each token that waits.

    Parameters
    ----------
    salient
        Percent of the tokens with ``high_bits``; 60 in the paper's GSM8K runs.
    high_bits, low_bits
        4 and 2.
    interval
        100 in the paper.
    probes
        5 in the paper: percent of newest, and of random queries.
    """

    name: ClassVar[str] = "ZipCache"
    paper: ClassVar[str] = "He et al., NeurIPS 2024, arXiv 2405.14256"

    salient: int = 60
    high_bits: int = 4
    low_bits: int = 2
    interval: int = 100
    probes: int = 5

    def __post_init__(self) -> None:
        self._at_least(1, "high_bits", "low_bits", "interval", "probes")
        self._at_least(0, "salient")
        for name, limit in (("salient", 100), ("probes", 50)):
            if getattr(self, name) > limit:
                raise ValueError(f"{name} must be at most {limit}, not {getattr(self, name)!r}")

    def probe_rows(self, queries: int) -> list[int]:
        """Which of ``queries`` consecutive queries are probes, ascending."""
        count = max(1, queries * self.probes // 100)
        source = torch.Generator().manual_seed(queries)
        random = torch.randperm(queries, generator=source)[:count].tolist()
        return sorted({*random, *range(queries - count, queries)})

    def salient_tokens(self, tokens: int) -> int:
        """How many of ``tokens`` are salient."""
        return tokens * self.salient // 100

    def block_bytes(self, tokens: int, width: int) -> int:
        """Bytes of a block: keys, then values, each padded to bursts."""
        high = self.salient_tokens(tokens)
        low = tokens - high
        codes = width * (high * self.high_bits + low * self.low_bits) / 8
        widths = (high > 0) + (low > 0)
        keys = codes + tokens / 8 + widths * width * PAIR_BYTES
        values = codes + tokens * PAIR_BYTES + width * FP16_BYTES
        return bursts(keys) + bursts(values)

    def start(self, prefill: Prefill) -> CacheState:
        """Quantise the prompt."""
        return _State(self, prefill)


class _State(CacheState):
    def __init__(self, method: ZipCache, prefill: Prefill) -> None:
        self._method = method
        self._heads = prefill.heads
        self._ranking = Ranking(shuffled=method.shuffled)
        self._keys = TokenBuffer(half(prefill.key))
        self._values = TokenBuffer(half(prefill.value))
        self._blocks = self._method.block_bytes(prefill.tokens, prefill.key.shape[-1])
        total = torch.zeros(prefill.key.shape[:-1], device=prefill.key.device)
        count = torch.zeros_like(total)
        for row in method.probe_rows(prefill.tokens):
            total[..., : row + 1] += prefill.probabilities(row, row + 1).sum((2, 3))
            count[..., : row + 1] += 1
        self._code(0, prefill.tokens, total / count.clamp(min=1))
        self._open_block()

    def _open_block(self) -> None:
        """From now on tokens wait in FP16."""
        self._first = len(self._keys)
        shape = (*self._keys.all.shape[:-2], self._method.interval)
        self._total = torch.zeros(shape, device=self._keys.all.device)
        self._count = torch.zeros(self._method.interval, device=self._keys.all.device)
        self._rows = set(self._method.probe_rows(self._method.interval))

    def _code(self, start: int, stop: int, saliency: Tensor) -> None:
        """Round the tokens from ``start`` to ``stop - 1`` as a block."""
        method = self._method
        high = method.salient_tokens(stop - start)
        order = self._ranking.top(saliency, stop - start).unsqueeze(-1)
        keys, values = self._keys.all[..., start:stop, :], self._values.all[..., start:stop, :]
        norm = half(values.abs().amax(-2, keepdim=True).sqrt())
        norm = torch.where(norm > 0, norm, 1.0)
        parts = (order[..., :high, :], order[..., high:, :])
        for tokens, bits in zip(parts, (method.high_bits, method.low_bits), strict=True):
            if tokens.shape[-2]:
                part = torch.take_along_dim(keys, tokens, -2).transpose(-1, -2)
                coded = affine(part, bits, part.shape[-1]).transpose(-1, -2)
                at = tokens.expand_as(coded)
                keys.scatter_(-2, at, coded)
                part = torch.take_along_dim(values, tokens, -2) / norm
                values.scatter_(-2, at, affine(part, bits, part.shape[-1]) * norm)

    def step(self, query: Tensor, key: Tensor, value: Tensor) -> Reading:
        method, width = self._method, key.shape[-1]
        written = token_bytes(width)
        if len(self._keys) - self._first == method.interval:
            self._code(self._first, len(self._keys), self._total / self._count.clamp(min=1))
            block = method.block_bytes(method.interval, width)
            self._blocks += block
            written += block
            self._open_block()
        self._keys.append(half(key))
        self._values.append(half(value))
        waiting = len(self._keys) - self._first
        read = self._blocks + waiting * token_bytes(width)
        if waiting - 1 in self._rows:
            statistics = bursts(waiting * 2 * STATISTIC_BYTES)
            read += statistics
            written += statistics
        return Reading(self._keys.all, self._values.all, self._heads * read, self._heads * written)

    def observe(self, probability: Tensor) -> None:
        waiting = len(self._keys) - self._first
        if waiting - 1 in self._rows:
            self._total[..., :waiting] += probability[..., self._first :].sum(2)
            self._count[:waiting] += 1
