"""Integer primitives against Python's integers."""

import random

import torch
from torch import Tensor

from golden.twin.numbers import round_half_up, shifted_sum


def by_hand(value: int, shift: int) -> int:
    """``floor(value * 2**-shift + 1/2)`` in exact integers."""
    return value << -shift if shift <= 0 else (value + (1 << shift - 1)) >> shift


def test_round_half_up(seed: int) -> None:
    source = random.Random(seed)
    values = [source.randrange(-(1 << 40), 1 << 40) >> source.randrange(40) for _ in range(300)]
    for shift in (-5, 0, 1, 2, 17, 41, 62):
        found = round_half_up(torch.tensor(values), shift)
        assert found.tolist() == [by_hand(value, shift) for value in values]
    halves = torch.tensor([-3, -1, 1, 3])
    assert round_half_up(halves, 1).tolist() == [-1, 0, 1, 2]
    assert round_half_up(halves, 90).tolist() == [0, 0, 0, 0]


def one_by_one(terms: Tensor, shift: Tensor) -> Tensor:
    """What `shifted_sum` says, without leaving a shift out."""
    total = torch.zeros_like(terms[0])
    for term, by in zip(terms, shift, strict=True):
        total = round_half_up(total, by) + term
    return total


def test_shifted_sum(seed: int) -> None:
    """Shifts are rare, or everywhere, or nowhere; of one row and not of the other."""
    source = torch.Generator().manual_seed(seed)
    terms = torch.randint(-(1 << 45), 1 << 45, (40, 2, 5), generator=source)
    for rare in (0.05, 0.6, 2.0):
        shift = torch.randint(0, 9, (40, 2, 1), generator=source)
        shift[torch.rand(40, 2, 1, generator=source) < rare] = 0
        wanted = one_by_one(terms, shift)
        assert torch.equal(shifted_sum(terms, shift), wanted)
        # Shifts after the additions would give another sum, where there are any.
        late = shifted_sum(terms, shift.roll(-1, 0))
        assert torch.equal(late, wanted) == (not shift.any())
    assert torch.equal(shifted_sum(terms[:1], torch.full((1, 2, 1), 7)), terms[0])
