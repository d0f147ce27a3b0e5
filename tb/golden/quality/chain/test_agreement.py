"""What is said about a step follows from what the step gave."""

from dataclasses import replace

import pytest
import torch

from golden.quality.chain.agreement import Agreement
from golden.reference import compress_cache, quantise_query
from golden.tensors import CASES
from golden.twin.attention import attention
from hw.config import preset

TINY = preset("tiny")


def test_a_step(seed: int) -> None:
    """The twin is close; other outputs, chunks and saliencies are counted as such."""
    tensors = CASES["random"](TINY, 100, seed)
    cache = compress_cache(tensors.keys, tensors.values, torch.zeros(100), TINY)
    result = attention(*quantise_query(tensors.query), cache, TINY)

    def observed(**changes: torch.Tensor) -> Agreement:
        found = Agreement()
        found.observe(tensors.query, cache, replace(result, **changes), TINY)
        return found

    good = observed()
    assert (good.steps, good.rows, good.chunks) == (1, 2, 4)
    assert 0.9999 < good.cosine_worst <= good.cosine_sum / 2 <= 1.000001
    assert good.received_worst < 1e-3
    opposite = observed(output=-result.output)
    assert opposite.cosine_worst == pytest.approx(-good.cosine_sum / 2, abs=1e-4)
    others = torch.tensor([c for c in range(10) if c not in result.selection][:4])
    another = observed(selection=others)
    assert (another.chunks, another.chunks_shared) == (4, 0)
    assert another.gap_worst > 0
    more = observed(received=result.received + (1 << 19))
    assert more.received_worst == pytest.approx(0.5, abs=1e-3)


def test_sums_and_extremes() -> None:
    total = Agreement()
    total.add(Agreement(1, 2, 1.75, 0.75, 4, 3, 0.25, 0.125))
    total.add(Agreement(2, 4, 3.5, 0.875, 8, 8, 0.0, 0.25))
    assert total == Agreement(3, 6, 5.25, 0.75, 12, 11, 0.25, 0.25)
