"""Integer twin of the dense modes: a job whose cache is all tail (docs/contracts.md)."""

import torch
from torch import Tensor

from golden.reference import DenseCache
from golden.twin.attention import JobResult, formal_pass
from golden.twin.keys import score
from golden.twin.numbers import round_half_up, saturate
from golden.twin.values import tail_contributions
from hw.config import AttentionConfig
from hw.constants import DENSE_KEY_SHIFT, KEY_SUM_BITS


def dense_key_sums(query: Tensor, cache: DenseCache) -> Tensor:
    """Key sums ``[T, rows]``: the dot products of the codes, aligned to 2**-19 of a query scale."""
    dot = cache.key_codes @ query.T
    return saturate(round_half_up(dot, DENSE_KEY_SHIFT[cache.mode]), KEY_SUM_BITS)


def dense_attention(
    query: Tensor, query_scale: Tensor, cache: DenseCache, config: AttentionConfig
) -> JobResult:
    """One job of the core in a dense mode.

    Parameters
    ----------
    query
        Codes ``[rows, d]`` int64, -2047 to 2047.
    query_scale
        FP16 patterns ``[rows]``, the scale of the keys included.
    cache
        The cache of one KV head.
    """
    tokens = cache.context
    units = -(-tokens // config.chunk)
    missing = units * config.chunk - tokens
    sums = dense_key_sums(query, cache)
    padded = torch.cat((sums, sums.new_zeros(missing, config.rows)))
    present = torch.arange(units * config.chunk) < tokens
    by_unit = (units, config.chunk)
    return formal_pass(
        score(padded.reshape(*by_unit, -1), query_scale),
        present.reshape(by_unit),
        torch.where(present, cache.value_scale, 0).reshape(by_unit),
        torch.ones(units, dtype=torch.bool),
        lambda weights: tail_contributions(
            weights.weight,
            weights.tail_exponent,
            cache.value_codes,
            8 * cache.mode.code_bytes,
            config,
        ),
        selection=torch.zeros(0, dtype=torch.int64),
        config=config,
    )
