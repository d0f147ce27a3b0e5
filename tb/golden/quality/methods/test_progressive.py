"""The progressive format in the lab."""

import pytest
import torch

from golden.progressive.reference import HeadStatistics, attend, compress
from golden.quality.decode import attend as lab_attend
from golden.quality.decode import decode
from golden.quality.methods.progressive import Progressive
from tb.golden.quality.small import prompt, random_prompt, step


def test_equals_the_reference() -> None:
    """Every head of every sequence, statistics from the prompt alone."""
    prefill = random_prompt(150, width=64)
    new = random_prompt(3, width=64, seed=1)
    method = Progressive(top=40)
    form = method.form(head_dim=64)
    outputs, _ = decode(method, prefill, new.query, new.key, new.value)
    for b, g in ((0, 0), (1, 1)):
        keys = torch.cat((prefill.key, new.key), -2)[b, g]
        values = torch.cat((prefill.value, new.value), -2)[b, g]
        found = HeadStatistics.of(keys[:150], values[:150], prefill.query[b, g].flatten(0, 1))
        for t in range(3):
            tokens = compress(keys[: 151 + t], values[: 151 + t], found, form)
            expected = attend(new.query[b, g, :, t].double(), tokens, found, form)
            assert torch.allclose(outputs[b, g, :, t].double(), expected, atol=1e-4)


def test_a_single_token_is_found() -> None:
    """Far back, by its key alone; where tokens are ranked by random numbers it is not."""
    prefill = random_prompt(400, width=64)
    query = 4 * prefill.key[..., 123, :].unsqueeze(2)
    new = torch.zeros(2, 2, 64)
    reading = Progressive(top=16).start(prefill).step(query, new, new)
    _, probability = lab_attend(query, reading)
    found = (reading.values - prefill.value[..., 123:124, :]).abs().amax(-1) < 0.5
    assert float((probability * found.unsqueeze(2)).sum(-1).min()) > 0.9
    shuffled = Progressive(top=16, shuffled=True).start(prefill).step(query, new, new)
    lost = (shuffled.values - prefill.value[..., 123:124, :]).abs().amax(-1) < 0.5
    assert not bool(lost.any(-1).all())


def test_traffic() -> None:
    """Zero keys: equal scores, so everything that is a candidate is kept."""
    state = Progressive(top=4, window=2, first=0).start(prompt(9, width=64))
    reading = step(state, 9, width=64)
    assert reading.keys.shape[-2] == 6
    # Statistics, one burst of 8 bytes a row for 8 tokens in 2, pairs, 6 keys, 6 rests.
    assert reading.read == 384 + 64 + 32 + 6 * 32 + 6 * 64
    assert reading.written == 32 + 64 + 32 + 32


def test_less_is_kept_with_a_best_token() -> None:
    prefill = random_prompt(400, width=64)
    query = 4 * prefill.key[..., 123, :].unsqueeze(2)
    new = torch.zeros(2, 2, 64)
    near, far = (
        Progressive(top=16, reach=reach).start(prefill).step(query, new, new).read
        for reach in (1, 31)
    )
    assert near < far


def test_parameters() -> None:
    with pytest.raises(ValueError, match="part must be a power of two up to 32, not 3"):
        Progressive(part=3)
    with pytest.raises(ValueError, match="top must be an integer from 1 up, not 0"):
        Progressive(top=0)
    assert Progressive().form(head_dim=128).screen_bits == 2
    assert Progressive(screen_bits=3).form(head_dim=128).screen_bits == 3
