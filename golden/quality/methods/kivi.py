"""KIVI: keys quantised per channel, values per token, the newest in full precision."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from golden.quality.interface import CacheMethod, CacheState, Prefill, Reading
from golden.quality.storage import PAIR_BYTES, TokenBuffer, affine, bursts, half, token_bytes

__all__ = ["KIVI"]


@dataclass(frozen=True, kw_only=True)
class KIVI(CacheMethod):
    """2-bit or 4-bit codes without tuning (Algorithm 1 of the paper).

    Quantiser (section 3.1): ``Q(X) = round((X - z) / s)``, ``z = min X``, ``s = (max X - min X) /
    (2^B - 1)``; scale and minimum in FP16. Keys: groups of ``group`` tokens, per channel; tokens
    that do not fill ``residual`` yet stay FP16 (``X_Kr``, 0 to ``residual - 1`` of them). Values:
    groups of ``group`` channels, per token; the newest ``residual`` tokens stay FP16 (``X_Vr``).

    Parameters
    ----------
    bits
        2, 4 or 8.
    group
        32 in the paper; divides ``residual`` and the head dimension.
    residual
        ``R``; 128 in the paper.
    """

    name: ClassVar[str] = "KIVI"
    paper: ClassVar[str] = "Liu et al., ICML 2024, arXiv 2402.02750"

    bits: int = 2
    group: int = 32
    residual: int = 128

    def __post_init__(self) -> None:
        self._at_least(1, "group", "residual")
        if self.bits not in (2, 4, 8):
            raise ValueError(f"bits must be 2, 4 or 8, not {self.bits!r}")
        if self.residual % self.group:
            raise ValueError(
                f"residual must be a multiple of group {self.group}, not {self.residual!r}"
            )

    def start(self, prefill: Prefill) -> CacheState:
        """Quantise the prompt but for its end."""
        if prefill.key.shape[-1] % self.group:
            raise ValueError(
                f"group must divide the head dimension {prefill.key.shape[-1]}, not {self.group!r}"
            )
        return _State(self, prefill)


class _State(CacheState):
    def __init__(self, method: KIVI, prefill: Prefill) -> None:
        self._method = method
        self._heads = prefill.heads
        tokens = prefill.tokens
        #: Tokens whose keys, and whose values, are codes.
        self._coded_keys = tokens // method.residual * method.residual
        self._coded_values = max(0, tokens - method.residual)
        self._keys = TokenBuffer(half(prefill.key))
        self._values = TokenBuffer(half(prefill.value))
        if self._coded_keys:
            self._round_keys(0, self._coded_keys)
        if self._coded_values:
            self._round_values(0, self._coded_values)

    def _round_keys(self, start: int, stop: int) -> None:
        part = self._keys.all[..., start:stop, :]
        by_channel = part.transpose(-1, -2)
        part.copy_(affine(by_channel, self._method.bits, self._method.group).transpose(-1, -2))

    def _round_values(self, start: int, stop: int) -> None:
        part = self._values.all[..., start:stop, :]
        part.copy_(affine(part, self._method.bits, self._method.group))

    def step(self, query: Tensor, key: Tensor, value: Tensor) -> Reading:
        method, width = self._method, key.shape[-1]
        self._keys.append(half(key))
        self._values.append(half(value))
        tokens = len(self._keys)
        written = token_bytes(width)
        # Bytes of one group of codes with its scale and minimum.
        coded = method.group * method.bits / 8 + PAIR_BYTES
        if tokens - self._coded_keys == method.residual:
            self._round_keys(self._coded_keys, tokens)
            self._coded_keys = tokens
            written += bursts(method.residual // method.group * width * coded)
        if tokens - self._coded_values > method.residual:
            self._round_values(self._coded_values, tokens - method.residual)
            self._coded_values = tokens - method.residual
            written += bursts(width // method.group * coded)
        read = (
            bursts(self._coded_keys // method.group * width * coded)
            + bursts(self._coded_values * (width // method.group) * coded)
            + (tokens - self._coded_keys) * token_bytes(width) // 2
            + (tokens - self._coded_values) * token_bytes(width) // 2
        )
        return Reading(self._keys.all, self._values.all, self._heads * read, self._heads * written)
