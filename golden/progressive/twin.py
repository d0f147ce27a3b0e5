"""Integer twin of the progressive format: every number that the hardware forms, bit for bit.

docs/progressive_format.md, "Numbers", defines the forms and roundings used here.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from golden.progressive.format import ProgressiveFormat
from golden.progressive.numbers import Coded, Statistics
from golden.progressive.reference import HeadStatistics, Tokens
from golden.reference.quantiser import symmetric_codes
from golden.twin.keys import score
from golden.twin.normaliser import bit_length
from golden.twin.numbers import round_half_up, saturate
from golden.twin.quantiser import fixed_of_fp16
from golden.twin.softmax import softmax
from golden.twin.values import accumulate
from hw.constants import KEY_SUM_BITS, OUTPUT_BITS, QUERY_FRACTION, SCALED_BITS, SCORE_FRACTION

__all__ = ["StepResult", "attend", "compress", "encode", "key_sums", "normalise", "query_codes"]

#: Normalised numbers: signed bits, and the shift from units of 2**-24 to their units of 2**-12.
_NUMBER_BITS = 20
_NUMBER_SHIFT = 12
#: Less the bits of a code: from products with codes in 256ths of their range to the units of
#: docs/contracts.md.
_SUM_SHIFT = 14
#: Fraction bits of the reciprocal of a softmax sum.
_RECIPROCAL_FRACTION = 31
#: Tokens of a softmax unit.
_UNIT = 8


@dataclass(frozen=True)
class StepResult:
    """What one step sends back, int64 throughout.

    Members
    -------
    output : ``[R, D]`` in units of 2**-15.
    candidates : token numbers by rank, best estimate first, without the first and the newest.
    kept : tokens read whole: the first, of the newest in order, of the candidates by rank.
    """

    output: Tensor
    candidates: Tensor
    kept: Tensor


def query_codes(query: Tensor) -> tuple[Tensor, Tensor]:
    """12-bit codes ``[..., R, D]`` and one FP16 scale ``[...]`` of a group's queries.

    ``query`` is folded: exponents of the statistics and ``log2(e) / sqrt(D)`` included.
    """
    codes, scale = symmetric_codes(query.flatten(-2), QUERY_FRACTION + 1)
    return codes.unflatten(-1, query.shape[-2:]), scale


def normalise(x: Tensor, statistics: Statistics) -> Tensor:
    """Normalised FP16 patterns ``[..., T, D]``: signed 20 bits, in units of 2**-12."""
    offset = fixed_of_fp16(x) - fixed_of_fp16(statistics.centre).unsqueeze(-2)
    numbers = round_half_up(offset, _NUMBER_SHIFT + statistics.exponent.unsqueeze(-2))
    return numbers.clamp(1 - (1 << _NUMBER_BITS - 1), (1 << _NUMBER_BITS - 1) - 1)


def _steps(scale: Tensor) -> Tensor:
    """Scale bytes in units of 2**-14: 20 bits."""
    return (16 + (scale & 15)) << (scale >> 4)


def encode(x: Tensor, bits: int, group: int) -> Coded:
    """Codes of normalised numbers ``[..., D]`` over groups of ``group`` channels."""
    split = 4 * x.unflatten(-1, (-1, group))
    low, high = split.amin(-1).clamp(max=0), split.amax(-1).clamp(min=0)
    spans = _steps(torch.arange(256)) * ((1 << bits) - 1)
    scale = (spans < (high - low).unsqueeze(-1)).sum(-1).clamp(max=255)
    step = _steps(scale)
    finer = 8 - bits
    zero = ((2 * (-low << finer) + step) // (2 * step)).clamp(max=255)
    aligned = (split << finer) + (zero * step).unsqueeze(-1)
    wide = step.unsqueeze(-1) << finer
    codes = ((2 * aligned + wide) // (2 * wide)).clamp(0, (1 << bits) - 1)
    return Coded(codes.flatten(-2), scale, zero)


def compress(
    keys: Tensor, values: Tensor, statistics: HeadStatistics, form: ProgressiveFormat
) -> Tokens:
    """Tokens from FP16 patterns ``[..., T, D]``."""
    return Tokens(
        encode(normalise(keys, statistics.key), form.key_bits, form.head_dim),
        encode(normalise(values, statistics.value), form.value_bits, form.value_group),
    )


def _levels(codes: Tensor, bits: int, known: int) -> Tensor:
    """Codes by their upper ``known`` bits, in units of 2**-8 of the codes' range."""
    middle = ((1 << 8 - known) - (1 << 8 - bits)) >> 1
    return (codes >> bits - known << 8 - known) + middle


def key_sums(query: Tensor, key: Coded, bits: int, known: int) -> Tensor:
    """Key sums ``[R, n]`` of query codes ``[R, D]``: signed 32 bits, query scale * 2**-19.

    Channels that do not count have query code 0.
    """
    levels = _levels(key.codes, bits, known) - key.zero
    products = (query @ levels.T) * _steps(key.scale).T
    return saturate(round_half_up(products, _SUM_SHIFT - bits), KEY_SUM_BITS)


