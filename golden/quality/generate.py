"""Greedy generation of the answers of a batch, the model's own predictions fed back.

Teacher-forced, each letter of an answer is predicted from the right letters before it; free, from
those that were predicted. With an exact cache a value all of whose letters are right teacher-forced
is also what free generation gives, and the other way round, as long as the answers before it were
right: a wrong letter stays in the sequence, and in the cache.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from golden.model.architecture import AttentionFunction, LanguageModel
from golden.quality.tasks import Batch

__all__ = ["GENERATIONS", "Generation", "check_generation", "generate"]

Generation = Literal["teacher-forced", "free"]
#: Ways to score an answer.
GENERATIONS: tuple[str, ...] = get_args(Generation)


def check_generation(generation: str, batch: Batch) -> None:
    """Raise ValueError if ``generation`` is unknown, or free where nothing is answered."""
    if generation not in GENERATIONS:
        raise ValueError(f"generation must be one of {', '.join(GENERATIONS)}, not {generation!r}")
    if generation == "free" and not batch.unit:
        raise ValueError("generation must be teacher-forced for text, not 'free': it has no answer")


@torch.no_grad()
def generate(model: LanguageModel, batch: Batch, attention: AttentionFunction) -> Tensor:
    """Decode step by step: what is asked is given, what is answered comes from the model.

    Parameters
    ----------
    model, attention
        ``attention`` goes on with every call, as `golden.quality.decode.method_attention` does.
    batch
        Its answers come after the first decode step.

    Returns
    -------
    Tensor
        Logits ``[B, T - prompt - 1, vocabulary]``, the predictions of the tokens from
        ``prompt + 1`` on, as `Batch.scores` takes them.
    """
    device = next(model.parameters()).device
    tokens, answer = batch.tokens.to(device), batch.answer.to(device)
    fed = tokens[:, batch.prompt]
    logits: list[Tensor] = []
    for position in range(batch.prompt, tokens.shape[1] - 1):
        positions = torch.tensor([position], device=device)
        step = model(fed.unsqueeze(-1), positions=positions, attention=attention)[:, 0]
        logits.append(step)
        following = position + 1
        fed = torch.where(answer[:, following], step.argmax(-1), tokens[:, following])
    return torch.stack(logits, 1)
