"""Tokens that were important stay important."""

import pytest

from golden.quality.methods.scissorhands import Scissorhands
from tb.golden.quality.small import attended, observe, prompt, step


def after_the_drop(window: int, marked: list[dict[int, float]]) -> list[int]:
    """What is left of tokens 0 to 5 after five steps with these attentions, and token 6."""
    state = Scissorhands(budget=6, recent=1, window=window).start(prompt(1))
    for position, attention in enumerate(marked, start=1):
        observe(state, step(state, position), attention)
    return attended(step(state, 6))


#: Step p compares with 1 / (p + 1): 0.5, 0.333, 0.25, 0.2, 0.167.
MARKS = [{0: 0.6}, {0: 0.4}, {1: 0.3}, {2: 0.25}, {1: 0.2}]


def test_counts_in_the_window() -> None:
    """Of the last 3 steps two marked token 1 and one token 2; in all five, two marked token 0."""
    assert after_the_drop(3, MARKS) == [1, 2, 5, 6]
    assert after_the_drop(10, MARKS) == [0, 1, 5, 6]


def test_threshold() -> None:
    """What stays at or below 1 / t does not count."""
    weak = [{0: 0.6}, {0: 0.4}, {1: 0.24}, {2: 0.25}, {1: 0.16}]
    assert after_the_drop(3, weak) == [0, 2, 5, 6]


def test_threshold_counts_all_tokens_so_far() -> None:
    """Of 23 tokens 6 are held: 0.1 is above 1/23, though below 1/6."""
    state = Scissorhands(budget=6, recent=1, window=1).start(prompt(20))
    for position in (20, 21, 22):
        reading = step(state, position)
        wanted = attended(reading)[2]
        observe(state, reading, {wanted: 0.1})
    assert wanted in attended(step(state, 23))


def test_occupancy_is_a_saw_tooth() -> None:
    state = Scissorhands(budget=6, recent=1).start(prompt(1))
    lengths = []
    for position in range(1, 12):
        reading = step(state, position)
        observe(state, reading, {})
        lengths.append(reading.keys.shape[-2])
    assert lengths == [2, 3, 4, 5, 6, 4, 5, 6, 4, 5, 6]


def test_recent_tokens_are_protected() -> None:
    state = Scissorhands(budget=6, recent=3).start(prompt(20))
    assert attended(step(state, 20)) == [17, 18, 19, 20]


def test_traffic() -> None:
    """Three tokens stay of a full cache; counts (2 B) and marks (1 bit) take a burst each."""
    reading = step(Scissorhands(budget=6, recent=1).start(prompt(6, width=64)), 6, width=64)
    assert (reading.read, reading.written) == (4 * 256 + 64, 256 + 64)
    # 101 tokens: 202 B of counts; two query heads need two bits each, 26 B of marks.
    method = Scissorhands(budget=200, recent=1)
    two = method.start(prompt(100, width=64, rows=2))
    zero = prompt(1, width=64, rows=2)
    reading = two.step(zero.query[..., 0, :], zero.key[..., 0, :], zero.value[..., 0, :])
    assert reading.read == 101 * 256 + 224 + 32


def test_shuffled() -> None:
    prefill = prompt(64)
    # The last query of the prompt wants token 7 alone.
    prefill.query[..., -1, 0], prefill.key[..., 7, 0] = 30.0, 30.0
    method = Scissorhands(budget=4, recent=1, window=1)
    assert attended(step(method.start(prefill), 64)) == [7, 63, 64]
    shuffled = Scissorhands(budget=4, recent=1, window=1, shuffled=True)
    assert attended(step(shuffled.start(prefill), 64)) != [7, 63, 64]


def test_parameters() -> None:
    with pytest.raises(ValueError, match="budget must be an integer from 20 up, not 19"):
        Scissorhands(budget=19)
