"""What the end of the prompt votes for."""

import pytest
import torch

from golden.quality.interface import Prefill
from golden.quality.methods.snapkv import SnapKV
from tb.golden.quality.small import attended, prompt, step


def voting_prompt(tokens: int = 12, wanted: int = 6) -> Prefill:
    """The last two queries want token ``wanted``; the earlier ones want token 1."""
    keys = torch.zeros(tokens, 8)
    keys[wanted, 0], keys[1, 1] = 9.0, 9.0
    prefill = prompt(tokens, keys=keys)
    prefill.query[..., -2:, 0] = 9.0
    prefill.query[..., :-2, 1] = 9.0
    return prefill


def test_the_window_votes() -> None:
    """Window 2 and one token more; what earlier queries wanted does not count."""
    state = SnapKV(budget=3, window=2, kernel=1).start(voting_prompt())
    assert attended(step(state, 12)) == [6, 10, 11, 12]


def test_pooling_keeps_neighbours() -> None:
    state = SnapKV(budget=5, window=2, kernel=3).start(voting_prompt())
    assert attended(step(state, 12)) == [5, 6, 7, 10, 11, 12]
    state = SnapKV(budget=5, window=2, kernel=1).start(voting_prompt())
    assert attended(step(state, 12)) != [5, 6, 7, 10, 11, 12]


def test_chosen_once_and_generated_tokens_stay() -> None:
    state = SnapKV(budget=3, window=2, kernel=1).start(voting_prompt())
    for position in range(12, 20):
        reading = step(state, position, query=torch.ones(8), key=torch.ones(8))
    assert attended(reading) == [6, 10, 11, *range(12, 20)]


def test_a_short_prompt_stays_whole() -> None:
    state = SnapKV(budget=12, window=2, kernel=3).start(voting_prompt())
    assert attended(step(state, 12)) == list(range(13))


def test_query_heads_vote_together() -> None:
    """One head gives token 6 all its attention, which outweighs the other's even spread."""
    prefill = voting_prompt()
    both = prompt(12, rows=2, keys=prefill.key[0, 0])
    both.query[:, :, 1] = prefill.query[:, :, 0]
    state = SnapKV(budget=3, window=2, kernel=1).start(both)
    reading = state.step(torch.zeros(1, 1, 2, 8), torch.zeros(1, 1, 8), torch.full((1, 1, 8), 12.0))
    assert attended(reading) == [6, 10, 11, 12]


def test_traffic() -> None:
    state = SnapKV(budget=3, window=2, kernel=1).start(prompt(12, width=64))
    reading = step(state, 12, width=64)
    assert (reading.read, reading.written) == (4 * 256, 256)
    assert step(state, 13, width=64).read == 5 * 256


def test_shuffled() -> None:
    state = SnapKV(budget=3, window=2, kernel=1, shuffled=True).start(voting_prompt(60))
    assert attended(step(state, 60)) != [6, 58, 59, 60]


def test_parameters() -> None:
    with pytest.raises(ValueError, match="budget must be an integer from 33 up, not 32"):
        SnapKV(budget=32)
    with pytest.raises(ValueError, match="kernel must be odd, not 4"):
        SnapKV(kernel=4)
