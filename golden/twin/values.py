"""Integer twin of the value passes: contributions of the units and their accumulation."""

import torch
from torch import Tensor

from golden.reference import CompressedWindow
from golden.twin.numbers import round_half_up, saturate, shifted_sum
from golden.twin.scale_bank import scale_bank
from hw.config import AttentionConfig
from hw.constants import SCALED_BITS, TAIL_VALUE_SHIFT


def chunk_contributions(
    weight: Tensor, closed: CompressedWindow, selection: Tensor, config: AttentionConfig
) -> Tensor:
    """``y [k, rows, d]`` of the selected chunks; ``weight`` is ``[k, rows, C]``."""
    ratio = config.value_step_ratio
    first = weight[:, :, :1]
    others = weight[:, :, 1:]
    codes = closed.value_codes[selection]
    mask = closed.value_mask[selection]
    a = first * closed.value_base[selection][:, None] + ratio * (others @ codes)
    b = ratio * (first + others @ mask)
    return scale_bank(a, b, closed.value_scale[selection], closed.value_minimum[selection])


def tail_contributions(
    weight: Tensor, exponent: Tensor, codes: Tensor, bits: int, config: AttentionConfig
) -> Tensor:
    """``y [units, rows, d]`` of a tail.

    Parameters
    ----------
    weight
        ``[units, rows, C]``.
    exponent
        ``[units]``: the exponent that the weights of a unit share.
    codes
        Signed codes of ``bits`` bits (8 or 16), ``[tokens, d]``.
    """
    units = weight.shape[0]
    missing = units * config.chunk - len(codes)
    padded = torch.cat((codes, codes.new_zeros(missing, config.head_dim)))
    v = weight @ (padded << (16 - bits)).reshape(units, config.chunk, config.head_dim)
    return align_tail(v, exponent[:, None, None], config)


def align_tail(v: Tensor, exponent: Tensor, config: AttentionConfig) -> Tensor:
    """Row "contribution" of the tail: value sums ``v`` with the exponent that their weights share.

    ``v`` is signed 31 bits of any shape, ``exponent`` (1 to 31) broadcasts against it.
    """
    shift = TAIL_VALUE_SHIFT - exponent
    return saturate(round_half_up(config.value_step_ratio * v, shift), SCALED_BITS)


def accumulate(contributions: Tensor, maximum_shift: Tensor, unit_shift: Tensor) -> Tensor:
    """Accumulators ``[rows, d]`` after all units.

    ``contributions`` is ``[units, rows, d]``, signed 46 bits; the shifts are ``[units, rows]``,
    0 to 63, both 0 for the first unit.
    """
    aligned = round_half_up(contributions, unit_shift.unsqueeze(-1))
    return shifted_sum(aligned, maximum_shift.unsqueeze(-1))
