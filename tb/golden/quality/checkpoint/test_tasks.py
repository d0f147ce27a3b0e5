"""What is asked: lengths, places, answers, bytes."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("transformers", reason="the optional extra 'quality' is not installed")

from golden.checkpoint.files import CheckpointError
from golden.quality.checkpoint.lab import held_out
from golden.quality.checkpoint.load import Checkpoint
from golden.quality.checkpoint.tasks import (
    COPY_WORDS,
    PAIRS,
    TASKS,
    TEXT_STEPS,
    Sample,
    Text,
    make_samples,
)
from tb.golden.quality.checkpoint.small import BOS, merging_tokenizer, spaced_tokenizer

LENGTH = 900


@pytest.fixture(scope="module")
def text(checkpoint: Checkpoint) -> Text:
    return Text(checkpoint, held_out()[:20000])


def samples(checkpoint: Checkpoint, text: Text, task: str, count: int = 2) -> list[Sample]:
    return make_samples(checkpoint, text, task, length=LENGTH, sequences=count, seed=1)


def spoken(checkpoint: Checkpoint, sample: Sample) -> tuple[str, str]:
    """Prompt and turns as text."""
    turns = [token for turn in sample.turns for token in (*turn.request, *turn.answer)]
    return checkpoint.decode(sample.prompt), checkpoint.decode(turns)


@pytest.mark.parametrize("task", TASKS)
def test_every_task(checkpoint: Checkpoint, text: Text, task: str) -> None:
    """As long as the context, begun with BOS, the same again, and different from each other."""
    found = samples(checkpoint, text, task)
    assert [sample.tokens for sample in found] == [LENGTH, LENGTH]
    assert all(sample.prompt[0] == BOS for sample in found)
    assert found == samples(checkpoint, text, task)
    assert found[0] != found[1]


def test_text(checkpoint: Checkpoint, text: Text) -> None:
    """128 predictions of 128 bytes: a token of this tokenizer is a byte."""
    (sample,) = samples(checkpoint, text, "text", 1)
    assert len(sample.turns) == 1
    assert (len(sample.turns[0].request), len(sample.turns[0].answer)) == (1, TEXT_STEPS)
    assert sample.bytes == TEXT_STEPS
    assert "".join(spoken(checkpoint, sample)) in held_out()


def test_bytes_of_longer_characters(checkpoint: Checkpoint) -> None:
    """A is one byte, u with dots two, the euro sign three; the first token of each has them all."""
    short = Text(checkpoint, "a\u00fc\u20aca")
    assert short.ids == list("a\u00fc\u20aca".encode())
    assert short.bytes_of(1, 7) == 6
    assert short.bytes_of(1, 3) == 2
    assert short.bytes_of(3, 6) == 3
    assert short.bytes_of(6, 7) == 1


def test_copy(checkpoint: Checkpoint, text: Text) -> None:
    for sample in samples(checkpoint, text, "copy"):
        prompt, asked = spoken(checkpoint, sample)
        (turn,) = sample.turns
        assert len(turn.text.split()) == COPY_WORDS
        line = f"\nThe secret words are: {turn.text}"
        assert asked == line
        assert prompt.count(line + "\n") == 1
        assert prompt.index(line) <= 0.25 * len(prompt)


def test_recall(checkpoint: Checkpoint, text: Text) -> None:
    """Every line is shown once, in the first half, and asked for once, behind the prompt."""
    for sample in samples(checkpoint, text, "recall"):
        prompt, asked = spoken(checkpoint, sample)
        assert len(sample.turns) == PAIRS
        # A line is 33 tokens; half of the filler is behind the last.
        assert prompt.rindex("The code") < len(prompt) - 200
        assert len(set(re.findall(r"The code of (\w+) is \d{5}\n", prompt))) == PAIRS
        for turn in sample.turns:
            request = checkpoint.decode(turn.request)
            name = re.fullmatch(r"\nThe code of (\w+) is", request)
            assert name is not None
            assert checkpoint.decode(turn.answer) == f" {turn.text}"
            assert prompt.count(f"\nThe code of {name[1]} is {turn.text}\n") == 1
        assert asked.count("The code") == PAIRS


def test_needle(checkpoint: Checkpoint, text: Text) -> None:
    """At depths 1/8, 3/8, 5/8 and 7/8; the question but its last letter is in the prompt."""
    for index, sample in enumerate(samples(checkpoint, text, "needle", 4)):
        prompt, asked = spoken(checkpoint, sample)
        (turn,) = sample.turns
        shown, question = [found.start() for found in re.finditer("\nThe code of", prompt)]
        assert shown / question == pytest.approx((index + 0.5) / 4, abs=0.03)
        assert prompt[question:] == prompt[shown : shown + len(prompt) - question]
        assert prompt.endswith(" i")
        assert asked == f"s {turn.text}"


@pytest.mark.parametrize("make", [merging_tokenizer, spaced_tokenizer])
def test_tokens_of_several_letters(checkpoint: Checkpoint, make: Callable[[str], Any]) -> None:
    """Answers are cut where they begin and end, and every byte is counted once."""
    text = held_out()[:20000] + "\u00e4\u20ac " * 20
    other = replace(checkpoint, tokenizer=make(text))
    pieces = Text(other, text)
    assert len(pieces.ids) < 0.8 * len(text)
    first = len(text[: other.encode_with_ends(text)[1][0]].encode())
    assert pieces.bytes_of(1, len(pieces.ids)) == len(text.encode()) - first
    for task in TASKS:
        for sample in make_samples(other, pieces, task, length=500, sequences=2, seed=1):
            assert sample.tokens == 500
            prompt, _ = spoken(other, sample)
            for turn in sample.turns if task != "text" else ():
                assert other.decode(turn.answer).strip() == turn.text
                assert prompt.count(f" {turn.text}\n") == 1


def test_errors(checkpoint: Checkpoint, text: Text) -> None:
    with pytest.raises(CheckpointError, match=r"task must be one of text, copy, .* not 'qa'"):
        samples(checkpoint, text, "qa")
    for length in (135, 1025):
        with pytest.raises(CheckpointError, match=rf"context must be 136\.\.1024, not {length}"):
            make_samples(checkpoint, text, "text", length=length, sequences=1, seed=1)
    with pytest.raises(CheckpointError, match="context must be longer for this task, not 400"):
        make_samples(checkpoint, text, "recall", length=400, sequences=1, seed=1)
    with pytest.raises(CheckpointError, match=r"text must have more than 899 .* not 3"):
        samples(checkpoint, Text(checkpoint, "abc"), "text")
    assert Text(checkpoint, "abc").place(np.random.default_rng(0), 2) == 1
