"""The life of a cache against compression at one go, and what its tokens received."""

from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

from golden.reference import (
    CompressedCache,
    CompressedWindow,
    base_keys,
    compress_cache,
    dequantise_query,
    dequantise_tail,
    quantise_query,
)
from golden.reference.quantiser import symmetric_codes
from golden.tensors import CASES
from golden.twin.score_tap import received_attention
from golden.twin.sequence_cache import SequenceCache
from hw.config import AttentionConfig, preset

TINY = preset("tiny")
UNIT = 2.0**20


class Tokens:
    """Keys, values as they come and a query for every step."""

    def __init__(self, config: AttentionConfig, count: int, seed: int) -> None:
        tensors = CASES["random"](config, count, seed)
        self.keys, self.values = tensors.keys.half().double(), tensors.values
        self.codes, self.scale = symmetric_codes(self.values, config.tail_value_bits)
        self.queries = torch.randn(count, config.rows, config.head_dim)


def decode(
    cache: SequenceCache, tokens: Tokens, steps: range
) -> tuple[list[CompressedCache], Tensor]:
    """The cache of every step, and the last saliency that each token had in the tail."""
    caches, last = [], torch.zeros(steps.stop, dtype=torch.int64)
    for t in steps:
        cache.append(tokens.keys[t], tokens.codes[t], tokens.scale[t])
        caches.append(cache.cache)
        cache.attend(*quantise_query(tokens.queries[t]))
        last[cache.context - cache.tail : cache.context] = cache.saliency
        if cache.close_due:
            cache.close()
    return caches, last


def assert_same(found: CompressedCache, wanted: CompressedCache) -> None:
    """Everything that the memory holds."""
    assert found.context == wanted.context
    for field in fields(CompressedWindow):
        name = field.name
        assert torch.equal(getattr(found.closed, name), getattr(wanted.closed, name)), name
    for name in ("codes", "scale", "minimum"):
        assert torch.equal(getattr(found.tail.keys, name), getattr(wanted.tail.keys, name)), name
    assert torch.equal(found.tail.value_codes, wanted.tail.value_codes)
    assert torch.equal(found.tail.value_scale, wanted.tail.value_scale)


@pytest.mark.parametrize("rows", [1, 2])
def test_every_step_equals_compression_at_one_go(rows: int, seed: int) -> None:
    """With the sums that the tokens had when their window closed."""
    print(f"seed {seed}")
    config = replace(TINY, rows=rows)
    tokens = Tokens(config, 100, seed)
    caches, last = decode(SequenceCache(config), tokens, range(100))
    for t in (0, 15, 31, 32, 47, 48, 63, 64, 65, 99):
        cache = caches[t]
        keys, values = tokens.keys[: t + 1], tokens.values[: t + 1]
        assert_same(cache, compress_cache(keys, values, last, config))
    # Another order would have been another cache.
    wrong = compress_cache(tokens.keys, tokens.values, last.flip(0), config)
    assert not torch.equal(caches[-1].closed.base_codes, wrong.closed.base_codes)


@pytest.mark.parametrize("length", [1, 31, 32, 48, 77])
def test_a_prompt_is_as_good_as_steps(length: int) -> None:
    """A prompt whose saliencies are those of the steps leaves what the steps leave."""
    tokens = Tokens(TINY, length + 20, 3)
    steps = SequenceCache(TINY)
    _, last = decode(steps, tokens, range(length))
    prompt = SequenceCache(TINY)
    part = slice(length)
    prompt.import_prompt(tokens.keys[part], tokens.codes[part], tokens.scale[part], last)
    assert prompt.tail == length - max(0, length // 16 - 1) * 16
    assert torch.equal(prompt.saliency, steps.saliency)
    # And goes on alike.
    rest = range(length, length + 20)
    pairs = zip(decode(prompt, tokens, rest)[0], decode(steps, tokens, rest)[0], strict=True)
    for ours, theirs in pairs:
        assert_same(ours, theirs)


def test_the_tail_receives_its_probabilities() -> None:
    """Against softmax in float over the same numbers; while no window is closed nothing is left."""
    tokens = Tokens(TINY, 32, 5)
    cache = SequenceCache(TINY)
    wanted = torch.zeros(32, dtype=torch.float64)
    for t in range(32):
        cache.append(tokens.keys[t], tokens.codes[t], tokens.scale[t])
        codes, scale = quantise_query(tokens.queries[t])
        keys = dequantise_tail(cache.cache.tail, TINY)[0]
        p = (dequantise_query(codes, scale) @ keys.T / 32**0.5).softmax(-1)
        wanted[: t + 1] += p.sum(0)
        found = cache.attend(codes, scale).received
        # All that each of the two rows gives, but for the roundings of exp2 and of the sum.
        assert found.sum().item() == pytest.approx(2 * UNIT, rel=2e-3)
    torch.testing.assert_close(cache.saliency.double() / UNIT, wanted, atol=1e-3, rtol=4e-3)


def test_received_by_hand() -> None:
    """Scores 0, -1 and far below, at a maximum of 2**1 and a sum of 3/4: 2/3, 1/3 and nothing."""
    scores = torch.tensor([[0], [-4096], [-40 * 4096]])
    found = received_attention(scores, torch.tensor([1]), torch.tensor([3 << 18]), TINY)
    # The reciprocal of 5 * 0xC000 has 17 bits: 69905 instead of 69905.07.
    assert found.tolist() == [round(16384 * 5 * 69905 / 2**13), round(8192 * 5 * 69905 / 2**13), 0]
    assert found[0].item() / UNIT == pytest.approx(2 / 3, rel=1e-5)


def test_saliency_saturates() -> None:
    cache = SequenceCache(TINY)
    tokens = Tokens(TINY, 1, 1)
    most = (1 << 32) - 1
    cache.append(tokens.keys, tokens.codes, tokens.scale, torch.tensor([most - 5]))
    cache.attend(*quantise_query(tokens.queries[0]))
    assert cache.saliency.tolist() == [most]


def test_bases_are_the_most_salient() -> None:
    tokens = Tokens(TINY, 32, 9)
    cache = SequenceCache(TINY)
    saliency = torch.arange(32)
    cache.import_prompt(tokens.keys, tokens.codes, tokens.scale, saliency)
    assert (cache.context, cache.tail) == (32, 16)
    held = cache.cache
    entered = SequenceCache(TINY)
    entered.append(tokens.keys, tokens.codes, tokens.scale)
    keys = dequantise_tail(entered.cache.tail, TINY)[0]
    assert torch.equal(base_keys(held.closed)[0], keys[[7, 15]])


def test_misuse() -> None:
    tokens = Tokens(TINY, 33, 1)
    cache = SequenceCache(TINY)
    with pytest.raises(ValueError, match="tail must be at most 32 tokens, not 33"):
        cache.append(tokens.keys, tokens.codes, tokens.scale)
    with pytest.raises(ValueError, match="tail must be 32 tokens for a window to close, not 0"):
        cache.close()
    short = SequenceCache(replace(TINY, max_context=32))
    short.append(tokens.keys[:32], tokens.codes[:32], tokens.scale[:32])
    short.close()
    with pytest.raises(ValueError, match="context must be at most 32, not 33"):
        short.append(tokens.keys[0], tokens.codes[0], tokens.scale[0])
