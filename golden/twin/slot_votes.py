"""Integer twin of the votes on who leaves a cache of constant size."""

from math import isqrt

import torch
from torch import Tensor

from hw.config import AttentionConfig
from hw.constants import THRESHOLD_FRACTION, VOTE_FRACTION


def votes(received: Tensor, config: AttentionConfig) -> Tensor:
    """Votes of a step in units of 2**-16 (docs/contracts.md, section 11): one or none for each.

    ``received`` is ``[n]``, int64. Sums of squares have more than 64 bits: Python's integers.
    """
    numbers = [int(x) for x in received]
    count, total = len(numbers), sum(numbers)
    deviation = isqrt(count * sum(x * x for x in numbers) - total * total)
    limit = config.slot_vote_mean * total - config.slot_vote_sigma * deviation
    against = [count * x << THRESHOLD_FRACTION < limit for x in numbers]
    return torch.tensor(against, dtype=torch.int64) << VOTE_FRACTION
