"""SnapStream: sinks, a ring of recent tokens, and what the prompt's end voted for."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import avg_pool1d

from golden.quality.interface import CacheMethod, CacheState, Knob, Prefill, Reading
from golden.quality.storage import Ranking, TokenBuffer, half, take, token_bytes

__all__ = ["SnapStream"]


@dataclass(frozen=True, kw_only=True)
class SnapStream(CacheMethod):
    """A cache of constant size with fixed addresses: ``sinks | recent ring | selected``.

    Token t >= S lies at slot ``S + ((t - S) mod R)`` of sinks and ring. The rest of the budget is
    chosen once, from the prompt between sinks and ring: the softmax weights of its last ``window``
    queries, summed, average-pooled over ``kernel`` tokens, the largest. Nothing else is ever read.

    Parameters
    ----------
    budget
        Tokens that a step reads, the newest included; above ``sinks``. Half of it is the ring.
    sinks
        ``S``.
    window
        Queries that vote.
    kernel
        Width of the pooling, odd; 5 in the paper.
    """

    name: ClassVar[str] = "SnapStream"
    paper: ClassVar[str] = "SnapStream, 2025, arXiv 2511.03092"
    knob: ClassVar[Knob | None] = Knob("budget", lowest=16)

    budget: int = 256
    sinks: int = 4
    window: int = 32
    kernel: int = 5

    def __post_init__(self) -> None:
        self._at_least(0, "sinks")
        self._at_least(1, "window", "kernel")
        self._at_least(2 * self.sinks + 2, "budget")
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, not {self.kernel!r}")

    @property
    def ring(self) -> int:
        """``R``: recent tokens, the newest included."""
        return self.budget // 2

    @property
    def selected(self) -> int:
        """Tokens chosen from the prompt."""
        return self.budget - self.ring - self.sinks

    def start(self, prefill: Prefill) -> CacheState:
        """Choose from the prompt."""
        return _State(self, prefill)


class _State(CacheState):
    def __init__(self, method: SnapStream, prefill: Prefill) -> None:
        self._method = method
        self._heads = prefill.heads
        keys, values, tokens = half(prefill.key), half(prefill.value), prefill.tokens
        first = min(method.sinks, tokens)
        last = max(first, tokens - method.ring)
        voters = max(0, tokens - method.window)
        votes = prefill.probabilities(voters, tokens).sum((2, 3))
        pad = method.kernel // 2
        pooled = avg_pool1d(votes, method.kernel, stride=1, padding=pad)[..., first:last]
        ranking = Ranking(shuffled=method.shuffled)
        chosen = first + ranking.top(pooled, method.selected)
        sinks = torch.arange(first, device=keys.device).expand(*chosen.shape[:-1], -1)
        kept = torch.cat((sinks, chosen), -1)
        self._kept = take(keys, kept), take(values, kept)
        self._ring = TokenBuffer(keys[..., last:, :]), TokenBuffer(values[..., last:, :])

    def step(self, query: Tensor, key: Tensor, value: Tensor) -> Reading:
        parts = []
        for kept, ring, new in zip(self._kept, self._ring, (key, value), strict=True):
            ring.append(half(new))
            parts.append(torch.cat((kept, ring.all[..., -self._method.ring :, :]), -2))
        token = self._heads * token_bytes(key.shape[-1])
        return Reading(parts[0], parts[1], parts[0].shape[-2] * token, token)
