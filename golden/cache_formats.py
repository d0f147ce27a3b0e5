"""Cache formats by mode: what the golden model does with the cache of a job."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from golden.reference import (
    CompressedCache,
    DenseCache,
    SlotCache,
    compress_cache,
    compress_tail,
    dense_cache,
    quantise_query,
    saliency,
)
from golden.reference.cache import fixed_saliency
from golden.tensors import Tensors
from golden.twin.attention import JobResult, attention
from golden.twin.dense import dense_attention
from hw.config import AttentionConfig, ConfigError
from hw.formats import Mode

Cache = CompressedCache | DenseCache
#: Makes a cache of one KV head from its keys, values and prefill queries.
Compressor = Callable[[Tensors, AttentionConfig], Cache]


@dataclass(frozen=True, kw_only=True)
class CacheFormat:
    """One mode; ``golden.memory_image.regions`` has its bytes."""

    compress: Compressor
    #: FP16 pattern of the scale of all keys, which the host folds into the query; None without one.
    key_scale: Callable[[Any], Tensor | None]
    #: ``value_scale`` of the job descriptor.
    value_scale: Callable[[Any], int]
    #: The job in integers, from query codes, query scales and cache.
    twin: Callable[[Tensor, Tensor, Any, AttentionConfig], JobResult]


def _compressed(tensors: Tensors, config: AttentionConfig) -> CompressedCache:
    sums = saliency(tensors.queries, tensors.keys, config)
    return compress_cache(tensors.keys, tensors.values, sums, config)


def _dense(mode: Mode) -> CacheFormat:
    return CacheFormat(
        compress=lambda tensors, config: dense_cache(tensors.keys, tensors.values, mode, config),
        key_scale=lambda cache: cache.key_scale,
        value_scale=lambda cache: int(cache.value_scale),
        twin=dense_attention,
    )


def _slots(tensors: Tensors, config: AttentionConfig) -> SlotCache:
    """Tokens that all have a slot; as many as a cache has that never lost one."""
    tokens = len(tensors.keys)
    if not 1 <= tokens <= config.slots:
        raise ConfigError(f"context must be from 1 to {config.slots} slots, not {tokens}")
    sums = saliency(tensors.queries, tensors.keys, config)
    tail = compress_tail(tensors.keys, tensors.values, config)
    nothing = tensors.keys[:1], tensors.values[:1], sums[:1]
    return SlotCache(
        context=tokens,
        closed=compress_cache(*nothing, config).closed,
        tail=replace(tail, saliency=fixed_saliency(sums)),
    )


CACHE_FORMATS: dict[Mode, CacheFormat] = {
    Mode.KVO: CacheFormat(
        compress=_compressed,
        key_scale=lambda cache: None,
        value_scale=lambda cache: 0,
        twin=attention,
    ),
    Mode.DENSE8: _dense(Mode.DENSE8),
    Mode.DENSE16: _dense(Mode.DENSE16),
    Mode.SLOTS: CacheFormat(
        compress=_slots,
        key_scale=lambda cache: None,
        value_scale=lambda cache: 0,
        twin=attention,
    ),
}


def run_job(
    query: Tensor, cache: Cache, config: AttentionConfig
) -> tuple[Tensor, Tensor, JobResult]:
    """Query codes, query scales and result of one decode step; ``query`` is ``[rows, d]``."""
    form = CACHE_FORMATS[cache.mode]
    codes, scale = quantise_query(query, form.key_scale(cache))
    return codes, scale, form.twin(codes, scale, cache, config)
