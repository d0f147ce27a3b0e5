"""The dense 8-bit cache: mode ``dense8`` of the accelerator."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from golden.quality.interface import CacheMethod, CacheState, Prefill, Reading
from golden.quality.storage import FP16_BYTES, TokenBuffer, bursts
from golden.reference.quantiser import from_fp16, symmetric_codes

__all__ = ["INT8"]

_BITS = 8


@dataclass(frozen=True, kw_only=True)
class INT8(CacheMethod):
    """Every token as signed 8-bit integers; a head's keys have one scale, its values another.

    ``x ~ code * scale / 128`` (docs/contracts.md, section 5). The scales are those of the prompt;
    later tokens saturate at them. They are read with every step.
    """

    name: ClassVar[str] = "INT8"
    paper: ClassVar[str] = "baseline; docs/contracts.md, section 5"

    def start(self, prefill: Prefill) -> CacheState:
        """Quantise the prompt."""
        return _State(prefill)


class _Rounded:
    """Tokens at the precision of the codes, and the scale ``[B, G, 1]``."""

    def __init__(self, prompt: Tensor) -> None:
        codes, scale = symmetric_codes(prompt.flatten(-2).cpu(), _BITS)
        unit = from_fp16(scale).to(prompt.device, torch.float32) / 2 ** (_BITS - 1)
        self._unit = unit.unsqueeze(-1)
        rounded = codes.to(prompt.device).view_as(prompt) * unit[..., None, None]
        self.tokens = TokenBuffer(rounded)

    def append(self, x: Tensor) -> None:
        largest = 2 ** (_BITS - 1) - 1
        codes = torch.round(x / self._unit.clamp(min=torch.finfo(x.dtype).tiny))
        self.tokens.append(codes.clamp(-largest, largest) * self._unit)


class _State(CacheState):
    def __init__(self, prefill: Prefill) -> None:
        self._keys, self._values = _Rounded(prefill.key), _Rounded(prefill.value)
        self._heads = prefill.heads

    def step(self, query: Tensor, key: Tensor, value: Tensor) -> Reading:
        self._keys.append(key)
        self._values.append(value)
        width, tokens = key.shape[-1], len(self._keys.tokens)
        read = 2 * bursts(tokens * width) + bursts(2 * FP16_BYTES)
        written = 2 * bursts(width)
        return Reading(
            self._keys.tokens.all,
            self._values.tokens.all,
            self._heads * read,
            self._heads * written,
        )
