"""Integer twin of the normaliser (docs/contracts.md, section 4, "sum mantissa" to "output")."""

import torch
from torch import Tensor

from golden.twin.numbers import round_half_up, saturate
from hw.config import AttentionConfig
from hw.constants import OUTPUT_BITS


def bit_length(value: Tensor) -> Tensor:
    """Bits of non-negative int64 numbers, 0 for 0; any shape."""
    return (value.unsqueeze(-1) >= 1 << torch.arange(63)).sum(-1)


def reciprocal(config: AttentionConfig, sums: Tensor) -> tuple[Tensor, Tensor]:
    """Rows "sum mantissa" and "reciprocal": the reciprocal, below 2**17, and ``sh``, at least 4.

    ``sums`` is int64 of any shape, ``2**19`` to ``2**sum_bits - 1``.
    """
    shift = bit_length(sums) - 16
    return (1 << config.reciprocal_fraction) // (config.value_step_ratio * (sums >> shift)), shift


def normalise(config: AttentionConfig, sums: Tensor, accumulator: Tensor) -> Tensor:
    """Row "output": signed 32 bits, in units of 2**-15.

    ``sums`` is ``[..., rows]``, ``accumulator`` ``[..., rows, head_dim]`` int64, below
    ``2**value_magnitude_bits * R * sum`` in size; the result has the accumulator's shape.
    """
    factor, shift = reciprocal(config, sums.unsqueeze(-1))
    product = round_half_up(accumulator, shift - 3) * factor
    return saturate(round_half_up(product, config.reciprocal_fraction - 12), OUTPUT_BITS)
