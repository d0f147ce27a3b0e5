"""What the variants do to a layer's tensors before they rank: changes, statistics, codes.

Shapes as in ``golden.quality.interface``; P = tokens of the prompt.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log, sqrt

import torch
from torch import Tensor

from golden.progressive.format import PAGE_TOKENS
from golden.progressive.numbers import (
    Coded,
    Statistics,
    decode,
    encode,
    key_statistics,
    normalise,
    value_statistics,
)
from golden.quality.progressive_study.variant import Variant
from golden.reference.quantiser import from_fp16

__all__ = ["PRODUCT", "SINK_TOKEN", "Levels", "changed", "code_key", "hadamard", "levels"]

#: Outlier channels of 64, how much larger they are, and how far off.
_OUTLIERS, _TIMES, _OFFSET = 4, 10.0, 15.0
#: The token that becomes a sink, the share of attention that it then has with half of the newest
#: queries of the prompt, and how many those are.
SINK_TOKEN = 3
_SINK_SHARE, _SINK_QUERIES = 0.7, 128
#: Tokens of statistics that are taken early.
_EARLY = 256
#: Channels of a product's codebook; its entries and rounds of training.
PRODUCT = 4
_ENTRIES, _ROUNDS = 16, 6


@dataclass(frozen=True)
class Levels:
    """A layer's tokens as the cache shows them, float32, in the numbers of the queries.

    Members
    -------
    plane, upper, whole : keys ``[B, G, T, D]`` by what ranks, by the second look, entirely.
    values : ``[B, G, T, D]``, normalised: 0 is their centre.
    weight : ``[B, G, D]``: query channels times this are those for normalised keys.
    value_centre, value_scale : ``[B, G, D]``: bring outputs back.
    """

    plane: Tensor
    upper: Tensor
    whole: Tensor
    values: Tensor
    weight: Tensor
    value_centre: Tensor
    value_scale: Tensor


def changed(
    variant: Variant, layer: int, past: Tensor, query: Tensor, keys: Tensor
) -> tuple[Tensor, Tensor]:
    """Queries and keys after the variant's ``change``; ``past`` are the prompt's queries."""
    if variant.change == "outliers":
        source = torch.Generator().manual_seed(layer)
        width = keys.shape[-1]
        chosen = torch.randperm(width, generator=source)[: _OUTLIERS * width // 64]
        times, offset = torch.ones(width), torch.zeros(width)
        times[chosen] = _TIMES
        offset[chosen] = _OFFSET
        return query / times, keys * times + offset
    if variant.change == "sink":
        keys = keys.clone()
        keys[..., SINK_TOKEN, :] += _sink(past, keys[..., : past.shape[-2], :])
    return query, keys


def _sink(past: Tensor, keys: Tensor) -> Tensor:
    """What makes a key ``[B, G, D]`` a sink for the prompt's queries."""
    rows = past.flatten(2, 3)
    # The key that all queries score as nearly 1 as can be.
    power = rows.transpose(-1, -2) @ rows + 1e-3 * torch.eye(rows.shape[-1])
    alike = torch.linalg.solve(power, rows.sum(-2).unsqueeze(-1)).squeeze(-1)
    newest = past[..., -_SINK_QUERIES:, :].flatten(2, 3)
    scores = newest @ keys.transpose(-1, -2) / sqrt(keys.shape[-1])
    gap = (scores.logsumexp(-1) - scores[..., SINK_TOKEN]).median(-1).values
    raised = gap + log(_SINK_SHARE / (1 - _SINK_SHARE))
    return raised.unsqueeze(-1) * sqrt(keys.shape[-1]) * alike


def code_key(variant: Variant) -> tuple[object, ...]:
    """What of a variant decides its `Levels`."""
    names = (
        "change key_bits screen_bits value_bits value_group plane_bits scale_bits weighted "
        "statistics estimate rotation"
    )
    return tuple(getattr(variant, name) for name in names.split())


def levels(variant: Variant, past: Tensor, keys: Tensor, values: Tensor) -> Levels:
    """Codes and what is seen of them.

    Parameters
    ----------
    past
        Queries of the prompt, ``[B, G, R, P, D]``.
    keys, values
        ``[B, G, T, D]``, T > P.
    """
    prompt = past.shape[-2]
    statistics = _key_statistics(variant, past, keys, prompt)
    of_values = value_statistics(values[..., :prompt, :])
    weight = torch.exp2(statistics.exponent.double())
    normal, page_weight = _normal(variant, past, keys, statistics)
    if variant.rotation == "hadamard":
        normal = normal @ hadamard(normal.shape[-1])
    coded = _coarse(encode(normal, variant.key_bits, normal.shape[-1]), variant)

    def seen(bits: int) -> Tensor:
        return _pages_back(decode(coded, variant.key_bits, bits), page_weight)

    value = encode(normalise(values, of_values), variant.value_bits, variant.value_group)
    return Levels(
        plane=_pages_back(_estimates(variant, normal, coded, prompt), page_weight),
        upper=seen(min(variant.screen_bits, variant.key_bits)),
        whole=seen(variant.key_bits),
        values=decode(value, variant.value_bits).float(),
        weight=weight.float(),
        value_centre=from_fp16(of_values.centre).float(),
        value_scale=torch.exp2(of_values.exponent.double()).float(),
    )


