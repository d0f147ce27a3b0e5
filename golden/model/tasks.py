"""Synthetic tasks that need exact recall of text seen far back: copy and key-value look-up.

Special tokens (ids above the 256 bytes)::

    BOS  starts a sequence or a document
    COPY precedes a string of letters; its second occurrence asks for the same letters again
    KEY  precedes a pair: three key letters, then three value letters
    ASK  precedes a key asked for; the value is expected to follow

Copy:     ``BOS ... COPY s1..s32 ... COPY s1..s32``            (score: letters right)
Look-up:  ``BOS ... KEY abcxyz ... KEY defuvw ... ASK abcxyz`` (score: values right, all 3 letters)

``...`` is filler text. Keys differ from each other; letters are uniform over a..z.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "ASK",
    "BOS",
    "COPY",
    "COPY_LETTERS",
    "KEY",
    "PAIRS",
    "SPELL",
    "Sample",
    "ask_copy",
    "ask_value",
    "copy_task",
    "join",
    "query_order",
    "random_letters",
    "random_pairs",
    "recall_task",
    "show_copy",
    "show_pair",
]

BOS, COPY, KEY, ASK = 256, 257, 258, 259
COPY_LETTERS = 32
PAIRS = 16
SPELL = 3
"""Letters in a key, and letters in a value."""

Tokens = NDArray[np.int64]


@dataclass(frozen=True)
class Sample:
    """A token sequence and which of its tokens are answers.

    Members
    -------
    tokens : ids, int64 [T].
    answer : bool [T]; True where the token is to be predicted from the tokens before it.
    """

    tokens: Tokens
    answer: NDArray[np.bool_]


def random_letters(rng: np.random.Generator, count: int) -> Tokens:
    """``count`` uniform lower-case letters, as byte ids."""
    return rng.integers(ord("a"), ord("z") + 1, count)


def random_pairs(rng: np.random.Generator, pairs: int) -> tuple[Tokens, Tokens]:
    """Distinct keys and uniform values, each int64 [pairs, SPELL]."""
    codes = rng.choice(26**SPELL, size=pairs, replace=False)
    digits = [codes // 26 ** (SPELL - 1 - i) % 26 + ord("a") for i in range(SPELL)]
    return np.stack(digits, axis=1), random_letters(rng, pairs * SPELL).reshape(pairs, SPELL)


def join(filler: Tokens, segments: list[tuple[int, Sample]]) -> Sample:
    """Insert each segment before the filler token whose index it names.

    Raises ValueError when the indices are not ascending within 0..len(filler).
    """
    tokens: list[Tokens] = []
    answer: list[NDArray[np.bool_]] = []
    start = 0
    for index, segment in [*segments, (len(filler), Sample(filler[:0], np.zeros(0, bool)))]:
        if not start <= index <= len(filler):
            raise ValueError(f"index must be in {start}..{len(filler)}, not {index!r}")
        tokens += [filler[start:index], segment.tokens]
        answer += [np.zeros(index - start, bool), segment.answer]
        start = index
    return Sample(np.concatenate(tokens), np.concatenate(answer))


def _segment(marker: int, letters: Tokens, answers: int) -> Sample:
    tokens = np.concatenate((np.array([marker]), letters))
    return Sample(tokens, np.arange(len(tokens)) >= len(tokens) - answers)


def show_copy(string: Tokens) -> Sample:
    """COPY and the letters; nothing is asked."""
    return _segment(COPY, string, 0)


def ask_copy(string: Tokens) -> Sample:
    """COPY and the letters, every one of which is an answer."""
    return _segment(COPY, string, len(string))


def show_pair(key: Tokens, value: Tokens) -> Sample:
    """KEY, key and value; nothing is asked."""
    return _segment(KEY, np.concatenate((key, value)), 0)


def ask_value(key: Tokens, value: Tokens) -> Sample:
    """ASK, key and value; the letters of the value are answers."""
    return _segment(ASK, np.concatenate((key, value)), len(value))


def copy_task(rng: np.random.Generator, filler: Tokens, *, letters: int = COPY_LETTERS) -> Sample:
    """One string early in the sequence, asked for at its end.

    The string stands at a random place in the first quarter of the filler, so that the distance
    is at least three quarters of it. The result has ``len(filler) + 2 * (letters + 1)`` tokens.
    """
    string = random_letters(rng, letters)
    early = int(rng.integers(0, len(filler) // 4 + 1))
    return join(filler, [(early, show_copy(string)), (len(filler), ask_copy(string))])


def query_order(rng: np.random.Generator, pairs: int, queries: int) -> Tokens:
    """Which pair each query asks for: every one once before any is asked for twice."""
    rounds = -(-queries // pairs)
    return np.concatenate([rng.permutation(pairs) for _ in range(rounds)])[:queries]


def recall_task(
    rng: np.random.Generator, filler: Tokens, *, pairs: int = PAIRS, queries: int = PAIRS
) -> Sample:
    """Pairs scattered over the first half of the filler, queries at the end.

    The order of the queries is `query_order`. The result has
    ``len(filler) + pairs * 7 + queries * 7`` tokens.
    """
    keys, values = random_pairs(rng, pairs)
    places = np.sort(rng.integers(0, len(filler) // 2 + 1, pairs))
    shown = [
        (int(place), show_pair(key, value))
        for place, key, value in zip(places, keys, values, strict=True)
    ]
    order = query_order(rng, pairs, queries)
    asked = [(len(filler), ask_value(keys[i], values[i])) for i in order]
    return join(filler, shown + asked)
