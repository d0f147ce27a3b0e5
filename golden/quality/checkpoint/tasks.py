"""What is asked of a checkpoint, in its own tokens; text that is needed comes from a file.

text : bits per byte of the last `TEXT_STEPS` tokens of a piece of the text, teacher-forced.
copy : a line with `COPY_WORDS` words in the first quarter of the text, asked for at the end; share
    of the words that are right. The prompt ends before the request.
recall : `PAIRS` lines ``The code of Oslo is 12345`` in the first half of the text, then the same
    lines again, the numbers to be given; share of numbers that are right. The prompt ends before
    the first request.
needle : one such line at an even spread of depths; the question is part of the prompt.

A sequence has as many tokens as the context, the right answers included.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from golden.checkpoint.files import CheckpointError
from golden.quality.checkpoint.load import Checkpoint

__all__ = ["COPY_WORDS", "PAIRS", "TASKS", "TEXT_STEPS", "Sample", "Text", "Turn", "make_samples"]

TASKS = ("text", "copy", "recall", "needle")
TEXT_STEPS = 128
COPY_WORDS = 16
PAIRS = 8
_FILE = json.loads(Path(__file__).with_name("words.json").read_text())
_NAMES: list[str] = _FILE["names"]
_WORDS: list[str] = _FILE["words"]


@dataclass(frozen=True)
class Turn:
    """Tokens that are given, and what should follow them.

    Members
    -------
    request : token ids, at least one.
    answer : token ids of the right answer.
    text : the right answer.
    """

    request: list[int]
    answer: list[int]
    text: str


@dataclass(frozen=True)
class Sample:
    """One sequence.

    Members
    -------
    prompt : token ids that are attended to exactly.
    turns : what comes step by step.
    bytes : of the text of the answers, of a text sample; 0 of the others.
    """

    prompt: list[int]
    turns: list[Turn]
    bytes: int = 0

    @property
    def tokens(self) -> int:
        """Of the whole sequence, right answers included."""
        return len(self.prompt) + sum(len(turn.request) + len(turn.answer) for turn in self.turns)


class Text:
    """A text in a checkpoint's tokens, and the bytes up to the end of each."""

    def __init__(self, checkpoint: Checkpoint, text: str) -> None:
        self.ids, ends = checkpoint.encode_with_ends(text)
        size = np.cumsum([0, *(len(character.encode()) for character in text)])
        self._bytes = size[np.array(ends, dtype=np.int64)] if ends else size[:0]

    def bytes_of(self, start: int, stop: int) -> int:
        """Bytes that the tokens ``start`` to ``stop - 1`` stand for; ``start`` is at least 1."""
        return int(self._bytes[stop - 1] - self._bytes[start - 1])

    def place(self, rng: np.random.Generator, length: int) -> int:
        """Where a random piece of ``length`` tokens starts; at least one token is before it.

        Raises
        ------
        CheckpointError
            The text is too short.
        """
        if len(self.ids) <= length:
            raise CheckpointError(
                f"text must have more than {length} of the checkpoint's tokens, not {len(self.ids)}"
            )
        return int(rng.integers(1, len(self.ids) - length + 1))

    def filler(self, rng: np.random.Generator, length: int) -> list[int]:
        """A random piece of ``length`` tokens."""
        start = self.place(rng, length)
        return self.ids[start : start + length]


def _turns(checkpoint: Checkpoint, questions: Sequence[tuple[str, str]]) -> list[Turn]:
    """Questions and answers in one text, cut where an answer begins and where it ends.

    A line break ends an answer: no tokenizer puts it into the token of a digit or a word.
    """
    text, cuts = "", []
    for request, answer in questions:
        text += request
        cuts.append((len(text), len(text) + len(answer)))
        text += answer
    ids, ends = checkpoint.encode_with_ends(text + "\n")
    turns: list[Turn] = []
    start = 0
    for (begin, end), (_, answer) in zip(cuts, questions, strict=True):
        first = next(place for place, reached in enumerate(ends) if reached > begin)
        # The last token of the answer is the first that reaches its end.
        stop = next(place for place, reached in enumerate(ends) if reached >= end) + 1
        turns.append(Turn(ids[start:first], ids[first:stop], answer.strip()))
        start = stop
    return turns


