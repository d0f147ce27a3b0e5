"""Decode steps: exact with FP16, causal, counted."""

import pytest
import torch
from torch import Tensor

from golden.model.architecture import causal_attention
from golden.quality.decode import Traffic, attend, decode, method_attention
from golden.quality.interface import CacheMethod, CacheState, Prefill, Reading
from golden.quality.methods import (
    FP16,
    H2O,
    INT8,
    KIVI,
    KVO,
    RCE,
    ArkVale,
    CrossLayer,
    QuaRot,
    Quest,
    Scissorhands,
    SnapKV,
    SnapStream,
    StreamingLLM,
    ZipCache,
)
from tb.golden.quality.small import random_prompt

PROMPT, STEPS = 70, 6
ALL: tuple[CacheMethod, ...] = (
    FP16(),
    INT8(),
    KIVI(group=8, residual=16),
    StreamingLLM(budget=20),
    H2O(budget=20),
    SnapKV(budget=40),
    Quest(budget=32),
    KVO(budget=24),
    RCE(budget=30),
    ArkVale(budget=64),
    Scissorhands(budget=24),
    ZipCache(),
    QuaRot(),
    SnapStream(budget=24),
    CrossLayer(),
)


def parts(whole: Prefill) -> tuple[Prefill, Tensor, Tensor, Tensor]:
    """The prompt, and query, key, value of the steps."""
    first, rest = slice(0, PROMPT), slice(PROMPT, None)
    prefill = Prefill(
        query=whole.query[..., first, :],
        key=whole.key[..., first, :],
        value=whole.value[..., first, :],
    )
    return prefill, whole.query[..., rest, :], whole.key[..., rest, :], whole.value[..., rest, :]


def test_attend_by_hand() -> None:
    """Scores 0 and ln 3 (times sqrt 4): a quarter and three quarters."""
    query = torch.tensor([[[[1.0, 0.0, 0.0, 0.0]]]])
    keys = torch.zeros(1, 1, 2, 4)
    keys[..., 1, 0] = 2 * torch.log(torch.tensor(3.0))
    values = torch.tensor([[[[4.0, 0, 0, 0], [8.0, 0, 0, 0]]]])
    output, probability = attend(query, Reading(keys, values, 0, 0))
    assert probability[0, 0, 0].tolist() == pytest.approx([0.25, 0.75])
    assert output[0, 0, 0, 0] == pytest.approx(7.0)


def test_states_observe_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """The attention of each step over what it read."""
    seen: list[Tensor] = []
    monkeypatch.setattr(CacheState, "observe", lambda state, probability: seen.append(probability))
    whole = random_prompt(PROMPT + STEPS)
    output, _ = decode(FP16(), *parts(whole))
    assert [tuple(each.shape) for each in seen] == [(2, 2, 2, PROMPT + t + 1) for t in range(STEPS)]
    last = seen[-1] @ whole.value.half().float()
    torch.testing.assert_close(output[..., -1, :], last)


def test_fp16_is_exact_attention() -> None:
    whole = random_prompt(PROMPT + STEPS)
    output, traffic = decode(FP16(), *parts(whole))
    exact = causal_attention(0, whole.query.flatten(1, 2), whole.key, whole.value)
    expected = exact.unflatten(1, (2, 2))[..., PROMPT:, :]
    torch.testing.assert_close(output, expected, atol=2e-3, rtol=0)
    assert traffic.share == 1.0
    # Four caches of 32 channels, 128 B a token.
    tokens = sum(PROMPT + step + 1 for step in range(STEPS))
    assert (traffic.read, traffic.written) == (4 * 128 * tokens, 4 * 128 * STEPS)


@pytest.mark.parametrize("method", ALL, ids=lambda method: method.name)
def test_no_step_sees_the_future(method: CacheMethod) -> None:
    """Another last token changes the last output and none before it."""
    first, second = random_prompt(PROMPT + STEPS), random_prompt(PROMPT + STEPS)
    second.key[..., -1, :] += 1.0
    second.value[..., -1, :] += 1.0
    outputs = [decode(method, *parts(whole))[0] for whole in (first, second)]
    assert torch.equal(outputs[0][..., :-1, :], outputs[1][..., :-1, :])
    assert not torch.allclose(outputs[0][..., -1, :], outputs[1][..., -1, :])


@pytest.mark.parametrize("method", ALL, ids=lambda method: method.name)
def test_sequences_do_not_mix(method: CacheMethod) -> None:
    """A sequence decodes alone as it does beside another, but for rounding of sums."""
    whole = random_prompt(PROMPT + STEPS)
    alone = Prefill(query=whole.query[1:], key=whole.key[1:], value=whole.value[1:])
    together, single = (decode(method, *parts(item))[0] for item in (whole, alone))
    torch.testing.assert_close(together[1:], single, atol=1e-4, rtol=1e-3)
    assert not torch.allclose(together[:1], single, atol=1e-2)


def test_dense_layers() -> None:
    """Layer 0 in FP16, layer 1 with the method; bytes of both are counted."""
    wholes = [random_prompt(PROMPT + STEPS, seed=layer) for layer in range(2)]
    prefills = {layer: parts(whole)[0] for layer, whole in enumerate(wholes)}
    traffic = Traffic()
    attention = method_attention(StreamingLLM(budget=8), prefills, traffic, dense_layers=1)
    for layer, whole in enumerate(wholes):
        _, query, key, value = parts(whole)
        found = attention(layer, query.flatten(1, 2), key, value)
        method = FP16() if layer == 0 else StreamingLLM(budget=8)
        expected, alone = decode(method, prefills[layer], query, key, value)
        assert torch.equal(found, expected.flatten(1, 2))
        if layer:
            dense = FP16.step_bytes(4, 0, 32)
            tokens = sum(PROMPT + step + 2 for step in range(STEPS))
            assert traffic.read + traffic.written == alone.read + alone.written + dense * tokens
