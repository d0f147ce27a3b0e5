"""Sinks, ring, selected tokens."""

import pytest

from golden.quality.interface import Prefill
from golden.quality.methods.snapstream import SnapStream
from tb.golden.quality.small import attended, prompt, step

#: One sink, a ring of 4, three selected tokens.
SMALL = SnapStream(budget=8, sinks=1, window=2, kernel=1)


def voting_prompt(wanted: int, tokens: int = 20) -> Prefill:
    """The last two queries want one token."""
    prefill = prompt(tokens)
    prefill.key[..., wanted, 0] = 9.0
    prefill.query[..., -2:, 0] = 9.0
    return prefill


def test_parts() -> None:
    """Token 9 has the votes; equal ones go by index: 1 and 2. The ring holds 17 to 20."""
    assert attended(step(SMALL.start(voting_prompt(9)), 20)) == [0, 1, 2, 9, 17, 18, 19, 20]


def test_a_needle_in_the_prompt_survives_and_a_decoded_token_expires() -> None:
    state = SMALL.start(voting_prompt(9))
    for position in range(20, 30):
        reading = step(state, position)
    assert attended(reading) == [0, 1, 2, 9, 26, 27, 28, 29]


def test_average_pooling() -> None:
    """Over 3 tokens the neighbours of the wanted one score as it does."""
    state = SnapStream(budget=8, sinks=1, window=2, kernel=3).start(voting_prompt(9))
    assert attended(step(state, 20)) == [0, 8, 9, 10, 17, 18, 19, 20]


def test_short_prompts() -> None:
    state = SMALL.start(prompt(3))
    assert attended(step(state, 3)) == [0, 1, 2, 3]
    assert attended(step(SMALL.start(prompt(6)), 6)) == [0, 1, 3, 4, 5, 6]


def test_traffic_is_constant() -> None:
    for wanted in (5, 9):
        state = SMALL.start(voting_prompt(wanted))
        for position in range(20, 26):
            reading = step(state, position)
            # 8 channels fill a burst: 64 B a token.
            assert (reading.read, reading.written) == (8 * 64, 64)


def test_shuffled() -> None:
    method = SnapStream(budget=8, sinks=1, window=2, kernel=1, shuffled=True)
    assert attended(step(method.start(voting_prompt(9, 60)), 60)) != [0, 1, 2, 9, 57, 58, 59, 60]


def test_parameters() -> None:
    with pytest.raises(ValueError, match="budget must be an integer from 10 up, not 9"):
        SnapStream(budget=9)
    with pytest.raises(ValueError, match="kernel must be odd, not 2"):
        SnapStream(kernel=2)
