"""Integer twin of the score tap: the attention that tokens have received from one decode step."""

from torch import Tensor

from golden.twin.exp2 import exp2_fraction
from golden.twin.normaliser import reciprocal
from golden.twin.numbers import round_half_up
from hw.config import AttentionConfig
from hw.constants import EXP2_FRACTION, RECEIVED_FRACTION, SCORE_FRACTION, SUM_FRACTION


def received_attention(
    scores: Tensor, maximum: Tensor, sums: Tensor, config: AttentionConfig
) -> Tensor:
    """Final softmax probabilities, added over the rows: ``[..., t]`` in units of 2**-20.

    Parameters
    ----------
    scores
        ``[..., t, rows]``, signed 24 bits, in units of 2**-12 (log2).
    maximum, sums
        ``[..., rows]``: what the softmax found in the end. Every score is below ``maximum``.
    """
    distance = scores - (maximum.unsqueeze(-2) << SCORE_FRACTION)
    power = exp2_fraction(distance & (1 << SCORE_FRACTION) - 1)
    halvings = -(distance >> SCORE_FRACTION)
    factor, shift = reciprocal(config, sums.unsqueeze(-2))
    drop = config.reciprocal_fraction + shift + halvings
    drop = drop + EXP2_FRACTION - SUM_FRACTION - RECEIVED_FRACTION
    return round_half_up(power * config.value_step_ratio * factor, drop).sum(-1)
