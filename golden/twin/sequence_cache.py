"""The life of one KV head's cache in integers: prompt, appended tokens, windows that close."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from golden.reference import (
    CompressedCache,
    CompressedWindow,
    Quantised,
    Tail,
    compress_tail,
    compress_window,
    dequantise_tail,
    quantise,
)
from golden.twin.attention import JobResult, attention
from hw.config import AttentionConfig
from hw.formats import SALIENCY_BITS


class SequenceCache:
    """What the memory holds of one KV head, step by step.

    A decode step is `append`, then `attend`, then `close` if `close_due`. Every number that decides
    something is an integer: the order of a chunk is that of the saliencies as the memory has them.

    Parameters
    ----------
    config
        Its ``max_context`` is the most tokens.
    """

    def __init__(self, config: AttentionConfig) -> None:
        self.config = config
        empty = torch.zeros(0, config.head_dim, dtype=torch.float64)
        self._tail = compress_tail(empty, empty, config)
        self._closed = self._compress(0)
        #: Tokens so far.
        self.context = 0

    @property
    def saliency(self) -> Tensor:
        """``[t]``: attention received by the tokens of the tail, in units of 2**-20."""
        return self._tail.saliency

    @property
    def tail(self) -> int:
        """Tokens that no closed window holds."""
        return len(self.saliency)

    @property
    def close_due(self) -> bool:
        """Whether the tail holds two windows, of which the older one closes."""
        return self.tail == 2 * self.config.window

    @property
    def cache(self) -> CompressedCache:
        """The cache as the next `attend` finds it."""
        return CompressedCache(context=self.context, closed=self._closed, tail=self._tail)

    def append(
        self,
        key: Tensor,
        value_codes: Tensor,
        value_scale: Tensor,
        saliency: Tensor | None = None,
    ) -> None:
        """The next token, or of a prompt the next tokens.

        Parameters
        ----------
        key
            ``[..., d]``, FP16 numbers.
        value_codes, value_scale
            ``[..., d]`` signed codes of ``tail_value_bits`` bits, ``[...]`` FP16 patterns.
        saliency
            ``[...]``: attention received so far, in units of 2**-20; by default none.

        Raises
        ------
        ValueError
            The tail has two windows already, or would have more, or the cache ``max_context``.
        """
        config = self.config
        key, value_codes = (
            key.reshape(-1, config.head_dim),
            value_codes.reshape(-1, config.head_dim),
        )
        count = len(key)
        if self.tail + count > 2 * config.window:
            raise ValueError(
                f"tail must be at most {2 * config.window} tokens, not {self.tail + count}: "
                "close a window first"
            )
        if self.context + count > config.max_context:
            raise ValueError(
                f"context must be at most {config.max_context}, not {self.context + count}"
            )
        entered = quantise(key, config.key_bits, config.group)
        if saliency is None:
            saliency = torch.zeros(count, dtype=torch.int64)
        tail = self._tail
        self._tail = Tail(
            keys=Quantised(
                torch.cat((tail.keys.codes, entered.codes)),
                torch.cat((tail.keys.scale, entered.scale)),
                torch.cat((tail.keys.minimum, entered.minimum)),
            ),
            value_codes=torch.cat((tail.value_codes, value_codes)),
            value_scale=torch.cat((tail.value_scale, value_scale.reshape(-1))),
            saliency=torch.cat((tail.saliency, saliency.reshape(-1))),
        )
        self.context += count

    def attend(self, query: Tensor, query_scale: Tensor) -> JobResult:
        """One job (see `attention`); what the tail received is added to its saliency."""
        result = attention(query, query_scale, self.cache, self.config)
        total = self.saliency + result.received
        self._tail = replace(self._tail, saliency=total.clamp(max=(1 << SALIENCY_BITS) - 1))
        return result

    def close(self) -> None:
        """Compress the older window of the tail.

        Raises
        ------
        ValueError
            `close_due` is false.
        """
        if not self.close_due:
            wanted = 2 * self.config.window
            raise ValueError(f"tail must be {wanted} tokens for a window to close, not {self.tail}")
        window = self._compress(1)
        self._closed = CompressedWindow(
            **{
                name: torch.cat((part, getattr(window, name)))
                for name, part in vars(self._closed).items()
            }
        )
        tail, rest = self._tail, slice(self.config.window, None)
        self._tail = Tail(
            keys=tail.keys.each(lambda part: part[rest]),
            value_codes=tail.value_codes[rest],
            value_scale=tail.value_scale[rest],
            saliency=tail.saliency[rest],
        )

    def import_prompt(
        self, keys: Tensor, value_codes: Tensor, value_scale: Tensor, saliency: Tensor
    ) -> None:
        """A prompt of T tokens, window by window; its closed windows are closed in the end.

        ``keys`` and ``value_codes`` are ``[T, d]``, ``value_scale`` and ``saliency`` ``[T]``. After
        it ``T // window - 1`` windows are closed (of at least two windows).
        """
        for first in range(0, len(keys), self.config.window):
            part = slice(first, first + self.config.window)
            self.append(keys[part], value_codes[part], value_scale[part], saliency[part])
            if self.close_due:
                self.close()

    def _compress(self, windows: int) -> CompressedWindow:
        """The oldest ``windows`` windows of the tail, compressed: ``[windows, ...]``."""
        count = windows * self.config.window

        def split(x: Tensor) -> Tensor:
            return x[:count].unflatten(0, (windows, self.config.window))

        values = dequantise_tail(self._tail, self.config)[1]
        return compress_window(
            self._tail.keys.each(split), split(values), split(self.saliency), self.config
        )
