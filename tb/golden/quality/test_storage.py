"""Sizes, buffers, slots, ranking."""

import pytest
import torch

from golden.quality.storage import (
    Ranking,
    Slots,
    TokenBuffer,
    affine,
    bursts,
    half,
    take,
    token_bytes,
)
from tb.golden.quality.small import prompt


@pytest.mark.parametrize(
    ("size", "expected"), [(0, 0), (0.125, 32), (32, 32), (32.5, 64), (33, 64)]
)
def test_bursts(size: float, expected: int) -> None:
    assert bursts(size) == expected


def test_token_bytes() -> None:
    """128 channels take 256 B each for key and value; 8 channels 16 B, padded."""
    assert token_bytes(128) == 512
    assert token_bytes(8) == 64


def test_half_rounds() -> None:
    assert half(torch.tensor([1 + 2**-12, 2049.0])).tolist() == [1.0, 2048.0]


def test_affine_by_hand() -> None:
    """0 .. 3 in 2 bits is exact; 0 .. 6 has steps of 2, 3 goes to the even code."""
    x = torch.tensor([0.0, 1.0, 2.0, 3.0, 0.0, 6.0, 2.9, 3.0])
    assert affine(x, 2, 4).tolist() == [0.0, 1.0, 2.0, 3.0, 0.0, 6.0, 2.0, 4.0]


def test_buffer_grows_and_leaves_its_origin_alone() -> None:
    origin = torch.zeros(1, 1, 3, 2)
    first, second = TokenBuffer(origin), TokenBuffer(origin)
    for value in range(1, 200):
        first.append(torch.full((1, 1, 2), float(value)))
    assert len(first) == 202
    assert first.all[0, 0, :, 0].tolist() == [0.0, 0.0, 0.0, *map(float, range(1, 200))]
    assert len(second) == 3
    assert bool((origin == 0).all())


def test_slots() -> None:
    """Token 3 takes the place of token 1, token 4 a place of its own; then two places are kept."""
    slots = Slots(prompt(3), torch.tensor([[[0, 1]]]))
    slots.replace(torch.tensor([[1]]), torch.ones(1, 1, 8), torch.full((1, 1, 8), 3.0))
    assert slots.positions.tolist() == [[[0, 3]]]
    slots.append(torch.ones(1, 1, 8), torch.full((1, 1, 8), 4.0))
    assert slots.positions.tolist() == [[[0, 3, 4]]]
    assert slots.values[0, 0, :, 0].tolist() == [0.0, 3.0, 4.0]
    slots.keep(torch.tensor([[[2, 1]]]))
    assert slots.positions.tolist() == [[[4, 3]]]
    assert slots.values[0, 0, :, 0].tolist() == [4.0, 3.0]
    assert (slots.live, slots.now) == (2, 5)


def test_take() -> None:
    """Every cache its own tokens, in order, however much a token holds."""
    x = torch.arange(2 * 3 * 5 * 4.0).view(2, 3, 5, 4)
    index = torch.tensor([[[4, 0], [1, 1], [2, 3]], [[0, 1], [3, 2], [4, 4]]])
    taken = take(x, index)
    assert taken.shape == (2, 3, 2, 4)
    assert taken[0, 0].tolist() == [[16.0, 17.0, 18.0, 19.0], [0.0, 1.0, 2.0, 3.0]]
    assert torch.equal(taken, torch.take_along_dim(x, index.unsqueeze(-1), -2))
    assert torch.equal(take(x.view(2, 3, 5, 2, 2), index), taken.view(2, 3, 2, 2, 2))


def test_ranking_and_its_ties() -> None:
    ranking = Ranking(shuffled=False)
    score = torch.tensor([1.0, 3.0, 3.0, 0.0, 0.0])
    assert ranking.top(score, 3).tolist() == [1, 2, 0]
    assert int(ranking.lowest(score)) == 3


def test_shuffled_ranking_keeps_infinities_apart() -> None:
    ranking = Ranking(shuffled=True)
    score = torch.arange(100.0)
    score[40], score[50] = torch.inf, -torch.inf
    top = ranking.top(score, 20).tolist()
    assert top[0] == 40
    assert top[1:] != list(range(99, 80, -1))
    assert int(ranking.lowest(score)) == 50
