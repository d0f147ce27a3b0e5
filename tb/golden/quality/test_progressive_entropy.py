"""Entropy of the stored codes."""

import pytest
import torch

from golden.quality.interface import Prefill
from golden.quality.progressive_entropy import entropies
from tb.golden.quality.small import random_prompt


def test_of_normal_numbers() -> None:
    """A balanced plane has one bit; codes of normal numbers less than their width."""
    found = entropies({0: random_prompt(1000, width=64)})
    assert found["plane"] == pytest.approx(1, abs=0.05)
    assert 3 < found["screen"] < 3.9
    assert found["screen"] < found["key"] < 6
    assert 0 < found["scale"] < 8


def test_of_constant_numbers() -> None:
    """Tokens that are all alike carry nothing."""
    one = torch.randn(1, 1, 1, 64, generator=torch.Generator().manual_seed(0))
    same = one.expand(1, 1, 50, 64).contiguous()
    found = entropies({0: Prefill(query=same.unsqueeze(2), key=same, value=same)})
    assert all(value == pytest.approx(0) for value in found.values())
