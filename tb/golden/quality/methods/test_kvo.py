"""KVO against the reference that the accelerator is checked with."""

from __future__ import annotations

import pytest
import torch

from golden.quality.decode import attend
from golden.quality.interface import CacheState, Prefill
from golden.quality.methods.kvo import KVO
from golden.reference import attend as reference_attend
from golden.reference import compress_cache, saliency
from hw.config import ConfigError
from hw.formats import KVFormat
from tb.golden.quality.small import prompt, random_prompt, step

PROMPT, STEPS = 190, 70
METHOD = KVO(budget=24)


def run(method: KVO, whole: Prefill, *, start: int) -> list[tuple[torch.Tensor, int, int]]:
    """Output, bytes read and written of each step after a prompt of ``start`` tokens."""
    prefill = Prefill(
        query=whole.query[..., :start, :],
        key=whole.key[..., :start, :],
        value=whole.value[..., :start, :],
    )
    state = method.start(prefill)
    found = []
    for t in range(start, whole.tokens):
        query = whole.query[..., t, :]
        reading = state.step(query, whole.key[..., t, :], whole.value[..., t, :])
        output, probability = attend(query, reading)
        state.observe(probability)
        found.append((output, reading.read, reading.written))
    return found


@pytest.fixture(scope="module")
def whole() -> Prefill:
    return random_prompt(PROMPT + STEPS, seed=3)


@pytest.mark.parametrize("context", [PROMPT + 1, 192, 193, 256])
def test_is_the_reference(whole: Prefill, context: int) -> None:
    """One step with all before it as the prompt, around the closing of windows (at 193)."""
    config = METHOD.config(head_dim=32, rows=2)
    part = slice(0, context)
    keys, values = whole.key[..., part, :], whole.value[..., part, :]
    sums = saliency(whole.query[..., part, :], keys, config)
    cache = compress_cache(keys, values, sums, config)
    expected = reference_attend(whole.query[..., context - 1, :], cache, config)
    found = run(METHOD, whole, start=context - 1)[0][0]
    torch.testing.assert_close(found.double(), expected.output, atol=2e-5, rtol=1e-4)
    # Another selection gives another output: the comparison sees it.
    worst = expected.estimate.argsort(-1)[..., : config.top_chunks]
    other = reference_attend(whole.query[..., context - 1, :], cache, config, worst)
    assert not torch.allclose(found.double(), other.output, atol=2e-5, rtol=1e-4)


def test_windows_close_while_decoding(whole: Prefill) -> None:
    """Windows that close while decoding are those of a longer prompt.

    Their saliency comes from the attention of the decode steps, over the compressed cache instead
    of the exact one, so the order within chunks differs and the outputs are close, not equal.
    """
    late = run(METHOD, whole, start=PROMPT)
    for context in (193, 256):
        direct = run(METHOD, whole, start=context - 1)[0]
        output, read, _ = late[context - 1 - PROMPT]
        assert abs(read - direct[1]) <= 4 * 128
        cosine = torch.nn.functional.cosine_similarity(output, direct[0], dim=-1)
        assert float(cosine.mean()) > 0.9


def test_traffic_is_that_of_the_records(whole: Prefill) -> None:
    """Reads: the records of `hw.formats`. Writes: see below."""
    found = run(METHOD, whole, start=PROMPT)
    form = KVFormat(METHOD.config(head_dim=32, rows=2))
    # 191 tokens: 64 closed in two value groups, of whose chunks 3 are read; 127 in the tail, whose
    # 16 blocks have a burst of sums each. Four caches read the scales of one or two groups each.
    least = 4 * sum(form.traffic_bytes(191, groups=1).values())
    more, rest = divmod(found[0][1] - least, form.value_scale_bytes)
    assert rest == 0
    assert 0 <= more <= 4
    # Entry: 32 B of key codes, 64 of values, 4 and 2 of their scales: 1, 2, 1 and 1 bursts.
    assert found[0][2] == 4 * (160 + 16 * 32)
    # At 193 a window closes: two group records and a block of 8 base keys more; 65 tail tokens.
    written = 4 * (160 + 2 * form.group_bytes + form.base_block_bytes + 9 * 32)
    assert found[2][2] == written
    assert found[1][2] < written


@pytest.mark.parametrize(("chunks", "groups"), [((0, 1, 2), 1), ((2, 3, 4), 2), ((0, 4, 8), 3)])
def test_scales_are_read_once_per_group(chunks: tuple[int, ...], groups: int) -> None:
    """Chunks 0 to 3 are a group, 4 to 7 the next one; a group's scales take 256 B."""
    keys = torch.zeros(400, 64)
    for chunk in chunks:
        keys[8 * chunk : 8 * chunk + 8, 0] = 5.0
    method = KVO(budget=24)
    query = torch.ones(64)
    reading = step(method.start(prompt(400, width=64, keys=keys)), 400, width=64, query=query)
    form = KVFormat(method.config(head_dim=64, rows=1))
    # 401 tokens: 320 closed, 81 in the tail.
    without = sum(form.traffic_bytes(401, groups=0).values())
    assert reading.read == without + groups * 256


def test_traffic_at_the_published_budget() -> None:
    """74,624 B if 48 chunks lie in 48 groups; ties select 12 whole groups."""
    reading = step(KVO().start(prompt(2047, width=64)), 2047, width=64)
    assert reading.read == 74_624 - (48 - 12) * 256


def test_budgets_share_the_closed_windows(whole: Prefill) -> None:
    """A sweep compresses once, and no state disturbs another."""
    first = METHOD.start(whole)
    alone = step_output(first, whole)
    step_output(first, whole)
    assert torch.equal(step_output(METHOD.start(whole), whole), alone)
    assert not torch.equal(step_output(KVO(budget=96).start(whole), whole), alone)


def step_output(state: CacheState, whole: Prefill) -> torch.Tensor:
    query = whole.query[..., 0, :]
    reading = state.step(query, whole.key[..., 0, :], whole.value[..., 0, :])
    return attend(query, reading)[0]


def test_shuffled(whole: Prefill) -> None:
    shuffled = step_output(KVO(budget=24, shuffled=True).start(whole), whole)
    assert not torch.allclose(shuffled, step_output(METHOD.start(whole), whole), atol=1e-3)


def test_parameters() -> None:
    with pytest.raises(ConfigError, match="budget must be an integer from 24 to 512"):
        KVO(budget=20)
