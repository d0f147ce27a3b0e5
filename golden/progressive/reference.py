"""The progressive format in float: compress a token, rank by a bit or two of every key, attend.

Shapes lead with any batch: ``[..., T, D]`` tokens of a KV head, ``[..., R, D]`` the queries of its
group, for normalised keys (`fold_query`) where nothing else is said.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log, sqrt

import torch
from torch import Tensor

from golden.progressive.format import ProgressiveFormat
from golden.progressive.numbers import (
    Coded,
    Statistics,
    decode,
    encode,
    fold_query,
    key_statistics,
    normalise,
    restore,
    value_statistics,
)

__all__ = [
    "HeadStatistics",
    "Tokens",
    "attend",
    "choose_channels",
    "compress",
    "estimate",
    "keep",
    "select",
]


@dataclass(frozen=True)
class HeadStatistics:
    """Statistics of a head's keys and values."""

    key: Statistics
    value: Statistics

    @staticmethod
    def of(keys: Tensor, values: Tensor, queries: Tensor) -> HeadStatistics:
        """From the prompt: ``[..., T, D]`` twice, and the group's queries ``[..., Q, D]``."""
        return HeadStatistics(key_statistics(keys, queries), value_statistics(values))


@dataclass(frozen=True)
class Tokens:
    """Tokens ``[..., T, D]`` as the cache holds them."""

    key: Coded
    value: Coded


def compress(
    keys: Tensor, values: Tensor, statistics: HeadStatistics, form: ProgressiveFormat
) -> Tokens:
    """Codes of tokens; each depends on the token and the statistics alone."""
    return Tokens(
        encode(normalise(keys, statistics.key), form.key_bits, form.head_dim),
        encode(normalise(values, statistics.value), form.value_bits, form.value_group),
    )


def choose_channels(query: Tensor, count: int) -> Tensor:
    """Indices ``[..., count]`` of the channels with the largest sum of ``abs(query)`` over rows.

    Of equal sums the lowest index first.
    """
    size = query.abs().sum(-2)
    return torch.sort(size, dim=-1, descending=True, stable=True).indices[..., :count]


def estimate(query: Tensor, levels: Tensor, channels: Tensor) -> Tensor:
    """Estimates ``[..., T]``: largest over the rows of the product in the chosen channels.

    ``levels`` are the tokens by their planes, ``decode(key, key_bits, plane_bits)``,
    ``[..., T, D]``.
    """
    kept = torch.zeros_like(query[..., 0, :]).scatter(-1, channels, 1.0).unsqueeze(-2)
    return ((query * kept) @ levels.transpose(-1, -2)).amax(-2)


def select(estimates: Tensor, top: int) -> Tensor:
    """Indices of the ``top`` largest estimates ``[..., T]``, best first, ties to the lowest."""
    return torch.sort(estimates, dim=-1, descending=True, stable=True).indices[..., :top]


def keep(scores: Tensor, reach: float, first: int) -> Tensor:
    """Tokens ``[..., n]`` that any row scores at most ``reach`` below its best, and the first ones.

    ``scores`` are ``[..., R, n]``, of all candidates by their upper key bits, in the unit of
    ``reach``. The ``first`` of them are kept in any case and not looked at for the best: a sink
    that takes most of the attention says nothing about the others.
    """
    kept = torch.ones_like(scores[..., 0, :], dtype=torch.bool)
    others = scores[..., first:]
    if others.shape[-1]:
        best = others.amax(-1, keepdim=True)
        kept[..., first:] = (others >= best - reach).any(-2)
    return kept


def attend(
    query: Tensor, tokens: Tokens, statistics: HeadStatistics, form: ProgressiveFormat
) -> Tensor:
    """One step of a head: outputs ``[R, D]`` of queries ``[R, D]`` over ``tokens`` ``[T, D]``.

    The newest token is the last. A candidate that is not kept counts with its score by the upper
    key bits and the values' centre: that is, with 0 for a normalised value.
    """
    folded = fold_query(query, statistics.key) / (sqrt(form.head_dim) * log(2))
    total = tokens.key.codes.shape[-2]
    first = min(form.first, total)
    ranked = form.ranked(total)
    planes = decode(tokens.key, form.key_bits, form.plane_bits)[first : first + ranked]
    estimates = estimate(folded, planes, choose_channels(folded, form.channels))
    chosen = first + select(estimates, form.top)
    everyone = torch.arange(total)
    index = torch.cat((everyone[:first], everyone[first + ranked :], chosen))
    upper = folded @ decode(tokens.key, form.key_bits, form.screen_bits)[index].transpose(-1, -2)
    kept = keep(upper, form.reach, first)
    whole = folded @ decode(tokens.key, form.key_bits)[index].transpose(-1, -2)
    weight = (torch.where(kept, whole, upper) * log(2)).softmax(-1)
    values = decode(tokens.value, form.value_bits)[index] * kept.unsqueeze(-1)
    return restore(weight @ values, statistics.value)
