"""A cache method of one's own: attend to the newest tokens only.

``--method docs.examples.newest_tokens.NewestTokens:budget=256`` gives it to the commands.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from golden.quality.interface import CacheMethod, CacheState, Knob, Prefill, Reading
from golden.quality.storage import TokenBuffer, half, token_bytes


@dataclass(frozen=True, kw_only=True)
class NewestTokens(CacheMethod):
    """Reads the newest ``budget`` tokens in FP16, each key and value padded to bursts."""

    name: ClassVar[str] = "newest tokens"
    paper: ClassVar[str] = "an example"
    knob: ClassVar[Knob | None] = Knob("budget", lowest=1)

    budget: int = 128

    def __post_init__(self) -> None:
        self._at_least(1, "budget")

    def start(self, prefill: Prefill) -> CacheState:
        """Keep everything; what is read is decided step by step."""
        return _State(self, prefill)


class _State(CacheState):
    def __init__(self, method: NewestTokens, prefill: Prefill) -> None:
        self._budget = method.budget
        self._heads = prefill.heads
        self._keys = TokenBuffer(half(prefill.key))
        self._values = TokenBuffer(half(prefill.value))

    def step(self, query: Tensor, key: Tensor, value: Tensor) -> Reading:
        """Write the new token, read the newest."""
        self._keys.append(half(key))
        self._values.append(half(value))
        token = self._heads * token_bytes(key.shape[-1])
        read = min(self._budget, len(self._keys))
        newest = slice(len(self._keys) - read, None)
        return Reading(
            self._keys.all[..., newest, :], self._values.all[..., newest, :], read * token, token
        )
