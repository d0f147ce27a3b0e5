"""The format's numbers in float64, which holds all of them exactly: normalised channels and codes.

A cache keeps ``x' = (x - centre) / 2**exponent`` per channel of a head. For keys that is exact: a
fixed vector subtracted from all keys adds the same number to every score of a query, which softmax
does not see, and the exponents move to the query. For values it is exact because probabilities add
up to one: the centre is added to the output, which the exponents scale back.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from golden.reference.quantiser import from_fp16, to_fp16

__all__ = [
    "FRACTION",
    "LARGEST",
    "SCALE_FRACTION",
    "Coded",
    "Statistics",
    "decode",
    "encode",
    "fold_query",
    "key_statistics",
    "normalise",
    "restore",
    "scale_values",
    "value_statistics",
]

#: A normalised number is a signed integer of 20 bits in units of ``2**-FRACTION``.
FRACTION = 12
LARGEST = 2**19 - 1
#: A scale byte ``16 * e + m`` stands for ``(16 + m) * 2**(e - SCALE_FRACTION)``.
SCALE_FRACTION = 14
#: Exponents of statistics, signed.
_EXPONENTS = (-32, 31)
#: Smallest deviation of a channel, so that a constant one has an exponent.
_SMALLEST = 2.0**-24


@dataclass(frozen=True)
class Statistics:
    """Centre and exponent of every channel of a head, frozen after the prompt.

    Members
    -------
    centre : FP16 patterns, int64 ``[..., D]``.
    exponent : int64 ``[..., D]``, -32 to 31.
    """

    centre: Tensor
    exponent: Tensor


@dataclass(frozen=True)
class Coded:
    """Codes with scale and zero point of each group: ``x' = s * (code - zero * 2**(bits - 8))``.

    Members
    -------
    codes : int64 ``[..., D]``, 0 to ``2**bits - 1``.
    scale, zero : bytes, int64 ``[..., groups]``.
    """

    codes: Tensor
    scale: Tensor
    zero: Tensor


def _half_up(x: Tensor) -> Tensor:
    return torch.floor(x + 0.5)


def _statistics(x: Tensor, log_weight: Tensor | float) -> Statistics:
    wide = x.to(torch.float64)
    deviation = wide.std(-2, correction=0).clamp(min=_SMALLEST)
    exponent = _half_up(deviation.log2() - log_weight).clamp(*_EXPONENTS)
    return Statistics(to_fp16(wide.mean(-2)), exponent.to(torch.int64))


def key_statistics(keys: Tensor, queries: Tensor) -> Statistics:
    """Centre and exponent of the channels of a head's keys.

    The exponent is ``log2(deviation) - (w - mean of w) / 2`` with ``w`` the base-2 logarithm of
    the root mean square of ``query * deviation``: codes share one step per token, so channels that
    the queries weigh more get a finer one.

    Parameters
    ----------
    keys
        ``[..., T, D]``, post-RoPE; T is at least 1.
    queries
        ``[..., Q, D]`` of the head's group.
    """
    deviation = keys.to(torch.float64).std(-2, correction=0).clamp(min=_SMALLEST)
    size = queries.to(torch.float64).square().mean(-2).sqrt() * deviation
    weight = size.clamp(min=_SMALLEST).log2()
    return _statistics(keys, (weight - weight.mean(-1, keepdim=True)) / 2)


def value_statistics(values: Tensor) -> Statistics:
    """Centre and exponent of the channels of a head's values ``[..., T, D]``."""
    return _statistics(values, 0.0)


def normalise(x: Tensor, statistics: Statistics) -> Tensor:
    """``x'`` of tokens ``[..., T, D]``, float64, rounded half up to ``2**-FRACTION``, saturated.

    ``x`` counts as FP16.
    """
    exact = from_fp16(to_fp16(x)) - from_fp16(statistics.centre).unsqueeze(-2)
    unit = torch.exp2(FRACTION - statistics.exponent.to(torch.float64)).unsqueeze(-2)
    return _half_up(exact * unit).clamp(-LARGEST, LARGEST) / 2**FRACTION


def fold_query(query: Tensor, statistics: Statistics) -> Tensor:
    """Queries ``[..., R, D]`` for normalised keys."""
    return query.to(torch.float64) * torch.exp2(statistics.exponent.to(torch.float64)).unsqueeze(-2)


def restore(output: Tensor, statistics: Statistics) -> Tensor:
    """Outputs ``[..., R, D]`` of normalised values as those of the values."""
    scale = torch.exp2(statistics.exponent.to(torch.float64)).unsqueeze(-2)
    return output * scale + from_fp16(statistics.centre).unsqueeze(-2)


def scale_values(scale: Tensor) -> Tensor:
    """The numbers of scale bytes, float64."""
    return (16 + scale % 16) * torch.exp2((scale // 16 - SCALE_FRACTION).to(torch.float64))


def encode(x: Tensor, bits: int, group: int) -> Coded:
    """Codes of normalised tokens ``[..., D]`` over groups of ``group`` channels.

    0 is always within the range. The scale is the smallest whose ``2**bits - 1`` steps span the
    range; the zero point, in units of ``2**(bits - 8)`` codes, and the code are rounded half up.
    """
    split = x.unflatten(-1, (-1, group))
    low, high = split.amin(-1).clamp(max=0), split.amax(-1).clamp(min=0)
    steps = 2**bits - 1
    numbers = scale_values(torch.arange(256))
    scale = torch.searchsorted(numbers * steps, high - low).clamp(max=255)
    step = numbers[scale]
    unit = 2.0 ** (8 - bits)
    zero = _half_up(-low / step * unit).clamp(max=255)
    codes = _half_up(split / step.unsqueeze(-1) + zero.unsqueeze(-1) / unit).clamp(0, steps)
    return Coded(codes.to(torch.int64).flatten(-2), scale, zero.to(torch.int64))


def decode(coded: Coded, bits: int, known: int | None = None) -> Tensor:
    """The normalised numbers of codes of ``bits`` bits, float64 ``[..., D]``.

    Of each code only the upper ``known`` bits (all by default, else 1 or more) are looked at: the
    answer is the middle of the codes that they leave.
    """
    step = 2 ** (bits - (bits if known is None else known))
    codes = coded.codes // step * step + (step - 1) / 2
    split = codes.unflatten(-1, (coded.scale.shape[-1], -1))
    offset = coded.zero.unsqueeze(-1) * 2.0 ** (bits - 8)
    return ((split - offset) * scale_values(coded.scale).unsqueeze(-1)).flatten(-2)
