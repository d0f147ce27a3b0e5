"""SnapKV: what the end of the prompt attends to."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import max_pool1d

from golden.quality.interface import CacheMethod, CacheState, Knob, Prefill, Reading
from golden.quality.storage import Ranking, TokenBuffer, half, take, token_bytes

__all__ = ["SnapKV"]


@dataclass(frozen=True, kw_only=True)
class SnapKV(CacheMethod):
    """Keep what an observation window at the end of the prompt votes for, and all that follows.

    Section 4.1 and Listing 1 of the paper: ``C = sum over the queries of the window of W_obs``, the
    softmax weights of the prefix (here also over the query heads that share the KV head); a pooling
    of ``kernel`` tokens keeps clusters together; ``I = Top_k(C)`` with ``budget - window`` tokens,
    and the window itself. Chosen once; generated tokens are all kept.

    Parameters
    ----------
    budget
        Tokens of the prompt that stay; above ``window``.
    window
        ``L_obs``; 32 in the paper's runs.
    kernel
        Width of the maximum pooling, odd; 7 in the paper's runs.
    """

    name: ClassVar[str] = "SnapKV"
    paper: ClassVar[str] = "Li et al., NeurIPS 2024, arXiv 2404.14469"
    knob: ClassVar[Knob | None] = Knob("budget", lowest=33)

    budget: int = 256
    window: int = 32
    kernel: int = 7

    def __post_init__(self) -> None:
        self._at_least(1, "window", "kernel")
        self._at_least(self.window + 1, "budget")
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, not {self.kernel!r}")

    def start(self, prefill: Prefill) -> CacheState:
        """Choose from the prompt."""
        return _State(self, prefill)


class _State(CacheState):
    def __init__(self, method: SnapKV, prefill: Prefill) -> None:
        self._heads = prefill.heads
        keys, values = half(prefill.key), half(prefill.value)
        tokens = prefill.tokens
        if tokens > method.budget:
            prefix = tokens - method.window
            votes = prefill.probabilities(prefix, tokens).sum((2, 3))[..., :prefix]
            pooled = max_pool1d(votes, method.kernel, stride=1, padding=method.kernel // 2)
            ranking = Ranking(shuffled=method.shuffled)
            chosen = ranking.top(pooled, method.budget - method.window)
            keys = torch.cat((take(keys, chosen), keys[..., prefix:, :]), -2)
            values = torch.cat((take(values, chosen), values[..., prefix:, :]), -2)
        self._keys, self._values = TokenBuffer(keys), TokenBuffer(values)

    def step(self, query: Tensor, key: Tensor, value: Tensor) -> Reading:
        self._keys.append(half(key))
        self._values.append(half(value))
        token = self._heads * token_bytes(key.shape[-1])
        return Reading(self._keys.all, self._values.all, len(self._keys) * token, token)
