"""Ranking, second look and attention of the progressive format in float."""

from dataclasses import replace

import torch

from golden.progressive.format import ProgressiveFormat
from golden.progressive.reference import (
    attend,
    choose_channels,
    compress,
    estimate,
    keep,
    select,
)
from tb.golden.progressive.small import head, statistics

FORM = ProgressiveFormat(head_dim=64, screen_bits=4, channels=16, top=64)


def test_channels_by_hand() -> None:
    """Sums 3, 5, 3, 4 over the rows; of the two equal ones the first."""
    query = torch.tensor([[1.0, -3.0, 3.0, 0.0], [-2.0, 2.0, 0.0, 4.0]])
    assert choose_channels(query, 3).tolist() == [1, 3, 0]


def test_estimate_by_hand() -> None:
    """Channel 1 only: the rows give 2 and -4 for the first token, -6 and 12 for the second."""
    query = torch.tensor([[9.0, 2.0], [9.0, -4.0]])
    levels = torch.tensor([[5.0, 1.0], [5.0, -3.0]])
    assert estimate(query, levels, torch.tensor([1])).tolist() == [2.0, 12.0]


def test_ties_to_the_lowest() -> None:
    assert select(torch.tensor([1.0, 3.0, 2.0, 3.0, 2.0]), 3).tolist() == [1, 3, 2]


def test_keep_by_hand() -> None:
    """Row 0 keeps what is at least 8 - 3, row 1 what is at least 1 - 3; the bound is included."""
    scores = torch.tensor([[8.0, 5.0, 4.9, 0.0], [-9.0, -9.0, -2.1, 1.0]])
    assert keep(scores, 3, 0).tolist() == [True, True, False, True]
    # Without the first token row 0 has its best at 5, row 1 as before.
    assert keep(scores, 3, 1).tolist() == [True, True, True, True]
    assert keep(scores - 1, 2, 1).tolist() == [True, True, True, True]
    assert keep(scores, 3, 4).tolist() == [True, True, True, True]


def test_everything_read_is_near_exact() -> None:
    """All tokens candidates, all kept: what is left is the error of 6-bit keys, 4-bit values."""
    query, keys, values = head(200)
    found = statistics(query, keys, values)
    form = replace(FORM, top=1000, reach=31)
    output = attend(query, compress(keys, values, found, form), found, form)
    exact = (query @ keys.T / 8).softmax(-1) @ values
    assert float(torch.cosine_similarity(output, exact, -1).min()) > 0.97


def test_a_single_token_is_found() -> None:
    """One key far back along the query takes all attention, whatever the channels' offsets."""
    query, keys, values = head(600)
    found = statistics(query, keys, values)
    unit = found.key.exponent.double().exp2()
    direction = (query[0] * unit).sign()
    keys[100] = keys.mean(0) + 2.0 * direction * unit
    tokens = compress(keys, values, found, FORM)
    exact = (query[:1] @ keys.T / 8).softmax(-1)
    assert int(exact.argmax()) == 100
    assert float(exact.max()) > 0.9
    output = attend(query, tokens, found, FORM)
    # Without it among the candidates the output would be another.
    assert float(torch.cosine_similarity(output[0], values[100], 0)) > 0.9
    keys[100] = keys[101]
    without = attend(query, compress(keys, values, found, FORM), found, FORM)
    assert float(torch.cosine_similarity(without[0], values[100], 0)) < 0.5


def test_what_is_not_kept_counts_with_the_centre() -> None:
    """A candidate out of reach adds its probability, not its value."""
    query, keys, values = head(40)
    found = statistics(query, keys, values)
    form = replace(FORM, window=1, first=0, reach=1)
    tokens = compress(keys, values, found, form)
    near = attend(query, tokens, found, form)
    far = attend(query, tokens, found, replace(form, reach=31))
    assert not torch.allclose(near, far)
    # With one token there is nothing to leave out.
    alone = compress(keys[:1], values[:1], found, form)
    assert torch.equal(
        attend(query, alone, found, form), attend(query, alone, found, replace(form, reach=31))
    )
