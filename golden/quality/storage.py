"""Parts that the methods share: sizes in the memory, rounding, token buffers, slots, ranking."""

from __future__ import annotations

import torch
from torch import Tensor

from golden.quality.interface import Prefill, Reading
from golden.reference.quantiser import dequantise, quantise
from hw.config import BURST_BYTES

__all__ = [
    "FP16_BYTES",
    "PAIR_BYTES",
    "STATISTIC_BYTES",
    "Ranking",
    "ScoredSlots",
    "Slots",
    "TokenBuffer",
    "affine",
    "bursts",
    "half",
    "take",
    "token_bytes",
]

FP16_BYTES = 2
#: Scale and minimum of a quantisation group, both FP16.
PAIR_BYTES = 4
#: A score or count kept per token, whichever the method.
STATISTIC_BYTES = 2


def bursts(size: float) -> int:
    """Bytes of the bursts that ``size`` contiguous bytes take; bits may leave a fraction."""
    return int(-(-size // BURST_BYTES)) * BURST_BYTES


def token_bytes(width: int) -> int:
    """Key and value of one token in FP16, each padded to bursts."""
    return 2 * bursts(width * FP16_BYTES)


def half(x: Tensor) -> Tensor:
    """``x`` rounded to FP16, in float32."""
    return x.to(torch.float16).to(torch.float32)


def affine(x: Tensor, bits: int, group: int) -> Tensor:
    """``x`` after AQ_``bits`` over groups along its last dimension, FP16 scale and minimum."""
    return dequantise(quantise(x.cpu(), bits, group)).to(x.device, torch.float32)


def take(x: Tensor, index: Tensor) -> Tensor:
    """Tokens ``index [B, G, n]`` of ``x [B, G, T, ...]``: ``[B, G, n, ...]``."""
    batch, groups = (torch.arange(size, device=x.device) for size in x.shape[:2])
    # Copies whole rows, several times as fast as take_along_dim with an index per element.
    return x[batch[:, None, None], groups[:, None], index]


class TokenBuffer:
    """Tokens of all caches of a layer, ``[B, G, n, D]``, growing at the end."""

    def __init__(self, initial: Tensor) -> None:
        self._store = initial
        self._used = initial.shape[-2]

    def append(self, x: Tensor) -> None:
        """One token more: ``[B, G, D]``."""
        if self._used == self._store.shape[-2]:
            room = self._store.new_zeros(*x.shape[:-1], max(64, self._used // 8), x.shape[-1])
            self._store = torch.cat((self._store, room), -2)
        self._store[..., self._used, :] = x
        self._used += 1

    def __len__(self) -> int:
        return self._used

    @property
    def all(self) -> Tensor:
        """A view of the tokens so far."""
        return self._store[..., : self._used, :]


class Slots:
    """Physical slots of FP16 tokens, each with the position of its token; order means nothing.

    Two counters, never one: the position of a token in the text, and the slot it lies in.
    """

    def __init__(self, prefill: Prefill, positions: Tensor) -> None:
        """Start with the prompt's tokens at ``positions [B, G, n]``."""
        self.keys = take(half(prefill.key), positions)
        self.values = take(half(prefill.value), positions)
        self.positions = positions
        #: Position of the next token.
        self.now = prefill.tokens

    @property
    def live(self) -> int:
        """Tokens that every cache holds."""
        return self.positions.shape[-1]

    def append(self, key: Tensor, value: Tensor) -> None:
        """The next token, in a slot more."""
        tag = torch.full_like(self.positions[..., :1], self.now)
        self.keys = torch.cat((self.keys, half(key).unsqueeze(-2)), -2)
        self.values = torch.cat((self.values, half(value).unsqueeze(-2)), -2)
        self.positions = torch.cat((self.positions, tag), -1)
        self.now += 1

    def replace(self, slot: Tensor, key: Tensor, value: Tensor) -> None:
        """The next token, in the place of what ``slot [B, G]`` holds."""
        at = slot[..., None, None].expand(*slot.shape, 1, key.shape[-1])
        self.keys = self.keys.scatter(-2, at, half(key).unsqueeze(-2))
        self.values = self.values.scatter(-2, at, half(value).unsqueeze(-2))
        self.positions = self.positions.scatter(-1, slot.unsqueeze(-1), self.now)
        self.now += 1

    def keep(self, slots: Tensor) -> None:
        """Only ``slots [B, G, n]`` from now on, in that order."""
        self.keys, self.values = take(self.keys, slots), take(self.values, slots)
        self.positions = torch.take_along_dim(self.positions, slots, -1)


class ScoredSlots(Slots):
    """Slots whose tokens have a score each, which is read and written in every step."""

    def __init__(self, prefill: Prefill, positions: Tensor, score: Tensor) -> None:
        """Start with ``positions [B, G, n]``; ``score [B, G, T]`` is that of the whole prompt."""
        super().__init__(prefill, positions)
        self._heads = prefill.heads
        self.score = torch.take_along_dim(score, positions, -1)

    def store(self, slot: Tensor | None, key: Tensor, value: Tensor) -> Reading:
        """The next token with score 0, in ``slot [B, G]`` or one more; what the step reads."""
        if slot is None:
            self.append(key, value)
            self.score = torch.cat((self.score, torch.zeros_like(self.score[..., :1])), -1)
        else:
            self.replace(slot, key, value)
            self.score = self.score.scatter(-1, slot.unsqueeze(-1), 0.0)
        token = token_bytes(key.shape[-1])
        scores = bursts(self.live * STATISTIC_BYTES)
        return Reading(
            self.keys,
            self.values,
            self._heads * (self.live * token + scores),
            self._heads * (token + scores),
        )


class Ranking:
    """Top and lowest scores, ties to the lowest index; or, as a control, by random numbers.

    Infinities stay what they are in the control: a protected token remains protected.
    """

    def __init__(self, *, shuffled: bool) -> None:
        self._random = torch.Generator().manual_seed(0) if shuffled else None

    def _scores(self, score: Tensor) -> Tensor:
        if self._random is None:
            return score
        noise = torch.rand(score.shape, generator=self._random).to(score.device, score.dtype)
        return torch.where(score.isinf(), score, noise)

    def top(self, score: Tensor, count: int) -> Tensor:
        """Indices of the ``count`` largest along the last dimension, best first."""
        order = torch.sort(self._scores(score), dim=-1, descending=True, stable=True).indices
        return order[..., :count]

    def lowest(self, score: Tensor) -> Tensor:
        """Index of the smallest along the last dimension."""
        return self._scores(score).argmin(-1)
