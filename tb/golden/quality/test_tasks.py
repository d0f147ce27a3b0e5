"""The batches and how they are scored."""

import numpy as np
import pytest
import torch

from golden.model.corpus import held_out_tokens
from golden.model.tasks import ASK, KEY
from golden.quality.tasks import TASKS, TEXT_STEPS, Batch, make_batch, needle_prompt

TEXT = held_out_tokens()


@pytest.mark.parametrize("task", sorted(TASKS))
def test_answers_come_after_the_prompt(task: str) -> None:
    batch = make_batch(task, TEXT, length=512, sequences=3, seed=1)
    assert batch.tokens.shape == (3, 512)
    asked = [torch.nonzero(row).flatten() for row in batch.answer]
    # The first decode step feeds token `prompt` and predicts the next one.
    assert min(int(row.min()) for row in asked) > batch.prompt
    assert {len(row) for row in asked} == {
        {"text": TEXT_STEPS, "copy": 32, "recall": 48, "needle": 3}[task]
    }
    assert torch.equal(batch.tokens, make_batch(task, TEXT, length=512, sequences=3, seed=1).tokens)
    other = make_batch(task, TEXT, length=512, sequences=3, seed=2)
    assert not torch.equal(batch.tokens, other.tokens)


def test_questions_are_decoded() -> None:
    """Recall: the prompt ends before the first ASK. Needle: before the last letter of the key."""
    recall = make_batch("recall", TEXT, length=512, sequences=1, seed=1)
    assert int(recall.tokens[0, recall.prompt]) == ASK
    assert ASK not in recall.tokens[0, : recall.prompt]
    needle = make_batch("needle", TEXT, length=512, sequences=1, seed=1)
    assert needle.tokens[0, needle.prompt - 3] == ASK
    assert needle.answer[0].nonzero().flatten().tolist() == [509, 510, 511]


def test_needle_depths() -> None:
    """One pair at an even spread of depths, asked for at the end."""
    batch = make_batch("needle", TEXT, length=512, sequences=4, seed=1)
    for index, tokens in enumerate(batch.tokens):
        places = (tokens == KEY).nonzero().flatten().tolist()
        assert places == [1 + round((index + 0.5) / 4 * 497)]
        pair = tokens[places[0] + 1 : places[0] + 7]
        assert torch.equal(pair, tokens[-6:])
    rng = np.random.default_rng(0)
    assert needle_prompt(rng, TEXT, 100, 0.0).tokens[1] == KEY
    assert needle_prompt(rng, TEXT, 100, 1.0).tokens[86] == KEY


def small_batch(unit: int) -> Batch:
    """Prompt of 1; token 2 is fed unasked, 3 to 6 are answers."""
    tokens = torch.tensor([[0, 1, 2, 3, 4, 5]])
    return Batch(tokens, torch.tensor([[False, False, True, True, True, True]]), 1, unit)


@pytest.mark.parametrize(("unit", "expected"), [(1, 0.75), (2, 0.5), (4, 0.0)])
def test_right_answers(unit: int, expected: float) -> None:
    """Predictions 2, 3, 4 and 9: three letters, one answer of two letters, none of four."""
    logits = torch.zeros(1, 4, 10)
    for place, token in enumerate((2, 3, 4, 9)):
        logits[0, place, token] = 1.0
    assert small_batch(unit).scores(logits) == [expected]


def test_bits_per_byte() -> None:
    """Probability 1/4 for each right byte is 2 bits; what is no byte does not count."""
    logits = torch.full((1, 4, 300), -torch.inf)
    for place, token in enumerate((2, 3, 4, 5)):
        logits[0, place, [token, 100, 101, 102]] = 0.0
    assert small_batch(0).scores(logits) == pytest.approx([2.0])
    batch = small_batch(0)
    batch.tokens[0, 3] = 256
    logits[0, 1] = 0.0
    assert batch.scores(logits) == pytest.approx([2.0])


def test_errors() -> None:
    with pytest.raises(ValueError, match="task must be one of"):
        make_batch("sums", TEXT, length=512, sequences=1, seed=1)
    with pytest.raises(ValueError, match="sequences must be positive, not 0"):
        make_batch("copy", TEXT, length=512, sequences=0, seed=1)
