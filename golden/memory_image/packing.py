"""Numbers as the bits and bytes of records, and back."""

from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hw.config import AttentionConfig

Bytes = NDArray[np.uint8]
Integers = NDArray[np.int64]


class RecordError(ValueError):
    """A region has the wrong size or breaks a rule of its records."""


def flat_rows(x: NDArray[Any]) -> NDArray[Any]:
    """``[n, ...]`` as ``[n, m]``; unlike ``reshape(n, -1)`` also for n = 0."""
    return x.reshape(len(x), prod(x.shape[1:]))


def to_bits(numbers: Integers, width: int) -> Bytes:
    """``[..., n]`` unsigned numbers as ``[..., n * width]`` bits, least significant first."""
    split = (numbers[..., None] >> np.arange(width)) & 1
    return split.reshape(*numbers.shape[:-1], numbers.shape[-1] * width).astype(np.uint8)


def from_bits(bits: Bytes, width: int) -> Integers:
    """The inverse of ``to_bits``."""
    split = bits.reshape(*bits.shape[:-1], bits.shape[-1] // width, width).astype(np.int64)
    return (split << np.arange(width)).sum(-1)


def fp16_bytes(patterns: Integers) -> Bytes:
    """``[n, ...]`` FP16 patterns as ``[n, bytes]``, little-endian."""
    return flat_rows(patterns.astype("<u2")).view(np.uint8)


def fp16_patterns(data: Bytes) -> Integers:
    """``[n, bytes]`` as ``[n, bytes / 2]`` FP16 patterns."""
    return np.ascontiguousarray(data).view("<u2").astype(np.int64)


def pad(data: Bytes, size: int) -> Bytes:
    """``[n, bytes]`` with zeros up to ``[n, size]``."""
    return np.pad(data, ((0, 0), (0, size - data.shape[1])))


def region_blocks(name: str, data: bytes, count: int, size: int) -> Bytes:
    """The ``count`` records of ``size`` bytes that region ``name`` consists of, ``[count, size]``.

    Raises
    ------
    RecordError
        ``data`` has another size.
    """
    if len(data) != count * size:
        raise RecordError(f"{name} region must have {count * size} bytes, not {len(data)}")
    return np.frombuffer(data, np.uint8).reshape(count, size)


def to_tensor(numbers: Integers) -> Tensor:
    """``numbers`` as a tensor of the same shape."""
    return torch.from_numpy(np.ascontiguousarray(numbers))


def blocks_of(x: Tensor, config: AttentionConfig) -> Integers:
    """``[n, ...]`` as ``[blocks, C, ...]``; absent tokens are zero."""
    numbers = x.numpy()
    absent = -len(numbers) % config.chunk
    padded = np.pad(numbers, ((0, absent), *((0, 0),) * (numbers.ndim - 1)))
    return padded.reshape(-1, config.chunk, *numbers.shape[1:])


def byte_planes(codes: Integers, count: int) -> Bytes:
    """Signed ``codes`` of ``count`` bytes as two's complement, ``[..., count]``, lowest first."""
    return ((codes[..., None] >> (8 * np.arange(count))) & 255).astype(np.uint8)


def from_byte_planes(planes: Bytes) -> Integers:
    """The inverse of ``byte_planes``."""
    count = planes.shape[-1]
    unsigned = (planes.astype(np.int64) << (8 * np.arange(count))).sum(-1)
    sign = 1 << (8 * count - 1)
    return (unsigned ^ sign) - sign
