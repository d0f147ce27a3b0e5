"""The vote rule: integers against float, what it does at its ends, and votes of a prompt."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from golden.reference import prompt_votes, voted_against
from golden.tensors import CASES
from golden.twin.slot_votes import votes
from hw.config import preset

SMALL = replace(preset("tiny"), slots=32, slot_rule="votes")
VOTE = 1 << 16


@pytest.mark.parametrize(("mean", "sigma"), [(256, 0), (256, 16), (128, 64), (1024, 1024)])
def test_integers_against_float(mean: int, sigma: int, seed: int) -> None:
    """The same votes unless a number is within a unit of the limit."""
    config = replace(SMALL, slot_vote_mean=mean, slot_vote_sigma=sigma)
    source = torch.Generator().manual_seed(seed)
    against = 0
    for tokens in (1, 2, 7, 32, 500):
        for sharpness in (0.0, 1.0, 3.0):
            scores = sharpness * torch.randn(tokens, generator=source, dtype=torch.float64)
            received = (scores.softmax(-1) * (2 << 20)).round().long()
            ours, theirs = votes(received, config) == VOTE, voted_against(received, config)
            wide = received.double()
            limit = mean / 256 * wide.mean() - sigma / 256 * wide.std(correction=0)
            clear = (wide - limit).abs() > 1
            assert torch.equal(ours[clear], theirs[clear])
            against += int(theirs.sum())
    assert against > 0


def test_ends() -> None:
    """Alike: none is below the mean. Twice the mean: all are, and a large deviation saves all."""
    flat = torch.full((8,), 1000)
    assert votes(flat, replace(SMALL, slot_vote_sigma=0)).tolist() == [0] * 8
    assert votes(flat, replace(SMALL, slot_vote_mean=257)).tolist() == [VOTE] * 8
    sharp = torch.tensor([1 << 20, *[0] * 31])
    assert votes(sharp, replace(SMALL, slot_vote_sigma=0)).tolist() == [0, *[VOTE] * 31]
    assert votes(sharp, replace(SMALL, slot_vote_sigma=256)).tolist() == [0] * 32
    # Nothing received at all, and sums of squares of more than 64 bits.
    assert votes(torch.zeros(5, dtype=torch.int64), SMALL).tolist() == [0] * 5
    huge = torch.tensor([1 << 40, *[1] * 31])
    assert votes(huge, SMALL).tolist() == [0, *[VOTE] * 31]


@pytest.mark.parametrize("decay", [0, 200, 256])
def test_votes_of_a_prompt(decay: int, seed: int) -> None:
    """Those of its steps in turn, what is left of each earlier one smaller by the decay."""
    config = replace(SMALL, slot_decay=decay)
    tensors = CASES["random"](config, 12, seed)
    whole = prompt_votes(tensors.queries, tensors.keys, config)
    shorter = prompt_votes(tensors.queries[:, :11], tensors.keys[:11], config)
    newest = whole.clone()
    newest[:11] -= shorter * decay / 256
    assert set(newest.round(decimals=9).tolist()) <= {0.0, 1.0}
    assert whole.max() <= 12
    assert newest.sum() > 0
