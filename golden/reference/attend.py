"""HCAP: history-current attention pruning, one decode step over a compressed cache, in float64."""

from dataclasses import dataclass
from math import log

import torch
from torch import Tensor

from golden.reference.cache import (
    CompressedCache,
    dequantise_tail,
)
from golden.reference.compress import (
    base_keys,
    dequantise_chunks,
)
from golden.reference.quantiser import query_fold
from hw.config import AttentionConfig
from hw.selection import selection_policy


@dataclass(frozen=True)
class Attention:
    """What one decode step gives; all but ``selection`` in float64."""

    #: ``[..., rows, d]``.
    output: Tensor
    #: Selected chunks, best first, int64 ``[..., k]``.
    selection: Tensor
    #: Selection score of every chunk, base 2, ``[..., chunks]``.
    estimate: Tensor
    #: Largest score of each row over the tokens attended to, base 2 (``q . k log2(e) / sqrt(d)``).
    maximum: Tensor
    #: ``sum(2 ** (score - maximum))`` of each row.
    total: Tensor
    #: Probabilities of the tail tokens added over the rows, ``[..., tail]``: what a decode step
    #: adds to the saliency sums of these tokens.
    tail_probability: Tensor


def scores(query: Tensor, keys: Tensor) -> Tensor:
    """Base-2 scores ``[..., rows, n]``: queries ``[..., rows, d]``, keys ``[..., n, d]``."""
    folded = query.to(torch.float64) * query_fold(query.shape[-1])
    return folded @ keys.to(torch.float64).transpose(-1, -2)


def estimate_chunks(query: Tensor, cache: CompressedCache, config: AttentionConfig) -> Tensor:
    """HCAP step 1: one selection score per chunk, ``[..., chunks]``.

    A KV head selects once: the estimates of its query heads are combined as ``group_combine`` says.
    """
    by_row = scores(query, base_keys(cache.closed).flatten(-3, -2))
    return selection_policy(config.group_combine).reference(by_row.transpose(-1, -2))


def select_chunks(estimate: Tensor, config: AttentionConfig) -> Tensor:
    """HCAP step 2: the ``top_chunks`` best chunks, best first, equal ones by lowest index."""
    order = torch.sort(estimate, dim=-1, descending=True, stable=True).indices
    return order[..., : config.top_chunks]


def attend(
    query: Tensor,
    cache: CompressedCache,
    config: AttentionConfig,
    selection: Tensor | None = None,
) -> Attention:
    """HCAP: estimate, select, and attend to the selected chunks and the tail.

    Parameters
    ----------
    query
        ``[..., rows, d]``: the query heads that share the KV head.
    selection
        Chunks to attend to instead of the selected ones, int64 ``[..., k]``.

    Raises
    ------
    ValueError
        ``query`` has another number of rows than ``config``.
    """
    if query.shape[-2] != config.rows:
        raise ValueError(f"query must have {config.rows} rows, not {query.shape[-2]}")
    estimate = estimate_chunks(query, cache, config)
    if selection is None:
        selection = select_chunks(estimate, config)

    chunk_keys, chunk_values = dequantise_chunks(cache.closed, selection, config)
    tail_keys, tail_values = dequantise_tail(cache.tail, config)
    keys = torch.cat((tail_keys, chunk_keys.flatten(-3, -2)), -2)
    values = torch.cat((tail_values, chunk_values.flatten(-3, -2)), -2)

    score = scores(query, keys)
    maximum = score.amax(-1)
    weight = torch.exp2(score - maximum.unsqueeze(-1))
    total = weight.sum(-1)
    probability = weight / total.unsqueeze(-1)
    return Attention(
        output=probability @ values,
        selection=selection,
        estimate=estimate,
        maximum=maximum,
        total=total,
        tail_probability=probability[..., : tail_keys.shape[-2]].sum(-2),
    )


def dense_attention(query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Uncompressed attention of one decode step: ``[..., rows, d]``.

    ``query`` is ``[..., rows, d]``, ``keys`` and ``values`` ``[..., T, d]``, in any float type.
    """
    probability = (scores(query, keys) * log(2)).softmax(-1)
    return probability @ values.to(torch.float64)
