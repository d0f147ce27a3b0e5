"""Salient tokens in more bits than the others."""

import pytest
import torch

from golden.quality.interface import CacheState, Reading
from golden.quality.methods.zipcache import ZipCache
from tb.golden.quality.small import prompt, random_prompt, step

#: Blocks of 10 with two probes; one salient token, whose codes are nearly exact.
SMALL = ZipCache(salient=10, high_bits=8, low_bits=1, interval=10, probes=10)


def test_probes() -> None:
    """5 % newest and 5 % random, the newest always among them."""
    rows = ZipCache().probe_rows(200)
    assert rows[-10:] == list(range(190, 200))
    assert 10 <= len(rows) <= 20
    assert len({tuple(ZipCache().probe_rows(n)) for n in (200, 200)}) == 1
    assert SMALL.probe_rows(10)[0] < 9


def run(state: CacheState, start: int, attention: dict[int, dict[int, float]]) -> list[Reading]:
    """Eleven steps with a value of their own each; ``attention`` by step and token of the block."""
    readings = []
    for place in range(11):
        value = torch.randn(8, generator=torch.Generator().manual_seed(place))
        reading = state.step(torch.zeros(1, 1, 1, 8), torch.zeros(1, 1, 8), value[None, None])
        probability = torch.zeros(1, 1, 1, reading.keys.shape[-2])
        for token, weight in attention.get(place, {}).items():
            probability[..., start + token] = weight
        state.observe(probability)
        readings.append(reading)
    return readings


def test_saliency_is_a_mean() -> None:
    """Token 0 gets 0.5 and 0.3 from both probes, token 9 0.6 from the one that can see it."""
    first, last = SMALL.probe_rows(10)
    attention = {first: {0: 0.5}, last: {0: 0.3, 9: 0.6}}
    readings = run(SMALL.start(prompt(20)), 20, attention)
    whole = torch.stack(
        [torch.randn(8, generator=torch.Generator().manual_seed(place)) for place in range(10)]
    )
    gaps = (readings[10].values[0, 0, 20:30] - whole).abs().amax(-1)
    assert int(gaps.argmin()) == 9
    assert float(gaps[9]) < 0.02 < float(gaps[0])


def test_attention_outside_the_probes_does_not_count() -> None:
    first, last = SMALL.probe_rows(10)
    others = {place: {4: 1.0} for place in range(4, 10) if place not in (first, last)}
    readings = run(SMALL.start(prompt(20)), 20, {**others, last: {9: 0.1}})
    whole = torch.randn(8, generator=torch.Generator().manual_seed(9))
    assert float((readings[10].values[0, 0, 29] - whole).abs().max()) < 0.02


def test_channel_with_large_values() -> None:
    """The division by the root of its largest size leaves the other channels their levels."""
    prefill = prompt(40, width=8)
    prefill.value.copy_(torch.randn(1, 1, 40, 8, generator=torch.Generator().manual_seed(0)))
    prefill.value[..., 3] *= 100.0
    read = step(ZipCache(salient=100).start(prefill), 40).values[0, 0, :40]
    gap = (read - prefill.value[0, 0]).abs()[:, torch.arange(8) != 3].mean()
    # A plain 4-bit range over the token would have steps of about 100 / 15.
    assert float(gap) < 1.0


def test_more_salient_tokens_are_closer() -> None:
    prefill = random_prompt(60)
    errors = []
    for salient in (0, 50, 100):
        state = ZipCache(salient=salient).start(prefill)
        token = prefill.query[..., 0, :], prefill.key[..., 0, :], prefill.value[..., 0, :]
        read = state.step(*token).keys[..., :60, :]
        errors.append(float((read - prefill.key).abs().mean()))
    assert errors[0] > 1.5 * errors[1] > 2 * errors[2]


def test_block_bytes() -> None:
    """10 tokens of 64 channels, 6 salient: 64 * (24 + 8) / 8 = 256 B of codes.

    Keys: codes, 10 bits of mask, 2 * 64 scale pairs = 769.25 B, 25 bursts. Values: codes, 10 pairs,
    64 norms = 424 B, 14 bursts.
    """
    assert ZipCache().block_bytes(10, 64) == 25 * 32 + 14 * 32
    # With one width the paper's 3 h d + 2 b l parameters: 64 pairs, 10 pairs, 64 norms.
    # 320 + 1.25 + 256 B of keys, 320 + 40 + 128 B of values.
    assert ZipCache(salient=100).block_bytes(10, 64) == 19 * 32 + 16 * 32


def test_traffic() -> None:
    method = ZipCache(interval=10, probes=10)
    readings = run(method.start(prompt(20)), 20, {})
    prompt_bytes, block = method.block_bytes(20, 8), method.block_bytes(10, 8)
    first, last = method.probe_rows(10)
    for place, reading in enumerate(readings[:10]):
        # Sum and count of at most 10 tokens: 40 B.
        waiting = place + 1
        statistics = (32 if waiting <= 8 else 64) if place in (first, last) else 0
        assert reading.read == prompt_bytes + waiting * 64 + statistics
        assert reading.written == 64 + statistics
    assert readings[10].read == prompt_bytes + block + 64
    assert readings[10].written == 64 + block


def test_shuffled_differs() -> None:
    prefill = random_prompt(60)
    token = prefill.query[..., 0, :], prefill.key[..., 0, :], prefill.value[..., 0, :]
    plain, control = (
        ZipCache(shuffled=shuffled).start(prefill).step(*token) for shuffled in (False, True)
    )
    assert not torch.equal(plain.values, control.values)


def test_parameters() -> None:
    with pytest.raises(ValueError, match="salient must be at most 100, not 101"):
        ZipCache(salient=101)
    with pytest.raises(ValueError, match="interval must be an integer from 1 up, not 0"):
        ZipCache(interval=0)