def _insert(filler: list[int], pieces: Sequence[tuple[int, list[int]]]) -> list[int]:
    """Each piece before the filler token whose index it names; indices ascend."""
    found: list[int] = []
    start = 0
    for place, piece in pieces:
        found += [*filler[start:place], *piece]
        start = place
    return found + filler[start:]


def _pairs(rng: np.random.Generator, count: int) -> list[tuple[str, str]]:
    """Requests with different names, and answers."""
    names = rng.choice(_NAMES, count, replace=False)
    codes = rng.integers(10000, 100000, count)
    return [
        (f"\nThe code of {name} is", f" {code}") for name, code in zip(names, codes, strict=True)
    ]


def _text(checkpoint: Checkpoint, text: Text, rng: np.random.Generator, length: int) -> Sample:
    start = text.place(rng, length - len(checkpoint.start))
    stop = start + length - len(checkpoint.start)
    first = stop - TEXT_STEPS
    prompt = [*checkpoint.start, *text.ids[start : first - 1]]
    turn = Turn(text.ids[first - 1 : first], text.ids[first:stop], "")
    return Sample(prompt, [turn], text.bytes_of(first, stop))


def _asked(
    checkpoint: Checkpoint,
    text: Text,
    rng: np.random.Generator,
    length: int,
    shown: list[tuple[str, str]],
    asked: list[tuple[str, str]],
    reach: tuple[float, float],
) -> Sample:
    """Lines somewhere between two shares of the filler, and questions behind it."""
    turns = _turns(checkpoint, asked)
    pieces = [checkpoint.encode(f"{request}{answer}\n") for request, answer in shown]
    room = length - len(checkpoint.start) - sum(map(len, pieces))
    room -= sum(len(turn.request) + len(turn.answer) for turn in turns)
    if room < 2:
        raise CheckpointError(f"context must be longer for this task, not {length}")
    low, high = (round(share * room) for share in reach)
    places = sorted(int(place) for place in rng.integers(low, high + 1, len(pieces)))
    filler = text.filler(rng, room)
    found = _insert(filler, list(zip(places, pieces, strict=True)))
    return Sample([*checkpoint.start, *found], turns)


def _copy(checkpoint: Checkpoint, text: Text, rng: np.random.Generator, length: int) -> Sample:
    words = " ".join(rng.choice(_WORDS, COPY_WORDS))
    line = [("\nThe secret words are:", f" {words}")]
    return _asked(checkpoint, text, rng, length, line, line, (0.0, 0.25))


def _recall(checkpoint: Checkpoint, text: Text, rng: np.random.Generator, length: int) -> Sample:
    pairs = _pairs(rng, PAIRS)
    order = [pairs[int(place)] for place in rng.permutation(PAIRS)]
    return _asked(checkpoint, text, rng, length, pairs, order, (0.0, 0.5))


def _needle(
    checkpoint: Checkpoint, text: Text, rng: np.random.Generator, length: int, depth: float
) -> Sample:
    pairs = _pairs(rng, 1)
    found = _asked(checkpoint, text, rng, length, pairs, pairs, (depth, depth))
    # The last token of the question is the first step: its prediction begins the answer.
    turn = found.turns[0]
    step = Turn(turn.request[-1:], turn.answer, turn.text)
    return Sample([*found.prompt, *turn.request[:-1]], [step])


def make_samples(
    checkpoint: Checkpoint, text: Text, task: str, *, length: int, sequences: int, seed: int
) -> list[Sample]:
    """``sequences`` samples of ``length`` tokens; the same for the same arguments.

    Raises
    ------
    CheckpointError
        There is no such task, or the text or the context is too short for it.
    """
    if task not in TASKS:
        raise CheckpointError(f"task must be one of {', '.join(TASKS)}, not {task!r}")
    if not TEXT_STEPS + 8 <= length <= checkpoint.context:
        raise CheckpointError(
            f"context must be {TEXT_STEPS + 8}..{checkpoint.context}, not {length!r}"
        )
    rng = np.random.default_rng([seed, length, TASKS.index(task)])
    if task == "needle":
        depths = [(index + 0.5) / sequences for index in range(sequences)]
        return [_needle(checkpoint, text, rng, length, depth) for depth in depths]
    make = {"text": _text, "copy": _copy, "recall": _recall}[task]
    return [make(checkpoint, text, rng, length) for _ in range(sequences)]
