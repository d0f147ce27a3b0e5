"""RCE: a cache of constant size, the least relevant token replaced by the new one."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from golden.quality.interface import CacheMethod, CacheState, Knob, Prefill, Reading
from golden.quality.storage import Ranking, ScoredSlots

__all__ = ["RCE", "decayed_attention"]

_BLOCK = 256
#: Weights below are left out of a decayed sum.
_NEGLIGIBLE = 1e-6


def decayed_attention(prefill: Prefill, decay: float) -> Tensor:
    """What ``A <- decay * A + p`` over the prompt's queries makes of each token, ``[B, G, T]``."""
    if decay == 1:
        return prefill.attention_sums().total
    total = torch.zeros(prefill.key.shape[:-1], device=prefill.key.device)
    tokens = prefill.tokens
    stop = tokens
    while stop > 0 and decay ** (tokens - stop) > _NEGLIGIBLE:
        start = max(0, stop - _BLOCK)
        age = torch.arange(tokens - 1 - start, tokens - 1 - stop, -1, device=total.device)
        by_query = prefill.probabilities(start, stop).sum(2)
        total[..., :stop] += (by_query * (decay**age).unsqueeze(-1)).sum(-2)
        stop = start
    return total


@dataclass(frozen=True, kw_only=True)
class RCE(CacheMethod):
    """The same number of tokens for every input, head and layer.

    After a step ``A_i <- decay * A_i + p_i`` (summed over the query heads of the group); the token
    with the least ``A`` leaves when the next one comes, so its slot is known a step ahead. ``A`` of
    every token is read and written in each step; which position lies in which slot is the MMU's
    own, on chip. The paper does not publish the score: this one, with sinks and recent tokens
    protected, is the project's.

    Parameters
    ----------
    budget
        Tokens of the cache, the newest included; above ``sinks + recent``.
    decay
        0 (the latest attention alone) to 1 (all of it, as H2O's).
    sinks, recent
        First and newest tokens that stay.
    """

    name: ClassVar[str] = "RCE"
    paper: ClassVar[str] = "RCE and KV-MMU, IEEE JETCAS 2025; score of this project"
    knob: ClassVar[Knob | None] = Knob("budget", lowest=24)

    budget: int = 256
    decay: float = 0.95
    sinks: int = 4
    recent: int = 16

    def __post_init__(self) -> None:
        self._at_least(0, "sinks")
        self._at_least(1, "recent")
        self._at_least(self.sinks + self.recent + 1, "budget")
        if not 0 <= self.decay <= 1:
            raise ValueError(f"decay must be 0 to 1, not {self.decay!r}")

    def start(self, prefill: Prefill) -> CacheState:
        """Keep the protected tokens of the prompt and the most relevant others."""
        return _State(self, prefill)


class _State(CacheState):
    def __init__(self, method: RCE, prefill: Prefill) -> None:
        self._method = method
        self._ranking = Ranking(shuffled=method.shuffled)
        relevance = decayed_attention(prefill, method.decay)
        place = torch.arange(prefill.tokens, device=relevance.device).expand(relevance.shape)
        ranked = self._protected(relevance, place, prefill.tokens)
        kept = self._ranking.top(ranked, method.budget)
        self._slots = ScoredSlots(prefill, kept, relevance)
        self._choose()

    def _protected(self, relevance: Tensor, positions: Tensor, now: int) -> Tensor:
        """Infinite for tokens that must stay; the newest is at ``now - 1``."""
        stays = (positions < self._method.sinks) | (positions >= now - self._method.recent)
        return relevance.masked_fill(stays, torch.inf)

    def _choose(self) -> None:
        """The slot of the next token."""
        slots = self._slots
        ranked = self._protected(slots.score, slots.positions, slots.now)
        full = slots.live >= self._method.budget
        self._victim = self._ranking.lowest(ranked) if full else None

    def step(self, query: Tensor, key: Tensor, value: Tensor) -> Reading:
        return self._slots.store(self._victim, key, value)

    def observe(self, probability: Tensor) -> None:
        self._slots.score = self._method.decay * self._slots.score + probability.sum(2)
        self._choose()
