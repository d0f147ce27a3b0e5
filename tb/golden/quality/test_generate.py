"""Free generation: what was predicted is what the next letter is predicted from."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from golden.model.architecture import (
    AttentionFunction,
    LanguageModel,
    ModelConfig,
    causal_attention,
)
from golden.quality.decode import Traffic, method_attention
from golden.quality.evaluate import Prompt
from golden.quality.generate import generate
from golden.quality.interface import CacheMethod
from golden.quality.methods import FP16, StreamingLLM
from golden.quality.tasks import Batch

ASK = 9


class Successor(nn.Module):
    """Predicts ``table[token]`` after a token, whatever came before; remembers what it was fed."""

    def __init__(self, table: dict[int, int]) -> None:
        super().__init__()
        self._next = nn.Parameter(torch.tensor([table.get(token, 0) for token in range(10)]), False)
        self.fed: list[list[int]] = []

    def forward(self, tokens: Tensor, **named: Any) -> Tensor:
        self.fed.append(tokens[:, 0].tolist())
        return nn.functional.one_hot(self._next[tokens], 10).float()


def asked(*answers: list[int], unit: int) -> Batch:
    """A prompt of two tokens, then ASK and an answer, again and again."""
    row, answer = [7, 7], [False, False]
    for value in answers:
        row += [ASK, *value]
        answer += [False] + [True] * len(value)
    return Batch(torch.tensor([row]), torch.tensor([answer]), prompt=2, unit=unit)


def scores(model: Successor, batch: Batch) -> tuple[list[float], list[float]]:
    """Teacher-forced, free."""
    forced = model(batch.tokens)[:, batch.prompt : -1]
    model.fed.clear()
    return batch.scores(forced), batch.scores(generate(model, batch, causal_attention))  # type: ignore[arg-type]


def test_a_wrong_first_letter_derails_the_second() -> None:
    """The answer is 1 2. After ASK the model says 3; after 1 it would say 2, after 3 it says 4."""
    model = Successor({ASK: 3, 1: 2, 3: 4})
    assert scores(model, asked([1, 2], unit=1)) == ([0.5], [0.0])
    assert model.fed == [[ASK], [3]]


def test_a_right_first_letter_does_not() -> None:
    model = Successor({ASK: 1, 1: 2})
    assert scores(model, asked([1, 2], unit=1)) == ([1.0], [1.0])
    assert model.fed == [[ASK], [1]]


def test_a_wrong_letter_may_lead_back() -> None:
    """1 2 3: after ASK comes 5 for 1, from 5 comes 2, then 3: one of three is lost both ways."""
    model = Successor({ASK: 5, 1: 2, 5: 2, 2: 3})
    assert scores(model, asked([1, 2, 3], unit=1)) == ([2 / 3], [2 / 3])


def test_questions_are_given() -> None:
    """After a wrong answer the next question is fed as it is."""
    model = Successor({ASK: 1, 1: 2})
    assert scores(model, asked([4, 2], [1, 2], unit=2)) == ([0.5], [0.5])
    assert model.fed == [[ASK], [1], [2], [ASK], [1]]


def test_sequences_of_a_batch_answer_for_themselves() -> None:
    first, second = asked([1, 2], unit=1), asked([3, 4], unit=1)
    tokens = torch.cat((first.tokens, second.tokens))
    batch = Batch(tokens, torch.cat((first.answer, second.answer)), prompt=2, unit=1)
    assert scores(Successor({ASK: 3, 1: 2, 3: 4}), batch) == ([0.5, 1.0], [0.0, 1.0])


@pytest.fixture(scope="module")
def small() -> tuple[LanguageModel, Batch]:
    """Random weights, two sequences of 24 tokens, of which the last 8 are answers but one."""
    model = LanguageModel(ModelConfig(layers=2, d_model=32, d_ff=32, head_dim=16), seed=3).eval()
    tokens = torch.randint(0, 264, (2, 24), generator=torch.Generator().manual_seed(2))
    answer = torch.zeros(2, 24, dtype=torch.bool)
    answer[:, 16:] = True
    answer[:, 20] = False
    return model, Batch(tokens, answer, prompt=15, unit=1)


def attention(prompt: Prompt, method: CacheMethod) -> AttentionFunction:
    return method_attention(method, prompt.prefills, Traffic())


def test_it_is_greedy_decoding(small: tuple[LanguageModel, Batch]) -> None:
    """With FP16 what exact attention over the whole sequence gives, token by token."""
    model, batch = small
    prompt = Prompt(model, batch, device=torch.device("cpu"))
    found = generate(model, batch, attention(prompt, FP16()))
    tokens = batch.tokens.clone()
    for position in range(batch.prompt + 1, 24):
        with torch.no_grad():
            best = model(tokens[:, :position])[:, -1].argmax(-1)
        if batch.answer[0, position]:
            tokens[:, position] = best
        assert torch.equal(found[:, position - batch.prompt - 1].argmax(-1), best)
    assert not torch.equal(tokens, batch.tokens)
    figures = prompt.evaluate(FP16(), generation="free")
    assert figures.scores == batch.scores(found)
    assert figures.traffic == prompt.evaluate(FP16()).traffic
    # A cache that forgets decodes something else.
    other = generate(model, batch, attention(prompt, StreamingLLM(budget=6)))
    assert not torch.allclose(found, other, atol=1e-2)


def test_step_by_step_is_all_at_once(small: tuple[LanguageModel, Batch]) -> None:
    """The caches go on from call to call: without answers both ways give the same logits."""
    model, batch = small
    nothing = Batch(batch.tokens, torch.zeros_like(batch.answer), prompt=15, unit=1)
    prompt = Prompt(model, nothing, device=torch.device("cpu"))
    stepped = generate(model, nothing, attention(prompt, StreamingLLM(budget=6)))
    again = attention(prompt, StreamingLLM(budget=6))
    with torch.no_grad():
        whole = model(batch.tokens[:, 15:-1], positions=torch.arange(15, 23), attention=again)
    torch.testing.assert_close(stepped, whole)


def test_errors(small: tuple[LanguageModel, Batch]) -> None:
    model, batch = small
    prompt = Prompt(model, batch, device=torch.device("cpu"))
    with pytest.raises(ValueError, match="generation must be one of teacher-forced, free"):
        prompt.evaluate(FP16(), generation="beam")  # type: ignore[arg-type]
    text = Prompt(model, Batch(batch.tokens, batch.answer, 15, 0), device=torch.device("cpu"))
    with pytest.raises(ValueError, match="must be teacher-forced for text, not 'free'"):
        text.evaluate(FP16(), generation="free")
