"""Prompts: their attention and what methods share."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from golden.quality.interface import Prefill
from golden.quality.methods import H2O, KIVI, KVO, Quest, StreamingLLM
from golden.reference import saliency
from hw.config import preset
from tb.golden.quality.small import prompt, random_prompt


def test_probabilities_are_causal() -> None:
    prefill = random_prompt(12)
    found = prefill.probabilities(4, 9)
    assert found.shape == (2, 2, 2, 5, 9)
    torch.testing.assert_close(found.sum(-1), torch.ones(2, 2, 2, 5))
    assert bool((found[..., 0, 5:] == 0).all())
    assert bool((found[..., 1, :6] > 0).all())
    whole = prefill.probabilities(0, 12)
    torch.testing.assert_close(found, whole[..., 4:9, :9])


def test_sums_by_hand() -> None:
    """Uniform attention over 4 tokens in windows of 2; query 3 is in the window after that of 1."""
    sums = prompt(4).attention_sums(window=2)
    assert sums.total[0, 0].tolist() == pytest.approx([25 / 12, 13 / 12, 7 / 12, 1 / 4])
    assert sums.near[0, 0].tolist() == sums.total[0, 0].tolist()
    # Of 6 tokens the first two no longer get what the last two queries give.
    sums = prompt(6).attention_sums(window=2)
    assert sums.near[0, 0, 0] == pytest.approx(25 / 12)
    assert sums.total[0, 0, 0] == pytest.approx(2.45)


@pytest.mark.parametrize("tokens", [63, 300, 640])
def test_near_sums_are_the_saliency_of_the_reference(tokens: int) -> None:
    prefill = random_prompt(tokens, width=64)
    expected = saliency(prefill.query, prefill.key, preset("lm"))
    found = prefill.attention_sums(64).near.double()
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    if tokens > 128:
        total = prefill.attention_sums(64).total.double()
        assert not torch.allclose(total, expected, atol=1e-4, rtol=1e-4)


def test_shared_results_are_made_once() -> None:
    prefill = prompt(4)
    assert prefill.attention_sums() is prefill.attention_sums()
    assert prefill.attention_sums(2) is not prefill.attention_sums(64)
    # Not those of the prompt it came from.
    assert prefill.reading(prompt(4)).attention_sums() is not prefill.attention_sums()


def test_shapes_are_checked() -> None:
    whole = random_prompt(4)
    with pytest.raises(ValueError, match="a prefill must have at least one token"):
        prompt(0)
    with pytest.raises(ValueError, match="value must be"):
        Prefill(query=whole.query, key=whole.key, value=whole.value[..., :3, :])
    with pytest.raises(ValueError, match="query must be"):
        Prefill(query=whole.query[..., :3, :], key=whole.key, value=whole.value)


def test_labels() -> None:
    assert KVO().label == "KVO"
    assert H2O(budget=9).label == "H2O, budget 9"
    assert Quest(shuffled=True).label == "Quest, shuffled"
    assert StreamingLLM(text_positions=True, sinks=2).label == (
        "StreamingLLM, sinks 2, text_positions"
    )


def test_knobs_are_parameters() -> None:
    """The lowest value is legal, the next below is not."""
    for method in (KVO(), H2O(), Quest(), StreamingLLM()):
        knob = method.knob
        assert knob is not None
        low: dict[str, Any] = {knob.name: knob.lowest}
        assert replace(method, **low).parameters[knob.name] == knob.lowest
        below: dict[str, Any] = {knob.name: knob.lowest - knob.step}
        with pytest.raises(ValueError, match=knob.name):
            replace(method, **below)
    assert KIVI().knob is None
