"""The affine quantiser of the method and the two symmetric quantisers of the hardware, in float64.

Scales and minima are FP16 bit patterns (int64, 0 to 65535) from the moment they are found: a code
is always computed with the rounded numbers that the decoder will read. Float64 holds dequantised
2-bit and 8-bit numbers exactly, so ties between their sizes are real ties.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import log, sqrt

import numpy as np
import torch
from torch import Tensor

from hw.constants import QUERY_FRACTION

FP16_LARGEST = 65504.0
#: Smallest scale of the affine quantiser; as FP16 it is the subnormal 168 * 2**-24.
SCALE_FLOOR = 1e-5


@dataclass(frozen=True)
class Quantised:
    """Codes with the FP16 scale and minimum of each group: ``x ~ code * scale + minimum``."""

    #: Unsigned codes, int64, in the shape of the input.
    codes: Tensor
    #: FP16 bit patterns, int64, ``[..., groups]``.
    scale: Tensor
    #: FP16 bit patterns, int64, ``[..., groups]``.
    minimum: Tensor

    def each(self, change: Callable[[Tensor], Tensor]) -> "Quantised":
        """``change`` of the codes, of the scales and of the minima: it picks or moves tokens."""
        return Quantised(change(self.codes), change(self.scale), change(self.minimum))


def to_fp16(x: Tensor) -> Tensor:
    """FP16 bit patterns of ``x``: round half to even, sizes above 65504 become 65504, -0 becomes 0.

    Raises
    ------
    ValueError
        An element is an infinity or a NaN.
    """
    wide = x.detach().to(torch.float64)
    if not bool(torch.isfinite(wide).all()):
        raise ValueError("every element must be finite")
    # NumPy rounds float64 to float16 once; torch goes through float32 and would round twice.
    half = np.asarray(wide.clamp(-FP16_LARGEST, FP16_LARGEST).numpy()).astype(np.float16)
    bits = torch.from_numpy(half.view(np.uint16).astype(np.int64))
    return torch.where(bits == 0x8000, 0, bits)


def from_fp16(bits: Tensor) -> Tensor:
    """The float64 numbers of FP16 bit patterns."""
    half = np.asarray(bits.numpy()).astype(np.uint16).view(np.float16)
    return torch.from_numpy(half.astype(np.float64))


def affine_parameters(x: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """FP16 scale and minimum of AQ_``bits`` over the last dimension of ``x``.

    The scale is the range of ``x`` over ``2**bits - 1`` steps, at least ``SCALE_FLOOR``.
    """
    wide = x.to(torch.float64)
    low = wide.amin(-1)
    scale = ((wide.amax(-1) - low) / (2**bits - 1)).clamp(min=SCALE_FLOOR)
    return to_fp16(scale), to_fp16(low)


def affine_codes(x: Tensor, scale: Tensor, minimum: Tensor, bits: int, ratio: int = 1) -> Tensor:
    """Codes of ``x`` in steps of ``scale / ratio`` above ``minimum``, clamped to ``bits`` bits.

    ``scale`` and ``minimum`` are FP16 bit patterns, shaped like ``x`` without its last dimension.
    """
    offset = x.to(torch.float64) - from_fp16(minimum).unsqueeze(-1)
    steps = torch.round(offset * ratio / from_fp16(scale).unsqueeze(-1))
    return steps.clamp(0, 2**bits - 1).to(torch.int64)


def affine_values(codes: Tensor, scale: Tensor, minimum: Tensor, ratio: int = 1) -> Tensor:
    """The numbers that ``affine_codes`` stands for: ``code * scale / ratio + minimum``."""
    step = from_fp16(scale).unsqueeze(-1)
    return codes * step / ratio + from_fp16(minimum).unsqueeze(-1)


def quantise(x: Tensor, bits: int, group: int) -> Quantised:
    """AQ_``bits`` of ``x`` over groups of ``group`` along its last dimension."""
    split = x.unflatten(-1, (-1, group))
    scale, minimum = affine_parameters(split, bits)
    return Quantised(affine_codes(split, scale, minimum, bits).flatten(-2), scale, minimum)


def dequantise(x: Quantised) -> Tensor:
    """The float64 numbers of ``quantise``'s answer, in the shape of its input."""
    split = x.codes.unflatten(-1, (x.scale.shape[-1], -1))
    return affine_values(split, x.scale, x.minimum).flatten(-2)


def symmetric_codes(x: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Signed codes of ``bits`` bits with one FP16 scale over the last dimension of ``x``.

    ``x ~ code * scale / 2**(bits - 1)``. The scale is the smallest FP16 number that keeps the
    largest code within ``2**(bits - 1) - 1`` (65504 if there is none), and 0 where ``x`` is all
    zero.

    Returns
    -------
    tuple
        Codes, int64, in the shape of ``x``; scales, FP16 bit patterns, without the last dimension.
    """
    unit = 2 ** (bits - 1)
    wide = x.to(torch.float64)
    largest = wide.abs().amax(-1)
    scale = to_fp16(largest * unit / (unit - 1))
    # Exact comparison: both products fit 53 bits. One FP16 step up is one more in the bit pattern.
    short = from_fp16(scale) * (unit - 1) < largest * unit
    scale = (scale + short).clamp(max=int(to_fp16(torch.tensor(FP16_LARGEST))))
    step = torch.where(scale > 0, from_fp16(scale), 1.0).unsqueeze(-1)
    codes = torch.round(wide * unit / step).clamp(1 - unit, unit - 1)
    return codes.to(torch.int64), scale


def symmetric_values(codes: Tensor, scale: Tensor, bits: int) -> Tensor:
    """The numbers that ``symmetric_codes`` stands for."""
    return codes * from_fp16(scale).unsqueeze(-1) / 2 ** (bits - 1)


def query_fold(head_dim: int) -> float:
    """``log2(e) / sqrt(head_dim)``: makes ``q . k`` a base-2 score."""
    return 1 / (log(2) * sqrt(head_dim))


def quantise_query(query: Tensor, key_scale: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The 12-bit codes and the FP16 scale that the core receives for each query head.

    Parameters
    ----------
    query
        ``[..., rows, d]``, as the model makes it; ``query_fold`` is applied here.
    key_scale
        FP16 pattern: the scale of the keys in a dense mode, applied here too. The product of the
        largest query element, ``query_fold`` and it should stay below 65504.

    Returns
    -------
    tuple
        Codes ``[..., rows, d]`` from -2047 to 2047, and FP16 bit patterns ``[..., rows]``.
    """
    folded = query.to(torch.float64) * query_fold(query.shape[-1])
    if key_scale is not None:
        folded = folded * from_fp16(key_scale)
    return symmetric_codes(folded, QUERY_FRACTION + 1)


def dequantise_query(codes: Tensor, scale: Tensor) -> Tensor:
    """The query that the core works with, ``query_fold`` taken out again: ``[..., rows, d]``."""
    return symmetric_values(codes, scale, QUERY_FRACTION + 1) / query_fold(codes.shape[-1])
