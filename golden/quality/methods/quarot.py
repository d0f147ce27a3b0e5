"""QuaRot: 4-bit keys and values after a rotation that spreads outlier channels."""

from dataclasses import dataclass
from math import sqrt
from typing import ClassVar

import torch
from torch import Tensor

from golden.quality.interface import CacheMethod, CacheState, Prefill, Reading
from golden.quality.storage import PAIR_BYTES, TokenBuffer, bursts, half

__all__ = ["QuaRot", "hadamard", "rounded"]


def hadamard(x: Tensor) -> Tensor:
    """``x H / sqrt(D)`` along the last dimension, D a power of two; its own inverse."""
    width = x.shape[-1]
    y = x
    span = 1
    while span < width:
        pairs = y.unflatten(-1, (-1, 2, span))
        low, high = pairs[..., 0, :], pairs[..., 1, :]
        y = torch.stack((low + high, low - high), -2).flatten(-3)
        span *= 2
    return y / sqrt(width)


def rounded(x: Tensor, bits: int, clip: float) -> Tensor:
    """``x`` after the asymmetric quantiser of the paper's code, one group per last dimension.

    Range ``[clip * min(x, 0), clip * max(x, 0)]``, FP16 scale, an integer zero point.
    """
    low = clip * x.amin(-1, keepdim=True).clamp(max=0)
    high = clip * x.amax(-1, keepdim=True).clamp(min=0)
    levels = 2**bits - 1
    scale = half((high - low) / levels)
    step = torch.where(scale > 0, scale, 1.0)
    zero = torch.round(-low / step)
    return ((torch.round(x / step) + zero).clamp(0, levels) - zero) * scale


@dataclass(frozen=True, kw_only=True)
class QuaRot(CacheMethod):
    """Every token in ``bits`` bits per element, a scale and a zero point per token and head.

    Section 4 of the paper: keys and queries are multiplied by a Walsh-Hadamard matrix after RoPE
    (scores do not change: ``(q H)(k H)^T = q k^T``), values before they are stored. What this
    yields is rotated back, so that queries and outputs stay as they are.

    Parameters
    ----------
    bits
        2 to 8; 4 in the paper.
    clip
        Share of the range that is kept; 0.95 in the paper.
    rotate
        False leaves the rotation out, to see what it does.
    """

    name: ClassVar[str] = "QuaRot"
    paper: ClassVar[str] = "Ashkboos et al., NeurIPS 2024, arXiv 2404.00456"

    bits: int = 4
    clip: float = 0.95
    rotate: bool = True

    def __post_init__(self) -> None:
        if self.bits not in range(2, 9):
            raise ValueError(f"bits must be 2 to 8, not {self.bits!r}")
        if not 0 < self.clip <= 1:
            raise ValueError(f"clip must be above 0 and at most 1, not {self.clip!r}")

    def coded(self, x: Tensor) -> Tensor:
        """``x [..., D]`` as the decoder sees it."""
        if not self.rotate:
            return rounded(x, self.bits, self.clip)
        return hadamard(rounded(hadamard(x), self.bits, self.clip))

    def start(self, prefill: Prefill) -> CacheState:
        """Quantise the prompt."""
        width = prefill.key.shape[-1]
        if self.rotate and width & (width - 1):
            raise ValueError(f"the head dimension must be a power of two, not {width!r}")
        return _State(self, prefill)


class _State(CacheState):
    def __init__(self, method: QuaRot, prefill: Prefill) -> None:
        self._method = method
        self._heads = prefill.heads
        self._keys = TokenBuffer(method.coded(prefill.key))
        self._values = TokenBuffer(method.coded(prefill.value))

    def step(self, query: Tensor, key: Tensor, value: Tensor) -> Reading:
        self._keys.append(self._method.coded(key))
        self._values.append(self._method.coded(value))
        token = key.shape[-1] * self._method.bits / 8 + PAIR_BYTES
        return Reading(
            self._keys.all,
            self._values.all,
            self._heads * 2 * bursts(len(self._keys) * token),
            self._heads * 2 * bursts(token),
        )