def _channels(query: Tensor, count: int) -> Tensor:
    """The query codes with all but the ``count`` channels of the largest sums of sizes at 0."""
    order = torch.sort(query.abs().sum(0), descending=True, stable=True).indices
    return query * torch.zeros_like(query[0]).scatter(0, order[:count], 1)


def _units(x: Tensor, fill: int) -> Tensor:
    """``[..., n]`` in units of 8 tokens, ``[units, ..., 8]``."""
    missing = -x.shape[-1] % _UNIT
    padded = torch.cat((x, x.new_full((*x.shape[:-1], missing), fill)), -1)
    return padded.unflatten(-1, (-1, _UNIT)).movedim(-2, 0)


def attend(
    query: Tensor,
    query_scale: Tensor,
    tokens: Tokens,
    statistics: HeadStatistics,
    form: ProgressiveFormat,
) -> StepResult:
    """One step of a head over ``tokens [T, D]``, the newest last.

    ``query`` is ``[R, D]``, -2047 to 2047, ``query_scale`` an FP16 pattern (`query_codes`).
    """
    total = tokens.key.codes.shape[-2]

    def sums(index: Tensor, known: int, codes: Tensor = query) -> Tensor:
        key = Coded(tokens.key.codes[index], tokens.key.scale[index], tokens.key.zero[index])
        return key_sums(codes, key, form.key_bits, known)

    everyone = torch.arange(total)
    first = min(form.first, total)
    ranked = everyone[first : first + form.ranked(total)]
    estimates = sums(ranked, form.plane_bits, _channels(query, form.channels)).amax(0)
    order = torch.sort(estimates, descending=True, stable=True).indices
    chosen = first + order[: form.top]
    ranks = torch.cat((everyone[:first], everyone[first + len(ranked) :], chosen))

    def scores(index: Tensor, known: int) -> Tensor:
        return score(sums(index, known).T, query_scale.expand(len(query))).T

    upper = scores(ranks, form.screen_bits)
    kept = torch.ones_like(ranks, dtype=torch.bool)
    if len(ranks) > first:
        best = upper[:, first:].amax(-1, keepdim=True)
        kept[first:] = (upper[:, first:] >= best - (form.reach << SCORE_FRACTION)).any(0)

    # Two sections, each beginning a unit: the tokens kept, and those that count with the centre.
    sections = (
        (ranks[kept], scores(ranks[kept], form.key_bits), 1),
        (ranks[~kept], upper[:, ~kept], 0),
    )
    unit_scores = torch.cat([_units(s, 0) for _, s, _ in sections])
    present = torch.cat([_units(torch.ones_like(i), 0) for i, _, _ in sections]).bool()
    units = len(present)
    weights = softmax(
        unit_scores, present, torch.zeros_like(present, dtype=torch.int64), present.new_zeros(units)
    )
    index = torch.cat([_units(i, 0) for i, _, _ in sections])
    valued = torch.cat([_units(torch.ones_like(i), 0) * read for i, _, read in sections])
    accumulator = accumulate(
        _contributions(weights.weight, index, valued, tokens.value, form),
        weights.maximum_shift,
        weights.unit_shift,
    )
    return StepResult(_output(accumulator, weights.sum, statistics.value), chosen, ranks[kept])


def _contributions(
    weight: Tensor, index: Tensor, valued: Tensor, value: Coded, form: ProgressiveFormat
) -> Tensor:
    """``y [units, R, D]``: signed 46 bits, in units of 2**-20 * 2**U."""
    levels = (value.codes[index] << 8 - form.value_bits).unflatten(-1, (form.value_groups, -1))
    scaled = (levels - value.zero[index].unsqueeze(-1)) * _steps(value.scale[index]).unsqueeze(-1)
    sums = weight @ (scaled.flatten(-2) * valued.unsqueeze(-1))
    return saturate(round_half_up(sums, _SUM_SHIFT - form.value_bits), SCALED_BITS)


def _output(accumulator: Tensor, sums: Tensor, statistics: Statistics) -> Tensor:
    """Accumulators ``[R, D]`` over the softmax sums ``[R]``, as values: signed 32 bits, 2**-15."""
    shift = bit_length(sums) - 16
    reciprocal = (1 << _RECIPROCAL_FRACTION) // (sums >> shift)
    product = round_half_up(accumulator, (shift - 3).unsqueeze(-1)) * reciprocal.unsqueeze(-1)
    normalised = saturate(round_half_up(product, _RECIPROCAL_FRACTION - 12), OUTPUT_BITS)
    centre = round_half_up(fixed_of_fp16(statistics.centre), 24 - 15)
    return saturate(round_half_up(normalised, -statistics.exponent) + centre, OUTPUT_BITS)
