"""Synthetic keys, values and queries of one KV head, each case to break a core in its own way.

Every element is an FP16 number, kept as float32. None of them is captured from a model.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from hw.config import AttentionConfig

FP16_LARGEST = 65504.0


@dataclass(frozen=True)
class Tensors:
    """One case: the tokens of one KV head and the queries of the heads that share it."""

    #: ``[T, d]``.
    keys: Tensor
    #: ``[T, d]``.
    values: Tensor
    #: ``[rows, T, d]``: the prefill, for the saliency.
    queries: Tensor

    @property
    def query(self) -> Tensor:
        """``[rows, d]``: the queries of the newest token, for one decode step."""
        return self.queries[:, -1]


def _half(x: Tensor) -> Tensor:
    return x.to(torch.float16).to(torch.float32)


def _normal(config: AttentionConfig, context: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    token = (context, config.head_dim)
    return (
        torch.randn(token, generator=generator),
        torch.randn(token, generator=generator),
        torch.randn((config.rows, *token), generator=generator),
    )


def as_half(keys: Tensor, values: Tensor, queries: Tensor) -> Tensors:
    """The tensors in FP16 precision."""
    return Tensors(_half(keys), _half(values), _half(queries))


def random(config: AttentionConfig, context: int, seed: int) -> Tensors:
    """Independent normal elements; scores have standard deviation 1."""
    return as_half(*_normal(config, context, seed))


def all_zero(config: AttentionConfig, context: int, seed: int) -> Tensors:
    """Zeros only: scales at their floor, every comparison a tie. ``seed`` plays no part."""
    token = torch.zeros(context, config.head_dim)
    return as_half(token, token, torch.zeros(config.rows, *token.shape))


def saturating(config: AttentionConfig, context: int, seed: int) -> Tensors:
    """Every element is the largest FP16 number or its negative."""
    keys, values, queries = (x.sign() * FP16_LARGEST for x in _normal(config, context, seed))
    return as_half(keys, values, queries)


def ties(config: AttentionConfig, context: int, seed: int) -> Tensors:
    """Elements -1, 0 and 1, and each key twice: ties at every pruning threshold and selection."""
    keys, values, queries = (x.round().clamp(-1, 1) for x in _normal(config, context, seed))
    half = -(-context // 2)
    return as_half(torch.cat((keys[:half], keys[: context - half])), values, queries)


def sink(config: AttentionConfig, context: int, seed: int) -> Tensors:
    """Token 0 takes almost all attention of every query, and its value is small."""
    keys, values, queries = _normal(config, context, seed)
    direction = torch.ones(config.head_dim)
    queries = queries + direction
    # q . k0 / sqrt(d) is about 4 sqrt(d): 22 to 45, against scores of about 1.5 elsewhere.
    keys[0] = 4 * direction
    values[0] *= 0.05
    return as_half(keys, values, queries)


def outlier_channels(config: AttentionConfig, context: int, seed: int) -> Tensors:
    """Four key channels ten times as large as the others and offset by 15."""
    keys, values, queries = _normal(config, context, seed)
    generator = torch.Generator().manual_seed(seed)
    channels = torch.randperm(config.head_dim, generator=generator)[:4]
    keys[:, channels] = keys[:, channels] * 10 + 15
    return as_half(keys, values, queries)


#: Every case by its name.
CASES: dict[str, Callable[[AttentionConfig, int, int], Tensors]] = {
    case.__name__: case for case in (random, all_zero, saturating, ties, sink, outlier_channels)
}
