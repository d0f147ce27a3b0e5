"""Integer primitives of the twin: rounding, saturation, FP16 fields (docs/contracts.md)."""

import torch
from torch import Tensor


def round_half_up(value: Tensor, shift: Tensor | int) -> Tensor:
    """``floor(value * 2**-shift + 1/2)`` elementwise; a shift of 0 or less is an exact left shift.

    ``value`` is int64, ``shift`` an integer or an int64 tensor that broadcasts against it. Shifts
    above 62 act as 62, which empties every number of the contract but the sign of a negative half.
    """
    shift = torch.as_tensor(shift, dtype=torch.int64)
    right = shift.clamp(0, 62)
    left = (-shift).clamp(min=0)
    half = (torch.ones_like(right) << right) >> 1
    return ((value << left) + half) >> right


def shifted_sum(terms: Tensor, shift: Tensor) -> Tensor:
    """Sum over the first dimension; before a term is added, `round_half_up` shifts what there is.

    ``terms`` is int64 ``[n, ...]``, ``shift`` ``[n, ...]`` broadcasts against it; the shift of the
    first term shifts nothing.
    """
    # Between two shifts other than 0 the terms just add up: a maximum moves rarely.
    moved = shift[1:].flatten(1).any(-1).nonzero().flatten() + 1
    first, *others = terms.tensor_split(moved)
    total = first.sum(0)
    for part, by in zip(others, shift[moved], strict=True):
        total = round_half_up(total, by) + part.sum(0)
    return total


def saturate(value: Tensor, bits: int) -> Tensor:
    """``value`` clamped to ``bits`` signed bits."""
    return value.clamp(-(1 << (bits - 1)), (1 << (bits - 1)) - 1)


def fp16_fields(bits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Sign (1 or -1), 11-bit mantissa and exponent of FP16 bit patterns (int64, 0 to 65535).

    The number is ``sign * mantissa * 2**(exponent - 25)``, subnormals included.
    """
    exponent_field = (bits >> 10) & 31
    fraction = bits & 1023
    mantissa = torch.where(exponent_field > 0, fraction + 1024, fraction)
    sign = 1 - 2 * ((bits >> 15) & 1)
    return sign, mantissa, exponent_field.clamp(min=1)
