"""Integer twin of the key passes: codes to key sums and scores (docs/contracts.md, section 4)."""

import torch
from torch import Tensor

from golden.reference import CompressedWindow, Tail
from golden.twin.numbers import fp16_fields, round_half_up, saturate
from golden.twin.scale_bank import scale_bank
from hw.config import AttentionConfig
from hw.constants import KEY_SUM_BITS, SCORE_BIAS, SCORE_BITS
from hw.selection import selection_policy


def _scaled(a: Tensor, b: Tensor, scale: Tensor, minimum: Tensor) -> Tensor:
    """The scale bank on one lane: ``a, b [..., rows]``, scales ``[...]`` -> ``[..., rows]``."""
    return scale_bank(a[..., None], b[..., None], scale[..., None], minimum[..., None])[..., 0]


def whole_key_sums(
    query: Tensor, codes: Tensor, scale: Tensor, minimum: Tensor, config: AttentionConfig
) -> Tensor:
    """Key sums ``[n, rows]`` of whole keys, before any delta.

    ``query`` is ``[rows, d]``, -2047 to 2047; ``codes`` ``[n, d]``; the FP16 ``scale`` and
    ``minimum`` ``[n, d/G]``.
    """
    n = codes.shape[0]
    grouped_codes = codes.reshape(n, config.groups, 1, config.group)
    grouped_query = query.reshape(-1, config.groups, config.group).transpose(0, 1)
    dot = (grouped_codes * grouped_query).sum(-1)
    query_sum = grouped_query.sum(-1).expand_as(dot)
    return saturate(_scaled(dot, query_sum, scale, minimum).sum(1), KEY_SUM_BITS)


def base_key_sums(query: Tensor, closed: CompressedWindow, config: AttentionConfig) -> Tensor:
    """The estimates of all chunks, ``[chunks, rows]``; ``closed`` leads with the chunks."""
    return whole_key_sums(query, closed.base_codes, closed.base_scale, closed.base_minimum, config)


def tail_key_sums(
    query: Tensor, tail: Tail, config: AttentionConfig
) -> tuple[Tensor, Tensor, Tensor]:
    """Key sums ``[units, C, rows]`` of the tail, presence and FP16 value scales ``[units, C]``."""
    tokens = tail.keys.codes.shape[0]
    units = -(-tokens // config.chunk)

    def padded(x: Tensor) -> Tensor:
        missing = units * config.chunk - tokens
        return torch.cat((x, x.new_zeros(missing, *x.shape[1:])))

    sums = whole_key_sums(
        query,
        padded(tail.keys.codes),
        padded(tail.keys.scale),
        padded(tail.keys.minimum),
        config,
    )
    present = torch.arange(units * config.chunk) < tokens
    return (
        sums.reshape(units, config.chunk, -1),
        present.reshape(units, config.chunk),
        padded(tail.value_scale).reshape(units, config.chunk),
    )


def delta_key_sums(
    query: Tensor,
    closed: CompressedWindow,
    estimates: Tensor,
    selection: Tensor,
    config: AttentionConfig,
) -> Tensor:
    """Key sums ``[k, C, rows]`` of the selected chunks: the base's, then base plus each delta."""
    base = estimates[selection]
    grouped_query = query.reshape(-1, config.groups, config.group).transpose(0, 1)
    codes = closed.delta_codes[selection].unsqueeze(-2)
    mask = closed.delta_mask[selection].unsqueeze(-2)
    y = _scaled(
        (codes * grouped_query).sum(-1),
        (mask * grouped_query).sum(-1),
        closed.delta_scale[selection],
        closed.delta_minimum[selection],
    )
    others = saturate(base[:, None] + y.sum(2), KEY_SUM_BITS)
    return torch.cat((base[:, None], others), 1)


def score(key_sum: Tensor, query_scale: Tensor) -> Tensor:
    """Scores ``[..., rows]`` of key sums ``[..., rows]`` with the FP16 query scales ``[rows]``."""
    _, mantissa, exponent = fp16_fields(query_scale)
    return saturate(round_half_up(key_sum * mantissa, SCORE_BIAS - exponent), SCORE_BITS)


def selection_score(scores: Tensor, config: AttentionConfig) -> Tensor:
    """Row "selection score": ``[..., rows]`` -> ``[...]``, combined as ``group_combine`` says."""
    return selection_policy(config.group_combine).twin(scores)
