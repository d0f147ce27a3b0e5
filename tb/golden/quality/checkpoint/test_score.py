"""Scores by hand, and bits per byte of the trained model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor

pytest.importorskip("transformers", reason="the optional extra 'quality' is not installed")

from golden.model.weights import load_model
from golden.quality.checkpoint import score as module
from golden.quality.checkpoint.lab import held_out
from golden.quality.checkpoint.load import Checkpoint, load
from golden.quality.checkpoint.score import Prompts, perplexity
from golden.quality.checkpoint.session import Continuation
from golden.quality.checkpoint.tasks import Sample, Text, Turn, make_samples
from golden.quality.decode import Traffic
from golden.quality.methods import FP16, StreamingLLM
from tb.golden.quality.checkpoint.small import BOS, save


class Script:
    """Stands for a prompt and its continuation: says what it is told to, as the model would."""

    def __init__(self, *answers: str) -> None:
        self._answers = list(answers)
        self.traffic = Traffic(1, 2, 3)

    def decode(self, *arguments: Any, **named: Any) -> Script:
        return self

    def generate(self, ids: Sequence[int], *, limit: int, stop: Any) -> list[int]:
        text = self._answers.pop(0)
        found: list[int] = []
        for byte in text.encode()[:limit]:
            found.append(byte)
            if stop(bytes(found).decode()):
                break
        return found

    def force(self, request: Sequence[int], answer: Sequence[int]) -> Tensor:
        """What is said has the logit 1."""
        said = torch.tensor(list(self._answers.pop(0).encode()))
        return torch.nn.functional.one_hot(said, 256).float()


def turn(text: str) -> Turn:
    return Turn([1], list(f" {text}".encode()), text)


def score(
    checkpoint: Checkpoint,
    monkeypatch: pytest.MonkeyPatch,
    turns: list[Turn],
    said: list[str],
    **named: Any,
) -> float:
    monkeypatch.setattr(module, "Prefilled", lambda *arguments: Script(*said))
    found = Prompts(checkpoint, [Sample([BOS], turns)]).evaluate(0, FP16(), **named)
    assert found.traffic == Traffic(1, 2, 3)
    return found.scores[0]


@pytest.mark.parametrize(
    ("said", "right"),
    [
        (" 12345.\nThe", 1.0),
        ("\n12345", 1.0),
        (" 12346", 0.0),
        (" 1234.", 0.0),
        ("12345", 1.0),
        ("", 0.0),
        (".12345", 0.0),
    ],
)
def test_a_number(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch, said: str, right: float
) -> None:
    assert score(checkpoint, monkeypatch, [turn("12345")], [said]) == right


def test_several_numbers(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    turns = [turn(str(number)) for number in (11111, 22222, 33333, 44444)]
    said = [" 11111", " 22221", " 33333", " 44444"]
    assert score(checkpoint, monkeypatch, turns, said) == 0.75


def test_words(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each by its place: the second is wrong, the fourth missing."""
    turns = [turn("red green blue grey")]
    assert score(checkpoint, monkeypatch, turns, [" red lime blue.\n"]) == 0.5


def test_teacher_forced(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """A number with a wrong digit is wrong; of words two of eight letters are."""
    forced: dict[str, Any] = {"generation": "teacher-forced"}
    turns = [turn("12345"), turn("67890")]
    assert score(checkpoint, monkeypatch, turns, [" 12345", " 67891"], **forced) == 0.5
    assert score(checkpoint, monkeypatch, [turn("red kid")], [" rad kit"], **forced) == 0.75


def test_bits(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of three letters has probability 1/8: nine bits over two bytes, perplexity 8."""

    class Eighth(Script):
        def force(self, request: Sequence[int], answer: Sequence[int]) -> Tensor:
            logits = torch.full((3, 256), -torch.inf)
            logits[:, ord("a") : ord("i")] = 0.5
            return logits

    monkeypatch.setattr(module, "Prefilled", lambda *arguments: Eighth())
    sample = Sample([BOS], [Turn([1], list(b"abh"), "")], bytes=2)
    found = Prompts(checkpoint, [sample]).evaluate(0, FP16())
    assert found.scores == pytest.approx([4.5])
    assert perplexity([sample, sample], [4.5, 4.5]) == pytest.approx(8.0)
    # Twice the bytes, half of the bits per byte: the same nine bits.
    other = Sample(sample.prompt, sample.turns, bytes=4)
    assert perplexity([sample, other], [4.5, 2.25]) == pytest.approx(8.0)


def test_the_trained_model(tmp_path: Path) -> None:
    """As a checkpoint it predicts text as well as it does here, token by token."""
    model = load_model()
    checkpoint = load(save(tmp_path, model), device=torch.device("cpu"))
    text = Text(checkpoint, held_out()[:3000])
    (sample,) = make_samples(checkpoint, text, "text", length=300, sequences=1, seed=2)
    prompts = Prompts(checkpoint, [sample])
    exact = prompts.evaluate(0, FP16())
    tokens = [*sample.prompt, *sample.turns[0].request, *sample.turns[0].answer]
    with torch.no_grad():
        logits = model(torch.tensor([tokens]))[0, -129:-1].double().log_softmax(-1)
    picked = logits.gather(-1, torch.tensor(tokens[-128:])[:, None])
    expected = -float(picked.mean()) / torch.log(torch.tensor(2.0)).item()
    assert exact.scores[0] == pytest.approx(expected, abs=1e-3)
    assert 0.5 < expected < 4
    assert prompts.evaluate(0, StreamingLLM(budget=8)).scores[0] > expected + 0.02


def test_prompts_are_attended_to_once(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[list[int]] = []

    def record(_: Checkpoint, ids: list[int]) -> Continuation:
        made.append(ids)
        return cast(Continuation, Script(" 1", " 1"))

    monkeypatch.setattr(module, "Prefilled", record)
    prompts = Prompts(checkpoint, [Sample([5], [turn("1")]), Sample([6], [turn("1")])])
    for index in (0, 0, 1, 1):
        prompts.evaluate(index, FP16())
    assert made == [[5], [6]]
