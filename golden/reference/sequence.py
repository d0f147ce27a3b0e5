"""The life of one KV head's cache in float: prompt, appended tokens, windows that close."""

from __future__ import annotations

from dataclasses import fields

import torch
from torch import Tensor

from golden.reference.attend import Attention, attend
from golden.reference.cache import (
    CompressedCache,
    Tail,
    compress_cache,
    compress_tail,
    dequantise_tail,
)
from golden.reference.compress import CompressedWindow, compress_window
from golden.reference.quantiser import Quantised
from hw.config import AttentionConfig


class FloatSequence:
    """A `CompressedCache` that grows; what its tail has received is added up in float64.

    A decode step is `append`, then `attend`. The saliency of the tail in `cache` is not kept up.

    Parameters
    ----------
    config
        Its ``max_context`` is the most tokens.
    keys, values
        Of the prompt, ``[T, d]``, at least one token.
    sums
        Their saliency, ``[T]``.

    Raises
    ------
    ConfigError
        The prompt does not fit ``config``.
    """

    def __init__(self, config: AttentionConfig, keys: Tensor, values: Tensor, sums: Tensor) -> None:
        self.config = config
        #: As the next `attend` finds it.
        self.cache = compress_cache(keys, values, sums, config)
        #: ``[t]``: attention received by the tokens of the tail, float64.
        self.sums = sums[config.closed_tokens(len(keys)) :].to(torch.float64)

    def append(self, key: Tensor, value: Tensor) -> None:
        """The next token, ``[d]`` each; before it, the window closes that is due.

        Raises
        ------
        ConfigError
            The cache has ``max_context`` tokens.
        """
        context, config = self.cache.context + 1, self.config
        config.check_cache(context, len(key))
        closed, tail = self.cache.closed, self.cache.tail
        if len(self.sums) == 2 * config.window:
            closed, tail = _joined(closed, self._compressed()), _part(tail, config.window)
            self.sums = self.sums[config.window :]
        entered = compress_tail(key.unsqueeze(0), value.unsqueeze(0), config)
        self.cache = CompressedCache(context, closed, _extended(tail, entered))
        self.sums = torch.cat((self.sums, torch.zeros(1, dtype=torch.float64)))

    def attend(self, query: Tensor) -> Attention:
        """One decode step, ``query [rows, d]``; what the tail received is added up."""
        result = attend(query, self.cache, self.config)
        self.sums = self.sums + result.tail_probability
        return result

    def _compressed(self) -> CompressedWindow:
        """The older window of the tail, ``[1, ...]``."""
        tail, first = self.cache.tail, slice(self.config.window)
        values = dequantise_tail(tail, self.config)[1]
        keys = tail.keys.each(lambda part: part[first].unsqueeze(0))
        return compress_window(
            keys, values[first].unsqueeze(0), self.sums[first].unsqueeze(0), self.config
        )


def _joined(first: CompressedWindow, second: CompressedWindow) -> CompressedWindow:
    names = [field.name for field in fields(CompressedWindow)]
    return CompressedWindow(
        **{name: torch.cat((getattr(first, name), getattr(second, name))) for name in names}
    )


def _part(tail: Tail, start: int) -> Tail:
    """From token ``start`` on."""
    return Tail(
        keys=tail.keys.each(lambda part: part[start:]),
        value_codes=tail.value_codes[start:],
        value_scale=tail.value_scale[start:],
        saliency=tail.saliency[start:],
    )


def _extended(tail: Tail, other: Tail) -> Tail:
    keys = (tail.keys, other.keys)
    parts = (torch.cat(pair) for pair in zip(*(vars(key).values() for key in keys), strict=True))
    return Tail(
        keys=Quantised(*parts),
        value_codes=torch.cat((tail.value_codes, other.value_codes)),
        value_scale=torch.cat((tail.value_scale, other.value_scale)),
        saliency=torch.cat((tail.saliency, other.saliency)),
    )
