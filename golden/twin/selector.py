"""Integer twin of the selector (docs/contracts.md, section 4, "Selection")."""

import torch
from torch import Tensor

from hw.config import AttentionConfig


def select(config: AttentionConfig, scores: Tensor) -> Tensor:
    """Chunks to keep, best first: largest score first, lowest chunk index among equal scores.

    ``scores`` is ``[..., chunks]`` int64, the selection scores of all closed chunks in the order of
    their indices; the result is ``[..., min(chunks, top_chunks)]`` indices.
    """
    order = torch.sort(scores, dim=-1, descending=True, stable=True).indices
    return order[..., : config.top_chunks]
