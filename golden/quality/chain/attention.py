"""Attention of a model's decode steps on caches of one KV head each: in float, and on the twin."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

import torch
from torch import Tensor

from golden.quality.chain.agreement import Agreement
from golden.quality.decode import Traffic
from golden.quality.interface import Prefill
from golden.quality.methods import FP16
from golden.reference import quantise_query, saliency
from golden.reference.cache import fixed_saliency
from golden.reference.quantiser import symmetric_codes
from golden.reference.sequence import FloatSequence
from golden.step_traffic import step_bytes
from golden.twin.sequence_cache import SequenceCache
from hw.config import AttentionConfig, ConfigError
from hw.constants import OUTPUT_FRACTION

__all__ = ["FloatAttention", "HeadAttention", "TwinAttention"]


Cache = TypeVar("Cache")


class HeadAttention(ABC, Generic[Cache]):
    """An `AttentionFunction` for decode steps; each call goes on where the one before it ended.

    Keys enter as FP16 numbers, those of the prompt too, and so do the sums of the prompt.

    Parameters
    ----------
    prefills
        The prompt by layer.
    config
        Of the core; its shape must be the model's.
    advance
        Called after each step of a layer.

    Raises
    ------
    ConfigError
        The shape is another one.
    """

    def __init__(
        self,
        prefills: Mapping[int, Prefill],
        config: AttentionConfig,
        *,
        advance: Callable[[], object] = lambda: None,
    ) -> None:
        for prefill in prefills.values():
            _, kv_heads, rows, _, head_dim = prefill.query.shape
            shape = {"kv_heads": kv_heads, "rows": rows, "head_dim": head_dim}
            for field, size in shape.items():
                if getattr(config, field) != size:
                    raise ConfigError(
                        f"{field} must be {size} for this model, not {getattr(config, field)}"
                    )
        self._prefills = prefills
        self._config = config
        self._advance = advance
        #: By layer, sequence after sequence, the KV heads of each.
        self._caches: dict[int, list[Cache]] = {}
        #: Bytes of all steps so far, as the core moves them.
        self.traffic = Traffic()
        #: Windows that closed in steps so far.
        self.windows = 0

    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """The next S steps: ``[B, H, S, d]``, ``[B, G, S, d]`` twice, to ``[B, H, S, d]``."""
        if layer not in self._caches:
            prefill = self._prefills[layer]
            parts = (x.flatten(0, 1) for x in (prefill.query, prefill.key.half(), prefill.value))
            self._caches[layer] = [self._imported(*head) for head in zip(*parts, strict=True)]
        caches, groups = self._caches[layer], key.shape[1]
        # [B * G, S, ...]: caches in the order of the list.
        queries = query.unflatten(1, (groups, -1)).transpose(2, 3).flatten(0, 1)
        keys, values = key.half().double().flatten(0, 1), value.flatten(0, 1)
        output = torch.empty(queries.shape, dtype=torch.float64)
        for t in range(keys.shape[1]):
            for number, cache in enumerate(caches):
                output[number, t] = self._step(
                    cache, queries[number, t], keys[number, t], values[number, t]
                )
            self._advance()
        joined = output.unflatten(0, (-1, groups)).transpose(2, 3).flatten(1, 2)
        return joined.to(query.dtype)

    @abstractmethod
    def _imported(self, query: Tensor, key: Tensor, value: Tensor) -> Cache:
        """The cache of a prompt: ``[rows, T, d]``, ``[T, d]`` twice."""

    @abstractmethod
    def _step(self, cache: Cache, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """One step: ``[rows, d]``, ``[d]`` twice, to ``[rows, d]``, float64."""

    def _count(self, context: int, selection: Tensor) -> None:
        """Count the step at ``context`` tokens; a window closes if that fills the tail."""
        config = self._config
        closes = context < config.max_context
        closes &= context - config.closed_tokens(context) == 2 * config.window
        self.windows += closes
        moved = step_bytes(context, selection.tolist(), config, closes=closes)
        dense = FP16.step_bytes(1, context, config.head_dim)
        self.traffic.add(Traffic(moved.read, moved.written, dense))


class FloatAttention(HeadAttention[FloatSequence]):
    """The float reference."""

    def _imported(self, query: Tensor, key: Tensor, value: Tensor) -> FloatSequence:
        return FloatSequence(self._config, key, value, saliency(query, key, self._config))

    def _step(self, cache: FloatSequence, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        cache.append(key, value)
        result = cache.attend(query)
        self._count(cache.cache.context, result.selection)
        return result.output


class TwinAttention(HeadAttention[SequenceCache]):
    """The integer twin of the decode core; values enter as codes of ``tail_value_bits`` bits."""

    def __init__(
        self,
        prefills: Mapping[int, Prefill],
        config: AttentionConfig,
        *,
        advance: Callable[[], object] = lambda: None,
    ) -> None:
        super().__init__(prefills, config, advance=advance)
        #: Of all steps so far.
        self.agreement = Agreement()

    def _imported(self, query: Tensor, key: Tensor, value: Tensor) -> SequenceCache:
        config = self._config
        cache = SequenceCache(config)
        codes, scale = symmetric_codes(value, config.tail_value_bits)
        sums = fixed_saliency(saliency(query, key, config))
        cache.import_prompt(key.double(), codes, scale, sums)
        return cache

    def _step(self, cache: SequenceCache, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        config = self._config
        codes, scale = symmetric_codes(value, config.tail_value_bits)
        cache.append(key, codes, scale)
        held = cache.cache
        result = cache.attend(*quantise_query(query))
        if cache.close_due and cache.context < config.max_context:
            cache.close()
        self.agreement.observe(query, held, result, config)
        self._count(held.context, result.selection)
        return result.output.double() / (1 << OUTPUT_FRACTION)
