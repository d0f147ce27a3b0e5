"""Caches small enough to follow by hand: a token's value carries its position in channel 0."""

from __future__ import annotations

import torch
from torch import Tensor

from golden.quality.interface import CacheState, Prefill, Reading


def positions(start: int, stop: int, width: int) -> Tensor:
    """Values ``[1, 1, stop - start, width]`` of the tokens at these positions."""
    value = torch.zeros(1, 1, stop - start, width)
    value[..., 0] = torch.arange(start, stop)
    return value


def prompt(tokens: int, *, width: int = 8, rows: int = 1, keys: Tensor | None = None) -> Prefill:
    """One sequence, one KV head, queries zero: attention is uniform; keys ``[tokens, width]``."""
    return Prefill(
        query=torch.zeros(1, 1, rows, tokens, width),
        key=torch.zeros(1, 1, tokens, width) if keys is None else keys[None, None],
        value=positions(0, tokens, width),
    )


def random_prompt(tokens: int, *, width: int = 32, rows: int = 2, seed: int = 0) -> Prefill:
    """Two sequences, two KV heads, normal numbers."""
    source = torch.Generator().manual_seed(seed)
    return Prefill(
        query=torch.randn(2, 2, rows, tokens, width, generator=source),
        key=torch.randn(2, 2, tokens, width, generator=source),
        value=torch.randn(2, 2, tokens, width, generator=source),
    )


def step(
    state: CacheState,
    position: int,
    *,
    width: int = 8,
    query: Tensor | None = None,
    key: Tensor | None = None,
) -> Reading:
    """One step of the token at ``position``; query and key are ``[width]``, zero by default."""
    zero = torch.zeros(width)
    value = positions(position, position + 1, width)[..., 0, :]
    asked = zero if query is None else query
    return state.step(asked[None, None, None], (zero if key is None else key)[None, None], value)


def attended(reading: Reading) -> list[int]:
    """Positions of the tokens read, ascending."""
    return sorted(reading.values[0, 0, :, 0].int().tolist())


def observe(state: CacheState, reading: Reading, attention: dict[int, float]) -> None:
    """Give the state an attention by position; 0 for the others."""
    tokens = reading.values[0, 0, :, 0].int().tolist()
    state.observe(torch.tensor([[[[attention.get(token, 0.0) for token in tokens]]]]))
