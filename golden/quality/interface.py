"""What every cache method promises: what the attention of a decode step reads, and what it costs.

Shapes are written with B = sequences, G = KV heads, R = query heads that share a KV head, T =
tokens, D = channels of a head. Keys and queries are post-RoPE. The prefill attends exactly, as in
the papers; a method acts from the first decode step on. Bytes are those of all B * G caches of one
layer together, padded to bursts of the memory; the prefill's own are not counted.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, fields, replace
from math import sqrt
from typing import Any, ClassVar

import torch
from torch import Tensor

__all__ = ["AttentionSums", "CacheMethod", "CacheState", "Knob", "Prefill", "Reading"]

#: Queries whose probabilities are formed at once.
_BLOCK = 256


@dataclass(frozen=True)
class AttentionSums:
    """Attention that each prefill token received from its group's queries: two ``[B, G, T]``."""

    #: From all queries.
    total: Tensor
    #: From the queries of its own window and of the next one (KVO's saliency).
    near: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Prefill:
    """What one layer's exact attention used over the prompt; T is at least 1.

    Members
    -------
    query : ``[B, G, R, T, D]``.
    key, value : ``[B, G, T, D]``.
    rope_theta : base of the RoPE wavelengths, for methods that move tokens to other positions.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    rope_theta: float = 10000.0
    _shared: dict[Hashable, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        batch, groups, tokens, width = self.key.shape
        if tokens < 1:
            raise ValueError("a prefill must have at least one token")
        if self.value.shape != self.key.shape:
            raise ValueError(
                f"value must be {tuple(self.key.shape)}, not {tuple(self.value.shape)}"
            )
        expected = (batch, groups, self.query.shape[2], tokens, width)
        if tuple(self.query.shape) != expected:
            raise ValueError(f"query must be {expected}, not {tuple(self.query.shape)}")

    @property
    def tokens(self) -> int:
        """T."""
        return self.key.shape[-2]

    @property
    def heads(self) -> int:
        """B * G: caches of the layer."""
        return self.key.shape[0] * self.key.shape[1]

    def reading(self, other: Prefill) -> Prefill:
        """The queries of this layer with the keys and values of another."""
        return replace(self, key=other.key, value=other.value, _shared={})

    def shared(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """What ``make`` returned when first asked for under ``key``; nobody may change it."""
        if key not in self._shared:
            self._shared[key] = make()
        return self._shared[key]

    def probabilities(self, start: int, stop: int) -> Tensor:
        """Exact attention of the queries ``start`` to ``stop - 1``, ``[B, G, R, q, stop]``."""
        query = self.query[..., start:stop, :] / sqrt(self.key.shape[-1])
        scores = query @ self.key[..., None, :stop, :].transpose(-1, -2)
        future = torch.ones(stop - start, stop, dtype=torch.bool, device=scores.device)
        return scores.masked_fill(future.triu(start + 1), -torch.inf).softmax(-1)

    def attention_sums(self, window: int = 64) -> AttentionSums:
        """Attention received by each token, in windows of ``window`` tokens.

        ``near`` equals ``golden.reference.saliency`` in float32.
        """
        sums: AttentionSums = self.shared(("sums", window), lambda: self._attention_sums(window))
        return sums

    def _attention_sums(self, window: int) -> AttentionSums:
        total = torch.zeros(self.key.shape[:-1], device=self.key.device)
        near = torch.zeros_like(total)
        block = max(window, _BLOCK // window * window)
        for start in range(0, self.tokens, block):
            stop = min(start + block, self.tokens)
            by_query = self.probabilities(start, stop).sum(2)
            total[..., :stop] += by_query.sum(-2)
            for first in range(start, stop, window):
                rows = by_query[..., first - start : first - start + window, :]
                since, until = max(0, first - window), min(first + window, stop)
                near[..., since:until] += rows[..., since:until].sum(-2)
        return AttentionSums(total, near)


@dataclass(frozen=True)
class Reading:
    """What one decode step attends to, in the numbers that the decoder sees, and its traffic."""

    #: ``[B, G, n, D]``, the newest token among them.
    keys: Tensor
    values: Tensor
    #: Bytes that leave the memory in this step, statistics and indices included.
    read: int
    #: Bytes that enter it: the new token, and whatever the step rewrites.
    written: int


class CacheState(ABC):
    """The caches of one layer during generation. Each step: `step`, attention, `observe`."""

    @abstractmethod
    def step(self, query: Tensor, key: Tensor, value: Tensor) -> Reading:
        """Take the new token and choose what this step reads.

        Parameters
        ----------
        query
            ``[B, G, R, D]``.
        key, value
            ``[B, G, D]``.
        """

    def observe(self, probability: Tensor) -> None:
        """The attention of the step over what it read, ``[B, G, R, n]``; most methods need none."""
        del probability


@dataclass(frozen=True)
class Knob:
    """The integer parameter that trades traffic for quality: more of it is more traffic.

    Members
    -------
    name : of the parameter.
    lowest, highest : legal values; ``highest`` None where there is no limit.
    step : between legal values.
    """

    name: str
    lowest: int
    highest: int | None = None
    step: int = 1


@dataclass(frozen=True, kw_only=True)
class CacheMethod(ABC):
    """A cache method and its parameters; a subclass per paper.

    Raises
    ------
    ValueError
        A parameter is illegal.
    """

    #: Short name of the paper's method.
    name: ClassVar[str]
    #: Where it was published.
    paper: ClassVar[str]
    #: None if every setting moves the same bytes, or only a few settings are legal.
    knob: ClassVar[Knob | None] = None

    #: Control: whatever the method ranks is ranked by random numbers instead.
    shuffled: bool = False

    @abstractmethod
    def start(self, prefill: Prefill) -> CacheState:
        """The caches of one layer after the prompt."""

    def producer(self, layer: int) -> int:
        """Layer whose keys and values ``layer`` reads."""
        return layer

    @property
    def parameters(self) -> dict[str, Any]:
        """Parameters by name."""
        return {item.name: getattr(self, item.name) for item in fields(self)}

    @property
    def label(self) -> str:
        """Name and the parameters that are not the default."""
        changed = [
            item.name if value is True else f"{item.name} {value}"
            for item in fields(self)
            if (value := getattr(self, item.name)) != item.default
        ]
        return ", ".join([self.name, *changed])

    def _at_least(self, minimum: int, *names: str) -> None:
        """Raise ValueError unless the named parameters are integers from ``minimum`` up."""
        for name in names:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
                raise ValueError(f"{name} must be an integer from {minimum} up, not {value!r}")
