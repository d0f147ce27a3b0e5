"""The life of a cache of constant size in integers, step by step."""

from __future__ import annotations

import torch
from torch import Tensor

from golden.reference import (
    Quantised,
    SlotCache,
    Tail,
    compress_tail,
    compress_window,
    quantise,
)
from golden.twin.attention import JobResult, attention
from golden.twin.slot_map import SlotMap
from hw.config import AttentionConfig


class ConstantCache:
    """What the memory holds of one KV head, and where its next token goes.

    A decode step is `append`, then `attend`.

    Parameters
    ----------
    config
        With ``slots``.
    """

    def __init__(self, config: AttentionConfig) -> None:
        self.config = config
        #: Scores, positions and the next slot.
        self.map = SlotMap(config)
        empty = torch.zeros(0, config.head_dim, dtype=torch.float64)
        self._tail = compress_tail(empty, empty, config)
        windows = empty.reshape(0, config.window, config.head_dim)
        keys = quantise(windows, config.key_bits, config.group)
        self._closed = compress_window(keys, windows, windows[..., 0], config)

    @property
    def cache(self) -> SlotCache:
        """The cache as the next `attend` finds it; its context is the number of live tokens."""
        tail = Tail(
            keys=self._tail.keys,
            value_codes=self._tail.value_codes,
            value_scale=self._tail.value_scale,
            saliency=self.map.score,
        )
        return SlotCache(context=self.map.live, closed=self._closed, tail=tail)

    def import_prompt(
        self, keys: Tensor, value_codes: Tensor, value_scale: Tensor, score: Tensor
    ) -> None:
        """A prompt of fewer tokens than there are slots, in their order.

        ``keys`` and ``value_codes`` are ``[T, d]``, ``value_scale`` and ``score`` ``[T]``.

        Raises
        ------
        ValueError
            The cache has tokens already, or these take every slot.
        """
        self.map.fill(score)
        self._tail = Tail(
            keys=quantise(keys, self.config.key_bits, self.config.group),
            value_codes=value_codes,
            value_scale=value_scale,
            saliency=score,
        )

    def append(self, key: Tensor, value_codes: Tensor, value_scale: Tensor) -> int:
        """The next token, in the next slot, whose number comes back.

        Parameters
        ----------
        key
            ``[d]``, FP16 numbers.
        value_codes, value_scale
            ``[d]`` signed codes of ``tail_value_bits`` bits, and an FP16 pattern.
        """
        slot = self.map.place()
        entered = quantise(key.unsqueeze(0), self.config.key_bits, self.config.group)
        tail = self._tail

        def put(held: Tensor, new: Tensor) -> Tensor:
            return torch.cat((held[:slot], new, held[slot + 1 :]))

        self._tail = Tail(
            keys=Quantised(
                put(tail.keys.codes, entered.codes),
                put(tail.keys.scale, entered.scale),
                put(tail.keys.minimum, entered.minimum),
            ),
            value_codes=put(tail.value_codes, value_codes.unsqueeze(0)),
            value_scale=put(tail.value_scale, value_scale.reshape(1)),
            saliency=tail.saliency,
        )
        return slot

    def attend(self, query: Tensor, query_scale: Tensor) -> JobResult:
        """One job (see `attention`) over all slots in their order; scores follow, and a victim."""
        result = attention(query, query_scale, self.cache, self.config)
        self.map.receive(result.received)
        return result
