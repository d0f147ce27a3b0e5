"""The affine quantiser in integers (docs/contracts.md, section 8); equals the reference's in float.

Numbers are int64 in units of 2**-24, below 2**18 in size; scales and minima are FP16 bit patterns.
"""

import torch
from torch import Tensor

from golden.twin.numbers import fp16_fields
from hw.constants import SCALE_FLOOR

_MANTISSA_BITS = 11
#: FP16 pattern of 65504.
_LARGEST = 0x7BFF


def fixed_of_fp16(bits: Tensor) -> Tensor:
    """Finite FP16 bit patterns as integers in units of 2**-24, without rounding."""
    sign, mantissa, exponent = fp16_fields(bits)
    return sign * (mantissa << (exponent - 1))


def fp16_of_fixed(halves: Tensor, remainder: Tensor | int = 0) -> Tensor:
    """FP16 bit patterns of ``halves`` half units: half to even, above 65504 in size 65504.

    ``remainder`` is not 0 where the exact number is a little farther from 0 than ``halves``.
    """
    size = halves.abs()
    # Bits that the mantissa has no place for.
    dropped = torch.ones_like(size)
    for count in range(2, 64 - _MANTISSA_BITS):
        dropped += size >> (_MANTISSA_BITS + count - 1) > 0
    kept = size >> dropped
    rest = size - (kept << dropped)
    half = 1 << (dropped - 1)
    tie = (rest == half) & (torch.as_tensor(remainder) == 0)
    up = (rest >= half) & (~tie | (kept & 1 == 1))
    # The leading bit of a normal number counts as one in the exponent field; a carry does, too.
    bits = (kept + up) + (dropped - 1 << 10)
    return torch.where((halves < 0) & (bits > 0), 0x8000, 0) + bits.clamp(max=_LARGEST)


def affine_parameters(x: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """FP16 scale and minimum of AQ_``bits`` over the last dimension of ``x``.

    The scale is ``(max - min) / (2**bits - 1)``, at least ``SCALE_FLOOR``.
    """
    low = x.amin(-1)
    size = 2 * (x.amax(-1) - low)
    steps = 2**bits - 1
    scale = fp16_of_fixed(size // steps, size % steps)
    return scale.clamp(min=SCALE_FLOOR), fp16_of_fixed(2 * low)


def affine_codes(x: Tensor, scale: Tensor, minimum: Tensor, bits: int, ratio: int = 1) -> Tensor:
    """Codes of ``x`` in steps of ``scale / ratio`` above ``minimum``, clamped to ``bits`` bits.

    Half to even. ``scale`` (positive) and ``minimum`` are FP16 patterns, shaped like ``x`` without
    its last dimension.
    """
    offset = (x - fixed_of_fp16(minimum).unsqueeze(-1)) * ratio
    step = fixed_of_fp16(scale).unsqueeze(-1)
    codes = offset.div(step, rounding_mode="floor")
    rest = 2 * (offset - codes * step)
    codes += (rest > step) | ((rest == step) & (codes & 1 == 1))
    return codes.clamp(0, 2**bits - 1)


def keep_largest(
    codes: Tensor, scale: Tensor, minimum: Tensor, keep: int, excluded: Tensor | None = None
) -> Tensor:
    """1 at the ``keep`` codes of the last dimension that stand for the largest sizes.

    Of equal sizes the lowest index. ``scale`` and ``minimum`` are shaped like ``codes`` without its
    last dimension; ``excluded`` is 1 at indices of the last dimension that do not count.
    """
    step = fixed_of_fp16(scale).unsqueeze(-1)
    size = (codes * step + fixed_of_fp16(minimum).unsqueeze(-1)).abs()
    if excluded is not None:
        size = size.masked_fill(excluded == 1, -1)
    largest = torch.sort(size, dim=-1, descending=True, stable=True).indices[..., :keep]
    return torch.zeros_like(codes).scatter(-1, largest, 1)