def _key_statistics(variant: Variant, past: Tensor, keys: Tensor, prompt: int) -> Statistics:
    tokens = _EARLY if variant.statistics == "early" else prompt
    asked = past[..., :tokens, :].flatten(2, 3)
    found = key_statistics(keys[..., :tokens, :], asked)
    if not variant.weighted:
        # The weights are those of queries that see all channels alike.
        deviation = keys[..., :tokens, :].double().std(-2, correction=0, keepdim=True)
        found = key_statistics(keys[..., :tokens, :], 1 / deviation.clamp(min=1e-6))
    centre, exponent = found.centre, found.exponent
    if variant.statistics == "none":
        centre = torch.zeros_like(centre)
    if variant.statistics in ("none", "centre"):
        # One exponent for all channels, so that the numbers stay within their range.
        exponent = exponent.double().mean(-1, keepdim=True).round().long().expand_as(exponent)
    if variant.statistics == "other":
        centre, exponent = centre.roll(1, 0), exponent.roll(1, 0)
    return Statistics(centre, exponent)


def _normal(
    variant: Variant, past: Tensor, keys: Tensor, statistics: Statistics
) -> tuple[Tensor, Tensor | None]:
    """Normalised keys; with statistics per page also what brings pages back to common numbers."""
    if variant.statistics != "page":
        return normalise(keys, statistics), None
    asked = past.flatten(2, 3)
    parts, back = [], []
    # A page is closed with its own statistics; the one being filled uses those of the last full.
    full = keys.shape[-2] // PAGE_TOKENS * PAGE_TOKENS
    for start in range(0, keys.shape[-2], PAGE_TOKENS):
        first = min(start, max(0, full - PAGE_TOKENS))
        own = key_statistics(keys[..., first : first + PAGE_TOKENS, :], asked)
        part = keys[..., start : start + PAGE_TOKENS, :]
        parts.append(normalise(part, own))
        times = torch.exp2((own.exponent - statistics.exponent).double())
        unit = torch.exp2(-statistics.exponent.double())
        shift = (from_fp16(own.centre) - from_fp16(statistics.centre)) * unit
        pair = torch.stack((times, shift), -2).unsqueeze(-2)
        back.append(pair.expand(*pair.shape[:-2], part.shape[-2], -1))
    return torch.cat(parts, -2), torch.cat(back, -2)


def _pages_back(x: Tensor, pages: Tensor | None) -> Tensor:
    if pages is not None:
        x = x * pages[..., 0, :, :] + pages[..., 1, :, :]
    return x.float()


def _coarse(coded: Coded, variant: Variant) -> Coded:
    """With ``scale_bits`` 4: the next power of two up, the zero point in steps of 16."""
    if variant.scale_bits == 8:
        return coded
    scale = -(-coded.scale // 16) * 16
    zero = ((coded.zero + 8) // 16 * 16).clamp(max=240)
    return _recode(variant.key_bits, coded, scale, zero)


def _recode(bits: int, coded: Coded, scale: Tensor, zero: Tensor) -> Coded:
    """The codes of the same numbers with another scale and zero point."""
    numbers = decode(coded, bits)
    ones = decode(Coded(torch.ones_like(scale), scale, torch.zeros_like(zero)), bits)
    codes = (numbers / ones + zero * 2.0 ** (bits - 8)).add(0.5).floor()
    return Coded(codes.clamp(0, 2**bits - 1).long(), scale, zero)


def _estimates(variant: Variant, normal: Tensor, coded: Coded, prompt: int) -> Tensor:
    """Keys by what ranks, in normalised numbers."""
    if variant.estimate == "exact":
        return normal
    if variant.estimate == "sign":
        return torch.where(normal >= 0, 1.0, -1.0)
    if variant.estimate == "products":
        return _products(normal.float(), prompt)
    return decode(coded, variant.key_bits, variant.plane_bits)


def _products(normal: Tensor, prompt: int) -> Tensor:
    """Groups of 4 channels as the nearest of 16 entries, trained on the prompt (k-means)."""
    split = normal.unflatten(-1, (-1, PRODUCT)).transpose(2, 3)
    train = split[..., :prompt, :]
    order = torch.randperm(prompt, generator=torch.Generator().manual_seed(0))
    book = train[..., order[:_ENTRIES], :]

    def nearest(x: Tensor) -> Tensor:
        distance = book.square().sum(-1).unsqueeze(-2) - 2 * x @ book.transpose(-1, -2)
        return distance.argmin(-1)

    for _ in range(_ROUNDS):
        index = nearest(train)
        member = torch.zeros(*index.shape, _ENTRIES).scatter(-1, index.unsqueeze(-1), 1.0)
        count = member.sum(-2).unsqueeze(-1)
        mean = member.transpose(-1, -2) @ train / count.clamp(min=1)
        book = torch.where(count > 0, mean, book)
    index = nearest(split).unsqueeze(-1).expand(*split.shape)
    return torch.take_along_dim(book, index, -2).transpose(2, 3).flatten(-2)


def hadamard(width: int) -> Tensor:
    """The rotation of ``width`` channels, a power of two: orthogonal and its own inverse."""
    matrix = torch.ones(1, 1, dtype=torch.float64)
    while len(matrix) < width:
        matrix = torch.cat((torch.cat((matrix, matrix), 1), torch.cat((matrix, -matrix), 1)))
    return matrix / sqrt(width)
