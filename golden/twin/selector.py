"""Integer twin of the selector (docs/contracts.md, section 4, "Selection")."""

import torch
from torch import Tensor

from hw.config import AttentionConfig


def select(config: AttentionConfig, scores: Tensor) -> Tensor:
    """Chunks to keep, those of a value group together, groups in the order of their best chunk.

    The ``top_chunks`` with the largest scores are kept, the lowest index among equal scores; within
    a group they come in this order, too. ``scores`` is ``[..., chunks]`` int64, the selection
    scores of all closed chunks in the order of their indices; the result is
    ``[..., min(chunks, top_chunks)]`` indices.
    """
    order = torch.sort(scores, dim=-1, descending=True, stable=True).indices
    return by_group(config, order[..., : config.top_chunks])


def by_group(config: AttentionConfig, chunks: Tensor) -> Tensor:
    """``chunks [..., k]`` with those of a value group behind the first one of them."""
    group = chunks // config.group_chunks
    same = group.unsqueeze(-1) == group.unsqueeze(-2)
    place = torch.arange(chunks.shape[-1]).expand_as(same)
    first = torch.where(same, place, chunks.shape[-1]).amin(-1) if chunks.shape[-1] else group
    return chunks.gather(-1, torch.sort(first, dim=-1, stable=True).indices)
