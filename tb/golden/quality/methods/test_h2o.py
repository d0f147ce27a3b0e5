"""Heavy hitters and recent tokens."""

import pytest
import torch

from golden.quality.methods.h2o import H2O
from tb.golden.quality.small import attended, observe, prompt, step

# Uniform attention over 4 tokens: token 0 has received 1 + 1/2 + 1/3 + 1/4 = 2.083, token 3 1/4.


def test_prompt_keeps_the_heavy_and_the_recent() -> None:
    state = H2O(budget=2).start(prompt(4))
    assert attended(step(state, 4)) == [0, 3, 4]


@pytest.mark.parametrize(("weight", "kept"), [(1.8, 0), (1.9, 3)])
def test_least_accumulated_attention_goes(weight: float, kept: int) -> None:
    """Token 3 needs 1.833 more than token 0; token 4 is protected."""
    state = H2O(budget=2).start(prompt(4))
    observe(state, step(state, 4), {3: weight})
    assert attended(step(state, 5)) == [kept, 4, 5]


def test_recent_tokens_are_protected() -> None:
    """Half of the budget: a token leaves only when it is no longer among the newest two."""
    state = H2O(budget=4).start(prompt(4))
    observe(state, step(state, 4), {1: 0.0})
    # Scores 2.08, 1.08, 0.58, 0.25, 0: of 0, 1 and 2 the last goes, although 3 and 4 have less.
    reading = step(state, 5)
    assert attended(reading) == [0, 1, 3, 4, 5]
    observe(state, reading, {})
    assert attended(step(state, 6)) == [0, 1, 4, 5, 6]


def test_scores_add_up_over_steps() -> None:
    """Twice 1.0 saves token 3 where once does not."""
    state = H2O(budget=3).start(prompt(3))
    observe(state, step(state, 3), {})
    # Now scores 1.83, 0.83, 0.33, 0: 2 is the least not recent.
    reading = step(state, 4)
    assert attended(reading) == [0, 1, 3, 4]
    observe(state, reading, {3: 1.0})
    reading = step(state, 5)
    assert attended(reading) == [0, 3, 4, 5]
    observe(state, reading, {3: 1.0, 4: 1.95})
    assert attended(step(state, 6)) == [3, 4, 5, 6]


def test_ties_go_by_slot() -> None:
    state = H2O(budget=2).start(prompt(1))
    step(state, 1)
    reading = step(state, 2)
    observe(state, reading, {1: 1.0})
    assert attended(step(state, 3)) == [1, 2, 3]


def test_query_heads_are_summed() -> None:
    state = H2O(budget=2).start(prompt(4, rows=2))
    key = torch.zeros(1, 1, 8)
    reading = state.step(torch.zeros(1, 1, 2, 8), key, torch.full((1, 1, 8), 4.0))
    # The prompt's sums are twice as large too: 4.167 and 0.5.
    state.observe(torch.tensor([[[[0.0, 1.9, 0.0], [0.0, 1.7, 0.0]]]]))
    assert attended(reading) == [0, 3, 4]
    later = state.step(torch.zeros(1, 1, 2, 8), key, torch.full((1, 1, 8), 5.0))
    assert attended(later) == [0, 4, 5]


def test_traffic() -> None:
    """3 tokens of 256 B; their scores, 2 B each, are read and written: a burst each way."""
    reading = step(H2O(budget=2).start(prompt(4, width=64)), 4, width=64)
    assert (reading.read, reading.written) == (3 * 256 + 32, 256 + 32)
    # 17 scores take 34 B, two bursts.
    reading = step(H2O(budget=16).start(prompt(40, width=64)), 40, width=64)
    assert (reading.read, reading.written) == (17 * 256 + 64, 256 + 64)


def test_shuffled_keeps_other_tokens() -> None:
    """The control protects the recent tokens and forgets who was heavy."""
    chosen = attended(step(H2O(budget=16, shuffled=True).start(prompt(64)), 64))
    assert chosen[-9:] == list(range(56, 65))
    assert chosen[:8] != list(range(8))
    assert attended(step(H2O(budget=16).start(prompt(64)), 64))[:8] == list(range(8))


def test_parameters() -> None:
    with pytest.raises(ValueError, match="budget must be an integer from 2 up, not 1"):
        H2O(budget=1)
