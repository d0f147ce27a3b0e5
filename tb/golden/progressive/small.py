"""Tokens of one head as a model might make them: channels of different size and offset."""

from __future__ import annotations

import torch
from torch import Tensor

from golden.progressive.reference import HeadStatistics
from golden.reference.quantiser import from_fp16, to_fp16


def head(
    tokens: int, *, width: int = 64, rows: int = 2, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """FP16 numbers in float64: queries ``[rows, width]``, keys and values ``[tokens, width]``."""
    source = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=source, dtype=torch.float64)

    size, offset = (2 * normal(width)).exp2(), 4 * normal(width)
    keys = normal(tokens, width) * size + offset
    values = normal(tokens, width) * (2 * normal(width)).exp2()
    query = 3 * normal(rows, width) / size
    return tuple(from_fp16(to_fp16(x)) for x in (query, keys, values))  # type: ignore[return-value]


def statistics(query: Tensor, keys: Tensor, values: Tensor) -> HeadStatistics:
    """Those of all the tokens."""
    return HeadStatistics.of(keys, values, query)
