"""The uncompressed cache: every key and value in FP16."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from golden.quality.interface import CacheMethod, CacheState, Prefill, Reading
from golden.quality.storage import TokenBuffer, half, token_bytes

__all__ = ["FP16"]


@dataclass(frozen=True, kw_only=True)
class FP16(CacheMethod):
    """Reads all tokens, writes the new one; the measure of all others' traffic."""

    name: ClassVar[str] = "FP16"
    paper: ClassVar[str] = "baseline"

    def start(self, prefill: Prefill) -> CacheState:
        """Keep everything."""
        return _State(prefill)

    @staticmethod
    def step_bytes(heads: int, tokens: int, width: int) -> int:
        """Bytes of a step that attends to ``tokens``: all are read, the newest is written."""
        return heads * (tokens + 1) * token_bytes(width)


class _State(CacheState):
    def __init__(self, prefill: Prefill) -> None:
        self._keys = TokenBuffer(half(prefill.key))
        self._values = TokenBuffer(half(prefill.value))
        self._heads = prefill.heads

    def step(self, query: Tensor, key: Tensor, value: Tensor) -> Reading:
        self._keys.append(half(key))
        self._values.append(half(value))
        token = self._heads * token_bytes(key.shape[-1])
        return Reading(self._keys.all, self._values.all, len(self._keys) * token, token)
