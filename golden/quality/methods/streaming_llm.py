"""StreamingLLM: attention sinks and a sliding window."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from golden.model.architecture import apply_rope
from golden.quality.interface import CacheMethod, CacheState, Knob, Prefill, Reading
from golden.quality.storage import TokenBuffer, half, token_bytes

__all__ = ["StreamingLLM", "move"]


def move(keys: Tensor, distance: int, theta: float) -> Tensor:
    """Post-RoPE keys ``[..., D]`` moved ``distance`` positions further in the text."""
    width = keys.shape[-1]
    exponents = torch.arange(0, width, 2, device=keys.device, dtype=torch.float32) / width
    angles = distance * theta**-exponents
    return apply_rope(keys, angles.cos(), angles.sin())


@dataclass(frozen=True, kw_only=True)
class StreamingLLM(CacheMethod):
    """Keep the first ``sinks`` tokens and the newest ones, ``budget`` in all.

    Section 3.2 of the paper: positions are those in the cache, not those in the text ("when
    decoding the 9th token with a cache of [0, 1, 2, 3, 6, 7, 8], the positions assigned are [0 ..
    7]"). Distances within the window stay as they are, so only the sinks move. Their keys are
    stored before RoPE there; rotating the stored ones on moves the same bytes.

    Parameters
    ----------
    budget
        Tokens that a step reads, the newest included; above ``sinks``.
    sinks
        From 0; the paper uses 4.
    text_positions
        Leave the sinks where the text has them.
    """

    name: ClassVar[str] = "StreamingLLM"
    paper: ClassVar[str] = "Xiao et al., ICLR 2024, arXiv 2309.17453"
    knob: ClassVar[Knob | None] = Knob("budget", lowest=5)

    budget: int = 256
    sinks: int = 4
    text_positions: bool = False

    def __post_init__(self) -> None:
        self._at_least(0, "sinks")
        self._at_least(self.sinks + 1, "budget")

    def start(self, prefill: Prefill) -> CacheState:
        """Keep the sinks and the end of the prompt."""
        return _State(self, prefill)


class _State(CacheState):
    def __init__(self, method: StreamingLLM, prefill: Prefill) -> None:
        self._method = method
        self._theta = prefill.rope_theta
        self._heads = prefill.heads
        self._keys = TokenBuffer(half(prefill.key))
        self._values = TokenBuffer(half(prefill.value))

    def step(self, query: Tensor, key: Tensor, value: Tensor) -> Reading:
        self._keys.append(half(key))
        self._values.append(half(value))
        keys, values = self._keys.all, self._values.all
        missing = len(self._keys) - self._method.budget
        if missing > 0:
            sinks = self._method.sinks
            recent = sinks + missing
            first = keys[..., :sinks, :]
            if not self._method.text_positions:
                first = move(first, missing, self._theta)
            keys = torch.cat((first, keys[..., recent:, :]), -2)
            values = torch.cat((values[..., :sinks, :], values[..., recent:, :]), -2)
        token = self._heads * token_bytes(key.shape[-1])
        return Reading(keys, values, keys.shape[-2] * token, token)
