"""Scissorhands: tokens that were important stay important."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from golden.quality.interface import CacheMethod, CacheState, Knob, Prefill, Reading
from golden.quality.storage import STATISTIC_BYTES, Ranking, Slots, bursts, token_bytes

__all__ = ["Scissorhands"]


@dataclass(frozen=True, kw_only=True)
class Scissorhands(CacheMethod):
    """Drop half of a full cache at once: the tokens that were seldom above average.

    Algorithm 2 of the paper: over the last ``window`` steps count how often a token's attention was
    ``> 1/t`` (t tokens so far), protect the newest ``recent``, drop ``m = budget / 2`` when the
    cache is full. As printed it counts ``< 1/t`` and keeps the smallest counts first; this counts
    the important steps and drops the smallest. Query heads that share a KV head count each.

    Each step reads and writes the count of every token, writes its new mark and reads the one that
    leaves the window (``bit_length(R)`` bits each). Dropped slots are free; nothing moves.

    Parameters
    ----------
    budget
        Tokens that the cache never exceeds; at least ``2 * recent``.
    window
        ``w``; 400 in the paper.
    recent
        ``r``; 10 in the paper.
    """

    name: ClassVar[str] = "Scissorhands"
    paper: ClassVar[str] = "Liu et al., NeurIPS 2023, arXiv 2305.17118"
    knob: ClassVar[Knob | None] = Knob("budget", lowest=20)

    budget: int = 256
    window: int = 400
    recent: int = 10

    def __post_init__(self) -> None:
        self._at_least(1, "window", "recent")
        self._at_least(2 * self.recent, "budget")

    def start(self, prefill: Prefill) -> CacheState:
        """Take a prompt that fills the cache as a full cache."""
        return _State(self, prefill)


class _State(CacheState):
    def __init__(self, method: Scissorhands, prefill: Prefill) -> None:
        self._method = method
        self._heads = prefill.heads
        self._ranking = Ranking(shuffled=method.shuffled)
        tokens, device = prefill.tokens, prefill.key.device
        self._mark_bits = prefill.query.shape[2].bit_length()
        first = max(0, tokens - method.window)
        average = 1 / torch.arange(first + 1, tokens + 1, device=device, dtype=torch.float32)
        marks = prefill.probabilities(first, tokens) > average.unsqueeze(-1)
        #: Marks of the last steps, oldest first: [B, G, steps, slots].
        self._marks = marks.sum(2, dtype=torch.uint8)
        whole = torch.arange(tokens, device=device).expand(prefill.key.shape[:-1])
        self._slots = Slots(prefill, whole)
        self._drop()

    def _drop(self) -> None:
        """Halve the cache if it is full."""
        method, slots = self._method, self._slots
        if slots.live < method.budget:
            return
        count = self._marks.sum(-2, dtype=torch.float32)
        recent = slots.positions >= slots.now - method.recent
        ranked = count.masked_fill(recent, torch.inf)
        kept = self._ranking.top(ranked, method.budget - method.budget // 2).sort(-1).values
        slots.keep(kept)
        self._marks = torch.take_along_dim(self._marks, kept.unsqueeze(-2), -1)

    def step(self, query: Tensor, key: Tensor, value: Tensor) -> Reading:
        slots = self._slots
        slots.append(key, value)
        self._marks = torch.cat((self._marks, torch.zeros_like(self._marks[..., :1])), -1)
        token = token_bytes(key.shape[-1])
        statistics = bursts(slots.live * STATISTIC_BYTES) + bursts(slots.live * self._mark_bits / 8)
        return Reading(
            slots.keys,
            slots.values,
            self._heads * (slots.live * token + statistics),
            self._heads * (token + statistics),
        )

    def observe(self, probability: Tensor) -> None:
        marks = (probability > 1 / self._slots.now).sum(2, dtype=torch.uint8)
        self._marks = torch.cat((self._marks, marks.unsqueeze(-2)), -2)[
            ..., -self._method.window :, :
        ]
        self._drop()
