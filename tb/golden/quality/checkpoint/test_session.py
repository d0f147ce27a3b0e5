"""One prompt, continued by methods."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("transformers", reason="the optional extra 'quality' is not installed")

from golden.checkpoint.files import CheckpointError
from golden.quality.checkpoint.load import Checkpoint
from golden.quality.checkpoint.session import Prefilled
from golden.quality.methods import FP16, StreamingLLM

PROMPT = list(range(1, 120))
REQUEST = [70, 71]
#: The cache holds FP16.
CLOSE: dict[str, Any] = {"atol": 5e-3, "rtol": 0}


def plain(checkpoint: Checkpoint, ids: list[int]) -> Tensor:
    """Logits of the model's own attention."""
    model = deepcopy(checkpoint.model)
    model.set_attn_implementation("sdpa")
    with torch.no_grad():
        logits: Tensor = model(torch.tensor([ids])).logits[0]
    return logits


def greedy(checkpoint: Checkpoint, ids: list[int], count: int) -> list[int]:
    found = list(ids)
    for _ in range(count):
        found.append(int(plain(checkpoint, found)[-1].argmax()))
    return found[len(ids) :]


def test_given_tokens(checkpoint: Checkpoint) -> None:
    """Predictions after each, as the whole sequence gives them; a forgetful cache differs."""
    expected = plain(checkpoint, PROMPT + REQUEST)[-2:]
    prefilled = Prefilled(checkpoint, PROMPT)
    exact = prefilled.decode(FP16())
    torch.testing.assert_close(exact.feed(REQUEST), expected, **CLOSE)
    assert exact.traffic.share == 1.0
    short = prefilled.decode(StreamingLLM(budget=8))
    assert not torch.allclose(short.feed(REQUEST), expected, atol=2e-2)
    assert short.traffic.share < 0.2
    dense = prefilled.decode(StreamingLLM(budget=8), dense_layers=2)
    torch.testing.assert_close(dense.feed(REQUEST), expected, **CLOSE)


def test_forced_answers(checkpoint: Checkpoint) -> None:
    """The last token of an answer is decoded with what follows it, not before."""
    answer = [5, 6, 7]
    whole = plain(checkpoint, [*PROMPT, *REQUEST, *answer, 9])
    continuation = Prefilled(checkpoint, PROMPT).decode(FP16())
    found = continuation.force(REQUEST, answer)
    torch.testing.assert_close(found, whole[len(PROMPT) + 1 :][:3], **CLOSE)
    assert continuation.traffic.written == 2 * 4 * 2 * 128
    torch.testing.assert_close(continuation.feed([9]), whole[-1:], **CLOSE)


def test_generation(checkpoint: Checkpoint) -> None:
    """Greedy; what comes next sees all of it."""
    expected = greedy(checkpoint, PROMPT + REQUEST, 5)
    continuation = Prefilled(checkpoint, PROMPT).decode(FP16())
    assert continuation.generate(REQUEST, limit=5) == expected
    following = plain(checkpoint, [*PROMPT, *REQUEST, *expected, 33])[-1:]
    torch.testing.assert_close(continuation.feed([33]), following, **CLOSE)


@pytest.mark.parametrize("place", [0, 2])
def test_end_token(checkpoint: Checkpoint, place: int) -> None:
    """It ends the generation and is no part of it, nor of the cache."""
    expected = greedy(checkpoint, PROMPT + REQUEST, 3)
    assert expected[2] not in expected[:2]
    ending = replace(checkpoint)
    vars(ending)["ends"] = frozenset([expected[place]])
    continuation = Prefilled(ending, PROMPT).decode(FP16())
    assert continuation.generate(REQUEST, limit=5) == expected[:place]
    following = plain(checkpoint, [*PROMPT, *REQUEST, *expected[:place], 33])[-1:]
    torch.testing.assert_close(continuation.feed([33]), following, **CLOSE)


def test_stop(checkpoint: Checkpoint) -> None:
    expected = greedy(checkpoint, PROMPT + REQUEST, 2)
    wanted = checkpoint.decode(expected)
    continuation = Prefilled(checkpoint, PROMPT).decode(FP16())
    found = continuation.generate(REQUEST, limit=5, stop=lambda text: text == wanted)
    assert found == expected
    following = plain(checkpoint, [*PROMPT, *REQUEST, *expected, 33])[-1:]
    torch.testing.assert_close(continuation.feed([33]), following, **CLOSE)


@pytest.mark.parametrize("count", [0, 1025])
def test_errors(checkpoint: Checkpoint, count: int) -> None:
    with pytest.raises(CheckpointError, match=f"must have 1 to 1024 tokens, not {count}"):
        Prefilled(checkpoint, [1] * count)
