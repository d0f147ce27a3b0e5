"""A cache of constant size."""

import pytest
import torch

from golden.quality.methods.fp16 import FP16
from golden.quality.methods.rce import RCE, decayed_attention
from tb.golden.quality.small import attended, observe, prompt, random_prompt, step

# Uniform attention over 6 tokens gives tokens 0 to 5: 2.45, 1.45, 0.95, 0.62, 0.37, 0.17.
SMALL = RCE(budget=5, decay=1.0, sinks=1, recent=2)


def test_prompt_keeps_sinks_recent_and_the_relevant() -> None:
    """0, 4 and 5 are protected, 1 and 2 have the most; 2 makes room for 6."""
    assert attended(step(SMALL.start(prompt(6)), 6)) == [0, 1, 4, 5, 6]


@pytest.mark.parametrize(("weight", "kept"), [(1.0, 1), (1.1, 4)])
def test_least_relevant_is_replaced(weight: float, kept: int) -> None:
    """Token 4 needs 1.083 more than token 1; 0 is a sink, 5 and 6 are recent."""
    state = SMALL.start(prompt(6))
    observe(state, step(state, 6), {4: weight})
    assert attended(step(state, 7)) == sorted([0, kept, 5, 6, 7])


@pytest.mark.parametrize(("decay", "kept"), [(1.0, 1), (0.0, 4)])
def test_decay(decay: float, kept: int) -> None:
    """With decay 0 the latest attention alone counts: a little suffices."""
    state = RCE(budget=5, decay=decay, sinks=1, recent=2).start(prompt(6))
    reading = step(state, 6)
    # Tokens 1 and 2 tie where only the last query of the prompt counts: the lower slot goes.
    assert attended(reading) == [0, 2 if decay == 0 else 1, 4, 5, 6]
    observe(state, reading, {4: 0.1})
    assert attended(step(state, 7)) == sorted([0, kept, 5, 6, 7])


@pytest.mark.parametrize("decay", [1.0, 0.0])
def test_old_attention_is_forgotten(decay: float) -> None:
    """A token that was wanted a step ago against token 5, which is wanted a little now."""
    state = RCE(budget=5, decay=decay, sinks=1, recent=2).start(prompt(6))
    reading = step(state, 6)
    old = attended(reading)[1]
    observe(state, reading, {old: 0.9, 4: 0.1})
    reading = step(state, 7)
    assert attended(reading) == [0, old, 5, 6, 7]
    observe(state, reading, {5: 0.1})
    assert attended(step(state, 8)) == sorted([0, 5 if decay == 0 else old, 6, 7, 8])


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.97, 1.0])
def test_relevance_of_the_prompt(decay: float) -> None:
    """The recurrence, query by query; 300 tokens are more than one block."""
    prefill = random_prompt(300, width=4)
    expected = torch.zeros(2, 2, 300)
    for row in range(300):
        expected *= decay
        expected[..., : row + 1] += prefill.probabilities(row, row + 1).sum((2, 3))
    torch.testing.assert_close(decayed_attention(prefill, decay), expected, atol=1e-4, rtol=1e-4)


def test_constant_size_and_traffic() -> None:
    """min(t, B) tokens; from then on the same bytes in every step."""
    state = RCE(budget=5, sinks=1, recent=2).start(prompt(2, width=64))
    readings = []
    for position in range(2, 12):
        reading = step(state, position, width=64)
        observe(state, reading, {})
        readings.append(reading)
    assert [reading.keys.shape[-2] for reading in readings] == [3, 4] + [5] * 8
    # Five tokens of 256 B and their scores, a burst each way.
    assert {r.read for r in readings[2:]} == {5 * 256 + 32}
    assert {r.written for r in readings} == {256 + 32}


def test_room_for_all_is_dense() -> None:
    prefill = random_prompt(30)
    token = prefill.query[..., 0, :], prefill.key[..., 0, :], prefill.value[..., 0, :]
    full, dense = (m.start(prefill).step(*token) for m in (RCE(budget=31), FP16()))
    assert torch.equal(full.keys.sort(-2).values, dense.keys.sort(-2).values)
    assert not torch.equal(
        RCE(budget=30).start(prefill).step(*token).keys.sort(-2).values,
        dense.keys.sort(-2).values[..., 1:, :],
    )


def test_shuffled() -> None:
    method = RCE(budget=16, sinks=1, recent=2, shuffled=True)
    assert attended(step(method.start(prompt(64)), 64))[:12] != list(range(12))
    kept = attended(step(RCE(budget=16, decay=1.0, sinks=1, recent=2).start(prompt(64)), 64))
    assert kept[:12] == list(range(12))


def test_parameters() -> None:
    with pytest.raises(ValueError, match="budget must be an integer from 21 up, not 20"):
        RCE(budget=20)
    with pytest.raises(ValueError, match=r"decay must be 0 to 1, not 1\.5"):
        RCE(decay=1.5)
