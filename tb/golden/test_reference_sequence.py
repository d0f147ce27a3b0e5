"""A cache that grows in float against compression at one go."""

from dataclasses import fields, replace

import pytest
import torch

from golden.reference import CompressedWindow, attend, compress_cache, saliency
from golden.reference.sequence import FloatSequence
from golden.tensors import CASES
from hw.config import ConfigError, preset

TINY = preset("tiny")


def test_every_step_is_compression_at_one_go(seed: int) -> None:
    """With the sums that the reference's own steps gave, over the budget."""
    prompt = 48
    tensors = CASES["random"](TINY, 90, seed)
    sums = torch.zeros(90, dtype=torch.float64)
    sums[:prompt] = saliency(tensors.queries[:, :prompt], tensors.keys[:prompt], TINY)
    cache = FloatSequence(TINY, tensors.keys[:prompt], tensors.values[:prompt], sums[:prompt])
    for t in range(prompt, 90):
        cache.append(tensors.keys[t], tensors.values[t])
        wanted = compress_cache(tensors.keys[: t + 1], tensors.values[: t + 1], sums, TINY)
        for field in fields(CompressedWindow):
            name = field.name
            assert torch.equal(getattr(cache.cache.closed, name), getattr(wanted.closed, name))
        found = cache.attend(tensors.queries[:, t])
        result = attend(tensors.queries[:, t], wanted, TINY)
        assert torch.equal(found.output, result.output)
        sums[TINY.closed_tokens(t + 1) : t + 1] += result.tail_probability
    assert cache.cache.context == 90
    # 4 windows closed: 64 tokens to choose from, half of which the budget allows.
    assert (len(found.estimate), len(found.selection)) == (8, 4)
    # Other sums would have been another cache.
    other = compress_cache(tensors.keys, tensors.values, sums.flip(0), TINY)
    assert not torch.equal(other.closed.base_codes, cache.cache.closed.base_codes)


def test_misuse() -> None:
    tensors = CASES["random"](TINY, 48, 1)
    sums = torch.zeros(48)
    with pytest.raises(ConfigError, match="context must be from 1 to 256, not 0"):
        FloatSequence(TINY, tensors.keys[:0], tensors.values[:0], sums[:0])
    full = FloatSequence(replace(TINY, max_context=48), tensors.keys, tensors.values, sums)
    with pytest.raises(ConfigError, match="context must be from 1 to 48, not 49"):
        full.append(tensors.keys[0], tensors.values[0])
