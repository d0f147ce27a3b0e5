"""Bytes of a head's cache in the progressive format (docs/progressive_format.md, "Layout").

Four regions: statistics, pages (plane and scales), key records, rest records. Tokens have no
leading dimensions here: ``[T, D]``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from golden.progressive.format import PAGE_TOKENS, ProgressiveFormat
from golden.progressive.numbers import Coded, Statistics
from golden.progressive.reference import HeadStatistics, Tokens

__all__ = ["CacheBytes", "LayoutError", "pack", "unpack"]

Bytes = NDArray[np.uint8]
Integers = NDArray[np.int64]


class LayoutError(ValueError):
    """A region has the wrong size."""


@dataclass(frozen=True)
class CacheBytes:
    """The regions of one head."""

    statistics: bytes
    pages: bytes
    keys: bytes
    rest: bytes


def _packed(numbers: Integers, bits: int) -> Bytes:
    """The low ``bits`` bits of numbers ``[n, channels]``, channel after channel, bit 0 first."""
    split = (numbers[..., None] >> np.arange(bits)) & 1
    return np.packbits(split.reshape(len(numbers), -1).astype(np.uint8), -1, bitorder="little")


def _unpacked(data: Bytes, channels: int, bits: int) -> Integers:
    """The inverse of ``_packed``."""
    split = np.unpackbits(data, axis=-1, bitorder="little")[:, : channels * bits]
    digits = split.reshape(len(data), channels, bits).astype(np.int64)
    return (digits << np.arange(bits)).sum(-1)


def _padded(data: Bytes, size: int) -> Bytes:
    return np.pad(data, ((0, 0), (0, size - data.shape[1])))


def _pairs(coded: Coded) -> Bytes:
    """Scale and zero point, group after group, ``[n, 2 * groups]``."""
    return (
        np.stack((coded.scale.numpy(), coded.zero.numpy()), -1)
        .reshape(len(coded.scale), -1)
        .astype(np.uint8)
    )


def _statistics(statistics: HeadStatistics, form: ProgressiveFormat) -> bytes:
    parts = (statistics.key, statistics.value)
    centres = b"".join(part.centre.numpy().astype("<u2").tobytes() for part in parts)
    exponents = b"".join(part.exponent.numpy().astype(np.int8).tobytes() for part in parts)
    return (centres + exponents).ljust(form.statistics_bytes, b"\0")


def _page(plane: Integers, pairs: Bytes, form: ProgressiveFormat) -> bytes:
    """A page of up to 256 tokens: upper bits ``[n, D]`` and scales ``[n, 2]``.

    A full page has its bursts channel by channel, one that is being filled a row per token.
    """
    rows = plane.T if len(plane) == PAGE_TOKENS else plane
    bits = _packed(rows, form.plane_bits).tobytes().ljust(form.plane_bytes, b"\0")
    return bits + pairs.tobytes().ljust(form.scale_bytes, b"\0")


def pack(tokens: Tokens, statistics: HeadStatistics, form: ProgressiveFormat) -> CacheBytes:
    """The regions after the step that appended the last of ``tokens``."""
    codes, values = tokens.key.codes.numpy(), tokens.value.codes.numpy()
    pairs = _pairs(tokens.key)
    plane = codes >> form.key_bits - form.plane_bits
    starts = range(0, len(codes), PAGE_TOKENS)
    pages = [_page(plane[i : i + PAGE_TOKENS], pairs[i : i + PAGE_TOKENS], form) for i in starts]
    low = form.key_bits - form.screen_bits
    upper = _packed(codes >> low, form.screen_bits)
    rest = (
        _pairs(tokens.value),
        _packed(codes, low),
        _packed(values, form.value_bits),
    )
    return CacheBytes(
        statistics=_statistics(statistics, form),
        pages=b"".join(pages),
        keys=_padded(upper, form.key_bytes).tobytes(),
        rest=_padded(np.concatenate(rest, -1), form.rest_bytes).tobytes(),
    )


def _region(name: str, data: bytes, count: int, size: int) -> Bytes:
    if len(data) != count * size:
        raise LayoutError(f"{name} region must have {count * size} bytes, not {len(data)}")
    return np.frombuffer(data, np.uint8).reshape(count, size)


def _tensor(numbers: NDArray[np.generic]) -> Tensor:
    return torch.from_numpy(numbers.astype(np.int64))


def _read_statistics(data: bytes, form: ProgressiveFormat) -> HeadStatistics:
    d = form.head_dim
    whole = _region("statistics", data, 1, form.statistics_bytes)[0]
    centres = _tensor(whole[: 4 * d].view("<u2"))
    exponents = _tensor(whole[4 * d : 6 * d].view(np.int8))
    return HeadStatistics(
        Statistics(centres[:d], exponents[:d]), Statistics(centres[d:], exponents[d:])
    )


def _read_page(page: Bytes, tokens: int, form: ProgressiveFormat) -> tuple[Integers, Integers]:
    """Upper bits ``[tokens, D]``, scales and zero points ``[tokens, 2]``."""
    bits = page[: form.plane_bytes]
    if tokens == PAGE_TOKENS:
        plane = _unpacked(bits.reshape(form.head_dim, -1), PAGE_TOKENS, form.plane_bits).T
    else:
        plane = _unpacked(bits.reshape(PAGE_TOKENS, -1), form.head_dim, form.plane_bits)[:tokens]
    return plane, page[form.plane_bytes :].reshape(-1, 2)[:tokens].astype(np.int64)


def unpack(
    data: CacheBytes, context: int, form: ProgressiveFormat
) -> tuple[Tokens, HeadStatistics]:
    """The cache of ``context`` tokens whose regions these are.

    Raises
    ------
    LayoutError
        A region has another size than ``context`` asks for, or the planes disagree with the key
        records.
    """
    d, low = form.head_dim, form.key_bits - form.screen_bits
    count = -(-context // PAGE_TOKENS)
    pages = _region("pages", data.pages, count, form.page_bytes)
    sizes = [min(PAGE_TOKENS, context - i * PAGE_TOKENS) for i in range(count)]
    read = [_read_page(page, size, form) for page, size in zip(pages, sizes, strict=True)]
    plane, pairs = (np.concatenate(parts) for parts in zip(*read, strict=True))
    keys = _region("keys", data.keys, context, form.key_bytes)
    rest = _region("rest", data.rest, context, form.rest_bytes)
    upper = _unpacked(keys, d, form.screen_bits)
    if (upper >> form.screen_bits - form.plane_bits != plane).any():
        raise LayoutError("planes must hold the top bits of the key records")
    low_at = 2 * form.value_groups
    value_at = low_at + d * low // 8
    lower = _unpacked(rest[:, low_at:value_at], d, low)
    value_pairs = rest[:, :low_at].reshape(context, -1, 2)
    tokens = Tokens(
        Coded(_tensor(upper << low | lower), _tensor(pairs[:, :1]), _tensor(pairs[:, 1:])),
        Coded(
            _tensor(_unpacked(rest[:, value_at:], d, form.value_bits)),
            _tensor(value_pairs[..., 0]),
            _tensor(value_pairs[..., 1]),
        ),
    )
    return tokens, _read_statistics(data.statistics, form)
