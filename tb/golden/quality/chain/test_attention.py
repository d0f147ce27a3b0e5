"""The twin's caches beside the float reference's, step by step, each living on its own."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from golden.quality.chain.agreement import Agreement
from golden.quality.chain.attention import FloatAttention, HeadAttention, TwinAttention
from golden.quality.interface import Prefill
from golden.reference import compress_window
from golden.twin import attention as twin
from golden.twin import sequence_cache
from hw.config import AttentionConfig, ConfigError, preset
from tb.golden.quality.small import random_prompt

TINY = preset("tiny")
#: From a prompt with one closed window over three that close, to twice what the budget allows.
PROMPT, TOKENS = 40, 84


def parts(stop: int = TOKENS) -> tuple[dict[int, Prefill], tuple[Tensor, Tensor, Tensor]]:
    """The prompt, and the steps up to ``stop``; of one sequence, in layer 0."""
    # Of this seed no two saliencies of a chunk, and no two estimates, nearly tie.
    whole = random_prompt(TOKENS, seed=1)
    query, key, value = whole.query[:1], whole.key[:1], whole.value[:1]
    prompt, rest = slice(PROMPT), slice(PROMPT, stop)
    prefill = Prefill(
        query=query[..., prompt, :], key=key[..., prompt, :], value=value[..., prompt, :]
    )
    steps = (query.flatten(1, 2)[..., rest, :], key[..., rest, :], value[..., rest, :])
    return {0: prefill}, steps


def worst(found: Tensor, wanted: Tensor) -> Tensor:
    """Least cosine of any output row in each step."""
    cosines = torch.nn.functional.cosine_similarity(found.double(), wanted.double(), dim=-1)
    return cosines.flatten(0, 1).amin(0)


def run(kind: type[HeadAttention[Any]], config: AttentionConfig = TINY) -> Tensor:
    """The outputs of all steps, ``[1, H, S, d]``."""
    prefills, steps = parts()
    return kind(prefills, config)(0, *steps)


def test_every_step_is_close_to_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where windows have closed by what the steps gave; a twin that is wrong shows."""
    prefills, steps = parts()
    reference = FloatAttention(prefills, TINY)
    wanted = reference(0, *steps)
    whole = TwinAttention(prefills, TINY)
    assert worst(whole(0, *steps), wanted).min() > 0.99999
    assert whole.traffic == reference.traffic
    assert whole.windows == reference.windows == 2 * 3
    found = whole.agreement
    assert (found.steps, found.rows) == (2 * 44, 2 * 2 * 44)
    assert found.cosine_worst > 0.99999
    assert 0 < found.chunks == found.chunks_shared
    assert found.received_worst < 1e-3

    # Steps are compared with the reference's lives from here on, not on their own caches.
    monkeypatch.setattr(Agreement, "observe", lambda *_: None)

    def another_order(keys: Any, values: Tensor, sums: Tensor, config: AttentionConfig) -> Any:
        return compress_window(keys, values, sums.flip(-1), config)

    with monkeypatch.context() as broken:
        broken.setattr(sequence_cache, "compress_window", another_order)
        assert worst(run(TwinAttention), wanted).min() < 0.99
    with monkeypatch.context() as broken:
        broken.setattr(
            twin, "received_attention", lambda scores, *_: torch.zeros_like(scores[..., 0])
        )
        by_step = worst(run(TwinAttention), wanted)
        # Until the first window closes nothing is wrong.
        assert by_step[: 3 * TINY.window - PROMPT].min() > 0.99999
        assert by_step.min() < 0.99
    smaller = replace(TINY, budget=TINY.budget - TINY.chunk)
    assert worst(run(TwinAttention, smaller), wanted).min() < 0.99


def test_calls_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps one by one are those given at once; each is announced."""
    monkeypatch.setattr(Agreement, "observe", lambda *_: None)
    prefills, steps = parts(PROMPT + 10)
    seen: list[int] = []
    single = TwinAttention(prefills, TINY, advance=lambda: seen.append(1))
    one_by_one = [single(0, *(x[..., t : t + 1, :] for x in steps)) for t in range(10)]
    assert torch.equal(torch.cat(one_by_one, -2), TwinAttention(prefills, TINY)(0, *steps))
    assert len(seen) == 10


def test_sequences_and_heads_do_not_mix(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two sequences of two heads decode as each alone."""
    monkeypatch.setattr(Agreement, "observe", lambda *_: None)
    whole = random_prompt(44, seed=2)

    def decode(pick: slice) -> Tensor:
        query, key, value = (x[pick] for x in (whole.query, whole.key, whole.value))
        prompt, rest = slice(PROMPT), slice(PROMPT, None)
        prefill = Prefill(
            query=query[..., prompt, :], key=key[..., prompt, :], value=value[..., prompt, :]
        )
        twin_ = TwinAttention({0: prefill}, TINY)
        return twin_(0, query.flatten(1, 2)[..., rest, :], key[..., rest, :], value[..., rest, :])

    together = decode(slice(2))
    assert torch.equal(together[:1], decode(slice(0, 1)))
    assert torch.equal(together[1:], decode(slice(1, 2)))
    assert not torch.equal(together[0], together[1])


def test_another_shape_is_refused() -> None:
    with pytest.raises(ConfigError, match="head_dim must be 32 for this model, not 64"):
        TwinAttention(parts()[0], replace(TINY, head_dim=64))
    with pytest.raises(ConfigError, match="rows must be 2 for this model, not 4"):
        FloatAttention(parts()[0], replace(TINY, rows=4))
