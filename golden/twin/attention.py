"""The attention core as a whole, in integers: what a job must give, bit for bit."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from golden.reference import CompressedCache, CompressedWindow
from golden.twin.keys import (
    base_key_sums,
    delta_key_sums,
    score,
    selection_score,
    tail_key_sums,
)
from golden.twin.normaliser import normalise
from golden.twin.score_tap import received_attention
from golden.twin.selector import select
from golden.twin.softmax import Softmax, softmax
from golden.twin.values import accumulate, chunk_contributions, tail_contributions
from hw.config import AttentionConfig


@dataclass(frozen=True)
class JobResult:
    """What one job sends back, int64 throughout."""

    #: ``[rows, d]``, in units of 2**-15.
    output: Tensor
    #: Chunk indices in the order of the formal pass, see `select`.
    selection: Tensor
    #: ``[rows]``: running maximum (signed exponent) and softmax sum (2**-20 * 2**maximum).
    maximum: Tensor
    sum: Tensor
    #: ``[t]``: attention that each token of the tail received, see `received_attention`; empty in
    #: the dense modes.
    received: Tensor


def attention(
    query: Tensor,
    query_scale: Tensor,
    cache: CompressedCache,
    config: AttentionConfig,
    selection: Tensor | None = None,
) -> JobResult:
    """One job of the core: estimate, select, formal pass over tail and selected chunks, output.

    Parameters
    ----------
    query
        Codes ``[rows, d]`` int64, -2047 to 2047.
    query_scale
        FP16 patterns ``[rows]``.
    cache
        The compressed cache of one KV head, without leading dimensions but the windows.
    selection
        Chunks to attend to instead of those that the selector finds, int64 ``[k]``.
    """
    closed = chunk_view(cache.closed)
    estimates = base_key_sums(query, closed, config)
    if selection is None:
        selection = select(config, selection_score(score(estimates, query_scale), config))

    tail_sums, present, value_scale = tail_key_sums(query, cache.tail, config)
    chunk_sums = delta_key_sums(query, closed, estimates, selection, config)
    tail_units, chunk_units = len(tail_sums), len(chunk_sums)
    everywhere = torch.ones(chunk_units, config.chunk, dtype=torch.bool)
    no_scale = torch.zeros(chunk_units, config.chunk, dtype=torch.int64)

    def contributions(weights: Softmax) -> Tensor:
        in_tail = tail_contributions(
            weights.weight[:tail_units],
            weights.tail_exponent[:tail_units],
            cache.tail.value_codes,
            config.tail_value_bits,
            config,
        )
        in_chunks = chunk_contributions(weights.weight[tail_units:], closed, selection, config)
        return torch.cat((in_tail, in_chunks))

    scores = score(torch.cat((tail_sums, chunk_sums)), query_scale)
    result = formal_pass(
        scores,
        torch.cat((present, everywhere)),
        torch.cat((value_scale, no_scale)),
        torch.arange(tail_units + chunk_units) < tail_units,
        contributions,
        selection=selection,
        config=config,
    )
    in_tail = scores[:tail_units][present]
    received = received_attention(in_tail, result.maximum, result.sum, config)
    return replace(result, received=received)


def formal_pass(
    scores: Tensor,
    present: Tensor,
    value_scale: Tensor,
    tail: Tensor,
    contributions: Callable[[Softmax], Tensor],
    *,
    selection: Tensor,
    config: AttentionConfig,
) -> JobResult:
    """Softmax, value pass and normalisation of a job's units, from the scores on.

    What the tail has received is left out.

    Parameters
    ----------
    scores
        ``[units, C, rows]``.
    present, value_scale
        ``[units, C]``: which tokens exist, and the FP16 scales of those in the tail.
    tail
        ``[units]``: tail units.
    contributions
        Gives ``y [units, rows, d]`` of the weights.
    selection
        Chunk indices, to be handed on.
    """
    weights = softmax(scores.transpose(-1, -2), present, value_scale, tail)
    total = accumulate(contributions(weights), weights.maximum_shift, weights.unit_shift)
    return JobResult(
        output=normalise(config, weights.sum, total),
        selection=selection,
        maximum=weights.maximum,
        sum=weights.sum,
        received=torch.zeros(0, dtype=torch.int64),
    )


def chunk_view(closed: CompressedWindow) -> CompressedWindow:
    """The closed windows with one leading dimension of chunks instead of windows and chunks."""

    def flat(x: Tensor) -> Tensor:
        return x.reshape(-1, *x.shape[2:])

    # Value scales belong to value groups: every chunk gets those of its group.
    chunks_per_group = (
        closed.base_codes.shape[-2] // closed.value_scale.shape[-2]
        if closed.value_scale.shape[-2]
        else 1
    )
    return CompressedWindow(
        base_codes=flat(closed.base_codes),
        base_scale=flat(closed.base_scale),
        base_minimum=flat(closed.base_minimum),
        delta_mask=flat(closed.delta_mask),
        delta_codes=flat(closed.delta_codes),
        delta_scale=flat(closed.delta_scale),
        delta_minimum=flat(closed.delta_minimum),
        value_base=flat(closed.value_base),
        value_mask=flat(closed.value_mask),
        value_codes=flat(closed.value_codes),
        value_scale=flat(closed.value_scale).repeat_interleave(chunks_per_group, 0),
        value_minimum=flat(closed.value_minimum).repeat_interleave(chunks_per_group, 0),
    )
