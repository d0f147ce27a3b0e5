"""H2O: the heavy hitters and the most recent tokens."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from golden.quality.interface import CacheMethod, CacheState, Knob, Prefill, Reading
from golden.quality.storage import Ranking, ScoredSlots

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
        self._ranking = Ranking(shuffled=method.shuffled)
        score = prefill.attention_sums().total
        if prefill.tokens > method.budget:
            old = prefill.tokens - method.recent
            heavy = self._ranking.top(score[..., :old], method.budget - method.recent)
            recent = torch.arange(old, prefill.tokens, device=score.device)
            kept = torch.cat((heavy, recent.expand(*score.shape[:-1], -1)), -1)
        else:
            kept = torch.arange(prefill.tokens, device=score.device).expand(score.shape)
        self._slots = ScoredSlots(prefill, kept, score)
        self._free: Tensor | None = None

    def step(self, query: Tensor, key: Tensor, value: Tensor) -> Reading:
        return self._slots.store(self._free, key, value)

    def observe(self, probability: Tensor) -> None:
        slots = self._slots
        slots.score = slots.score + probability.sum(2)
        if slots.live > self._method.budget:
            recent = slots.positions >= slots.now - self._method.recent
            self._free = self._ranking.lowest(slots.score.masked_fill(recent, torch.inf))
