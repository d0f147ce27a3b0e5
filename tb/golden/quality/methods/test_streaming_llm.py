"""Attention sinks and a window."""

import pytest
import torch
from torch import Tensor

from golden.model.architecture import LanguageModel, ModelConfig, apply_rope
from golden.quality.methods.streaming_llm import StreamingLLM, move
from tb.golden.quality.small import attended, prompt, step

_MODEL = LanguageModel(ModelConfig(head_dim=8, context=64))


def rotated(x: Tensor, positions: list[int]) -> Tensor:
    """Raw tokens ``[T, 8]`` as the model puts them at ``positions``."""
    cosine, sine = _MODEL.rotation(torch.tensor([positions]))
    return apply_rope(x[None, None], cosine, sine)[0, 0]


def test_keeps_sinks_and_window() -> None:
    state = StreamingLLM(budget=5, sinks=2).start(prompt(7))
    assert attended(step(state, 7)) == [0, 1, 5, 6, 7]
    assert attended(step(state, 8)) == [0, 1, 6, 7, 8]


def test_keeps_all_while_they_fit() -> None:
    state = StreamingLLM(budget=5, sinks=2).start(prompt(3))
    assert attended(step(state, 3)) == [0, 1, 2, 3]
    assert attended(step(state, 4)) == [0, 1, 2, 3, 4]
    assert attended(step(state, 5)) == [0, 1, 3, 4, 5]


@pytest.mark.parametrize("text_positions", [False, True])
def test_positions_in_the_cache(text_positions: bool) -> None:
    """Scores are those of tokens placed 0, 1, 2, .. in the cache; not so with text positions."""
    source = torch.Generator().manual_seed(1)
    raw = torch.randn(10, 8, generator=source)
    query = torch.randn(1, 8, generator=source)
    stored = rotated(raw, list(range(10)))
    method = StreamingLLM(budget=5, sinks=2, text_positions=text_positions)
    state = method.start(prompt(9, keys=stored[:9]))
    reading = step(state, 9, key=stored[9])
    scores = rotated(query, [9]) @ reading.keys[0, 0].T
    placed = rotated(raw[[0, 1, 7, 8, 9]], [0, 1, 2, 3, 4])
    expected = rotated(query, [4]) @ placed.T
    assert torch.allclose(scores, expected, atol=0.02) is not text_positions


def test_move() -> None:
    raw = torch.randn(1, 8, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(move(rotated(raw, [3]), 20, 10000.0), rotated(raw, [23]))


def test_traffic() -> None:
    state = StreamingLLM(budget=5, sinks=2).start(prompt(7, width=64))
    reading = step(state, 7, width=64)
    assert (reading.read, reading.written) == (5 * 256, 256)


def test_parameters() -> None:
    with pytest.raises(ValueError, match="budget must be an integer from 5 up, not 4"):
        StreamingLLM(budget=4)
    with pytest.raises(ValueError, match="sinks must be an integer from 0 up, not -1"):
        StreamingLLM(sinks=-1)
