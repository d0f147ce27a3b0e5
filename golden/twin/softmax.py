"""Integer twin of the softmax (docs/contracts.md, section 4, rows "unit exponent" to "weight")."""

from dataclasses import dataclass

import torch
from torch import Tensor

from golden.twin.exp2 import exp2_fraction
from golden.twin.numbers import fp16_fields, round_half_up, shifted_sum
from hw.constants import EXP2_FRACTION, PROBABILITY_FRACTION, PROBABILITY_MAX, SHIFT_MAX


@dataclass(frozen=True)
class Softmax:
    """What the softmax says about a job of ``units`` units, int64 throughout.

    Parameters
    ----------
    weight
        ``[..., units, rows, chunk]``, 0 to 4095: the operands of the value pass.
    maximum_shift, unit_shift
        ``[..., units, rows]``, 0 to 63: alignment of the accumulator, of the unit's contribution.
    tail_exponent
        ``[..., units]``: the largest exponent of the unit's value scales, 0 outside the tail.
    maximum
        ``[..., rows]``, signed 13: running maximum after the last unit.
    sum
        ``[..., rows]``: softmax sum after the last unit, in units of ``2**-20 * 2**maximum``.
    """

    weight: Tensor
    maximum_shift: Tensor
    unit_shift: Tensor
    tail_exponent: Tensor
    maximum: Tensor
    sum: Tensor


def unit_exponent(scores: Tensor, present: Tensor) -> Tensor:
    """Row "unit exponent": signed 13 bits, ``[..., rows]``.

    ``scores`` is ``[..., rows, chunk]``, ``present`` ``[..., 1, chunk]``; every unit has at least
    one present token.
    """
    lowest = torch.iinfo(torch.int64).min
    return (torch.where(present, scores, lowest).amax(-1) >> 12) + 1


def probability(scores: Tensor, present: Tensor, exponent: Tensor) -> Tensor:
    """Row "probability": 0 to 4095 in units of ``2**-12 * 2**exponent``; shapes broadcast."""
    distance = scores - 4096 * exponent
    power = exp2_fraction(distance & 4095)
    halvings = -(distance >> 12)
    shift = halvings.clamp(0, 61) + (EXP2_FRACTION - PROBABILITY_FRACTION)
    rounded = round_half_up(power, shift).clamp(max=PROBABILITY_MAX)
    return torch.where(present, rounded, 0)


def softmax(scores: Tensor, present: Tensor, value_scale: Tensor, tail: Tensor) -> Softmax:
    """Probabilities, weights and statistics of one job, or of a batch of jobs with equal units.

    Parameters
    ----------
    scores
        ``[..., units, rows, chunk]`` int64, signed 24 bits, in units of 2**-12 (log2).
    present
        ``[..., units, chunk]`` bool, true for token 0 of every unit.
    value_scale
        ``[..., units, chunk]`` int64, FP16 patterns; looked at for present tokens of the tail only.
    tail
        ``[..., units]`` bool.
    """
    there = present.unsqueeze(-2)
    exponent = unit_exponent(scores, there)
    p = probability(scores, there, exponent.unsqueeze(-1))

    running = exponent.cummax(-2).values
    before = torch.cat((exponent[..., :1, :], running[..., :-1, :]), -2)
    maximum_shift = (running - before).clamp(max=SHIFT_MAX)
    unit_shift = (running - exponent).clamp(max=SHIFT_MAX)
    units = round_half_up(256 * p.sum(-1), unit_shift)
    total = shifted_sum(units.movedim(-2, 0), maximum_shift.movedim(-2, 0))

    _, mantissa, scale_exponent = fp16_fields(torch.where(present, value_scale, 0))
    largest = scale_exponent.amax(-1)
    drop = 11 + largest.unsqueeze(-1) - scale_exponent
    scaled = round_half_up(p * mantissa.unsqueeze(-2), drop.unsqueeze(-2)).clamp(max=4095)
    weight = torch.where(tail[..., None, None], scaled, p)
    return Softmax(
        weight=weight,
        maximum_shift=maximum_shift,
        unit_shift=unit_shift,
        tail_exponent=torch.where(tail, largest, 0),
        maximum=running[..., -1, :],
        sum=total,
    )
