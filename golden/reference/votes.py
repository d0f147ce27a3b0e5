"""Which tokens a step's attention votes against: the vote rule of caches of constant size."""

from math import sqrt

import torch
from torch import Tensor

from hw.config import AttentionConfig
from hw.constants import DECAY_FRACTION, THRESHOLD_FRACTION


def voted_against(received: Tensor, config: AttentionConfig) -> Tensor:
    """Tokens that received less than ``a * mean - b * sigma`` of what the live tokens received.

    Parameters
    ----------
    received
        ``[..., n]``: attention that each live token received in this step, in any unit, summed
        over the query heads that share the KV head.
    config
        ``slot_vote_mean`` is a, ``slot_vote_sigma`` b, both in units of 1/256.

    Returns
    -------
    Tensor
        ``[..., n]``, bool; sigma is that of the n numbers, not of a sample.
    """
    wide = received.to(torch.float64)
    a = config.slot_vote_mean / (1 << THRESHOLD_FRACTION)
    b = config.slot_vote_sigma / (1 << THRESHOLD_FRACTION)
    mean = wide.mean(-1, keepdim=True)
    sigma = (wide - mean).square().mean(-1, keepdim=True).sqrt()
    return wide < a * mean - b * sigma


def prompt_votes(queries: Tensor, keys: Tensor, config: AttentionConfig) -> Tensor:
    """Votes against each token of a prompt, from all of its queries in turn.

    Parameters
    ----------
    queries, keys
        ``[rows, T, d]`` and ``[T, d]``, as the prefill attention uses them.
    config
        ``slot_decay`` and the vote rule matter.

    Returns
    -------
    Tensor
        ``[T]``, float64.
    """
    tokens, head_dim = keys.shape
    decay = config.slot_decay / (1 << DECAY_FRACTION)
    scores = queries.to(torch.float64) @ keys.to(torch.float64).transpose(-1, -2) / sqrt(head_dim)
    votes = torch.zeros(tokens, dtype=torch.float64)
    for t in range(tokens):
        received = scores[:, t, : t + 1].softmax(-1).sum(0)
        votes *= decay
        votes[: t + 1] += voted_against(received, config)
    return votes
