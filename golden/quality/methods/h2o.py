"""H2O: the heavy hitters and the most recent tokens."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from golden.quality.interface import CacheMethod, CacheState, Knob, Prefill, Reading
from golden.quality.storage import STATISTIC_BYTES, Ranking, Slots, bursts, token_bytes

__all__ = ["H2O"]


@dataclass(frozen=True, kw_only=True)
class H2O(CacheMethod):
    """Evict the token with the smallest accumulated attention, the newest half protected.

    Algorithm 1 of the paper: step i attends to ``S_(i-1) + {i}``; then, if more than ``budget``
    tokens are held, the one whose score ``F`` is least goes. ``F`` adds the attention probabilities
    of all steps so far, the prompt's included (section 4.2), and here those of the query heads that
    share the KV head. Half of the budget is for heavy hitters, half for the most recent tokens
    (section 5). The score of every token is read and written in every step.

    Parameters
    ----------
    budget
        Tokens kept after a step; at least 2. A step reads one more.
    """

    name: ClassVar[str] = "H2O"
    paper: ClassVar[str] = "Zhang et al., NeurIPS 2023, arXiv 2306.14048"
    knob: ClassVar[Knob | None] = Knob("budget", lowest=2)

    budget: int = 256

    def __post_init__(self) -> None:
        self._at_least(2, "budget")

    @property
    def recent(self) -> int:
        """Newest tokens that are never evicted."""
        return self.budget // 2

    def start(self, prefill: Prefill) -> CacheState:
        """Keep the prompt's heavy hitters and its end."""
        return _State(self, prefill)


class _State(CacheState):
    def __init__(self, method: H2O, prefill: Prefill) -> None:
        self._method = method
        self._heads = prefill.heads
        self._ranking = Ranking(shuffled=method.shuffled)
        score = prefill.attention_sums().total
        if prefill.tokens > method.budget:
            old = prefill.tokens - method.recent
            heavy = self._ranking.top(score[..., :old], method.budget - method.recent)
            recent = torch.arange(old, prefill.tokens, device=score.device)
            kept = torch.cat((heavy, recent.expand(*score.shape[:-1], -1)), -1)
        else:
            kept = torch.arange(prefill.tokens, device=score.device).expand(score.shape)
        self._score = torch.take_along_dim(score, kept, -1)
        self._slots = Slots(prefill, kept)
        self._free: Tensor | None = None

    def step(self, query: Tensor, key: Tensor, value: Tensor) -> Reading:
        slots = self._slots
        if self._free is None:
            slots.append(key, value)
            self._score = torch.cat((self._score, torch.zeros_like(self._score[..., :1])), -1)
        else:
            slots.replace(self._free, key, value)
            self._score = self._score.scatter(-1, self._free.unsqueeze(-1), 0.0)
        token = token_bytes(key.shape[-1])
        scores = bursts(slots.live * STATISTIC_BYTES)
        return Reading(
            slots.keys,
            slots.values,
            self._heads * (slots.live * token + scores),
            self._heads * (token + scores),
        )

    def observe(self, probability: Tensor) -> None:
        self._score = self._score + probability.sum(2)
        if self._slots.live > self._method.budget:
            recent = self._slots.positions >= self._slots.now - self._method.recent
            self._free = self._ranking.lowest(self._score.masked_fill(recent, torch.inf))
