"""The life of a cache of constant size: its attention is that of its live tokens in any order."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

from golden.cache_formats import CACHE_FORMATS
from golden.memory_image import pack_tail, unpack_slots
from golden.memory_image.regions import pack_regions
from golden.quality.methods.rce import RCE
from golden.reference import SlotCache, quantise_query
from golden.reference.quantiser import symmetric_codes
from golden.tensors import CASES
from golden.twin.attention import attention
from golden.twin.sequence_cache import SequenceCache
from golden.twin.slot_cache import ConstantCache
from hw.config import AttentionConfig, ConfigError, preset
from hw.formats import KVFormat, Mode
from tb.golden.quality.small import prompt

SMALL = replace(preset("tiny"), slots=32, slot_sinks=2, slot_recent=4, slot_decay=243)


class Tokens:
    """Keys, values and a query for every step."""

    def __init__(self, config: AttentionConfig, count: int, seed: int) -> None:
        tensors = CASES["random"](config, count, seed)
        self.keys, self.values = tensors.keys.half().double(), tensors.values
        self.codes, self.scale = symmetric_codes(self.values, config.tail_value_bits)
        source = torch.Generator().manual_seed(seed)
        self.queries = torch.randn(count, config.rows, config.head_dim, generator=source)

    def append(self, cache: ConstantCache | SequenceCache, t: int) -> None:
        """Token ``t``."""
        cache.append(self.keys[t], self.codes[t], self.scale[t])


def grown(tokens: Tokens, steps: int, config: AttentionConfig = SMALL) -> ConstantCache:
    """A cache after ``steps`` tokens and the attention of each."""
    cache = ConstantCache(config)
    for t in range(steps):
        tokens.append(cache, t)
        cache.attend(*quantise_query(tokens.queries[t]))
    return cache


def reordered(cache: SlotCache, order: Tensor) -> SlotCache:
    """The same tokens in other slots."""
    tail = cache.tail
    moved = {f.name: getattr(tail, f.name) for f in fields(tail) if f.name != "keys"}
    moved = {name: part[order] for name, part in moved.items()}
    return replace(cache, tail=replace(tail, keys=tail.keys.each(lambda x: x[order]), **moved))


def test_the_live_tokens_are_attended_to(seed: int) -> None:
    """Those that the map says; of each the numbers with which it came."""
    tokens = Tokens(SMALL, 70, seed)
    cache = grown(tokens, 69)
    tokens.append(cache, 69)
    live = cache.map.positions
    assert len(set(live.tolist())) == 32
    assert {0, 1, 66, 67, 68, 69} <= set(live.tolist())
    assert torch.equal(cache.cache.tail.value_codes, tokens.codes[live])
    assert torch.equal(cache.cache.tail.value_scale, tokens.scale[live])
    query, scale = quantise_query(tokens.queries[69])
    found = cache.attend(query, scale)
    # Against softmax in float over the same tokens.
    p = (tokens.queries[69].double() @ tokens.keys[live].T / 32**0.5).softmax(-1)
    wanted = p @ tokens.values[live].double()
    torch.testing.assert_close(found.output.double() / 2.0**15, wanted, atol=0.05, rtol=0)
    assert abs(found.received.sum().item() / 2.0**20 - SMALL.rows) < 0.01


def test_slots_may_be_permuted(seed: int) -> None:
    """Another order of the same tokens changes an output by its roundings only."""
    tokens = Tokens(SMALL, 60, seed)
    cache = grown(tokens, 59).cache
    query, scale = quantise_query(tokens.queries[59])
    one = attention(query, scale, cache, SMALL)
    order = torch.randperm(32, generator=torch.Generator().manual_seed(seed))
    other = attention(query, scale, reordered(cache, order), SMALL)
    received = one.received[order]
    assert (other.received - received).abs().max() <= 1 << 8
    assert (other.output - one.output).abs().max() < 1 << 9  # of 2**15
    # The control: other tokens give other outputs.
    less = reordered(cache, torch.cat((torch.arange(31), torch.tensor([0]))))
    assert (attention(query, scale, less, SMALL).output - one.output).abs().max() > 1 << 9


def test_room_for_all_is_a_cache_without_loss() -> None:
    """Until the first token would leave: the numbers of a compressed cache that closed nothing."""
    tokens = Tokens(SMALL, 32, 4)
    constant = ConstantCache(replace(SMALL, slot_decay=256))
    whole = SequenceCache(SMALL)
    for t in range(32):
        tokens.append(constant, t)
        tokens.append(whole, t)
        asked = quantise_query(tokens.queries[t])
        ours, theirs = constant.attend(*asked), whole.attend(*asked)
        assert torch.equal(ours.output, theirs.output)
        assert torch.equal(constant.map.score, whole.saliency)
    assert constant.map.live == whole.context == 32


@pytest.mark.parametrize("shuffled", [False, True])
def test_it_keeps_what_the_float_method_keeps(*, shuffled: bool) -> None:
    """Scores from 8-bit keys and exp2 in integers: mostly the same tokens over 150 steps.

    Close calls fall either way, and a token that left does not come back. The control ranks the
    float method's tokens by chance.
    """
    config = replace(SMALL, rows=1, slot_decay=256)
    tokens = Tokens(config, 150, 7)
    tokens.queries *= 3
    cache = grown(tokens, 1, config)
    first = prompt(1, width=32, keys=tokens.keys[:1].float())
    state = RCE(budget=32, decay=1.0, sinks=2, recent=4, shuffled=shuffled).start(first)
    same = []
    for t in range(1, 150):
        marked = torch.full((1, 1, 32), float(t))
        query = tokens.queries[t][None, None].float()
        reading = state.step(query, tokens.keys[t][None, None].float(), marked)
        scores = query @ reading.keys.transpose(-1, -2) / 32**0.5
        state.observe(scores.softmax(-1))
        tokens.append(cache, t)
        cache.attend(*quantise_query(tokens.queries[t]))
        theirs = set(reading.values[0, 0, :, 0].int().tolist())
        same.append(len(theirs & set(cache.map.positions.tolist())) / len(theirs))
    mean = sum(same[31:]) / len(same[31:])
    print(f"mean {mean:.3f}, least {min(same):.3f}")
    assert mean < 0.7 if shuffled else mean > 0.8


@pytest.mark.parametrize("tokens", [1, 20, 32])
def test_records(tokens: int) -> None:
    """A region of all slots whatever is live; the memory gives back the very cache."""
    cache = CACHE_FORMATS[Mode.SLOTS].compress(CASES["random"](SMALL, tokens, 1), SMALL)
    assert isinstance(cache, SlotCache)
    assert (cache.mode, cache.context) == (Mode.SLOTS, tokens)
    regions = pack_regions(cache, SMALL)
    assert regions == {"tail": pack_tail(cache.tail, tokens, SMALL, Mode.SLOTS)}
    assert len(regions["tail"]) == 4 * KVFormat(SMALL).tail_block_bytes
    found = unpack_slots(regions["tail"], tokens, SMALL)
    assert torch.equal(found.tail.saliency, cache.tail.saliency)
    assert torch.equal(found.tail.value_codes, cache.tail.value_codes)
    assert torch.equal(found.tail.keys.codes, cache.tail.keys.codes)


@pytest.mark.parametrize("tokens", [33, 40])
def test_more_tokens_than_slots(tokens: int) -> None:
    with pytest.raises(ConfigError, match=f"context must be from 1 to 32 slots, not {tokens}"):
        CACHE_FORMATS[Mode.SLOTS].compress(CASES["random"](SMALL, tokens, 1), SMALL)


def test_sizes() -> None:
    """What a step reads is constant once the cache is full, and its region always."""
    layout = KVFormat(SMALL)
    block = layout.tail_block_bytes
    for context, blocks in ((1, 1), (8, 1), (9, 2), (32, 4)):
        assert layout.region_bytes(context, Mode.SLOTS)["tail"] == 4 * block
        assert layout.traffic_bytes(context, Mode.SLOTS)["tail"] == blocks * block
