"""Pages by the upper bound of their scores."""

import pytest
import torch

from golden.quality.methods.fp16 import FP16
from golden.quality.methods.quest import Quest, upper_bound
from tb.golden.quality.small import attended, prompt, random_prompt, step


def test_bound_by_hand() -> None:
    """Between (-1, 0) and (2, 3) the best for (1, -2) would be (2, 0), for (-1, 1) (-1, 3)."""
    low, high = torch.tensor([[[[-1.0, 0.0]]]]), torch.tensor([[[[2.0, 3.0]]]])
    query = torch.tensor([[[[1.0, -2.0], [-1.0, 1.0]]]])
    assert upper_bound(query, low, high)[0, 0, :, 0].tolist() == [2.0, 4.0]


def test_bound_holds() -> None:
    prefill = random_prompt(16)
    query = prefill.query[..., 0, :]
    low, high = prefill.key.amin(-2, keepdim=True), prefill.key.amax(-2, keepdim=True)
    bound = upper_bound(query, low, high)[..., 0]
    assert bool((bound >= (query @ prefill.key.transpose(-1, -2)).amax(-1)).all())


def keys_for_pages() -> torch.Tensor:
    """Pages of 2. Bounds for (1, 1): 1, 6 (which no key reaches: 3 and 3 lie apart), 4."""
    keys = torch.zeros(7, 8)
    keys[0, 0] = 1.0
    keys[2, 0], keys[3, 1] = 3.0, 3.0
    keys[4, 0], keys[4, 1] = 2.0, 2.0
    return keys


def test_selection() -> None:
    """The bound decides, not the best key: page 1 before page 2; the page being filled stays."""
    query = torch.zeros(8)
    query[:2] = 1.0
    state = Quest(budget=4, page=2).start(prompt(7, keys=keys_for_pages()))
    assert attended(step(state, 7, query=query)) == [2, 3, 6, 7]
    # Pages 0 to 3 are full now; the page being filled holds one token.
    assert attended(step(state, 8, query=query)) == [2, 3, 8]
    # A negative query bounds pages by their smallest keys: all 0, so the first page is taken.
    assert attended(step(state, 9, query=-query)) == [0, 1, 8, 9]


def test_a_page_filled_while_decoding_can_be_selected() -> None:
    state = Quest(budget=4, page=2).start(prompt(4))
    wanted = torch.ones(8)
    step(state, 4, key=wanted)
    step(state, 5)
    assert attended(step(state, 6, query=wanted)) == [4, 5, 6]


def test_any_query_head_decides() -> None:
    """The largest score over the group: page 0 has 4 and 0, page 1 has 3 and 3."""
    keys = torch.zeros(4, 8)
    keys[0, 0], keys[2, :2] = 4.0, 3.0
    state = Quest(budget=4, page=2).start(prompt(4, rows=2, keys=keys))
    query = torch.eye(2, 8)[None, None]
    reading = state.step(query, torch.zeros(1, 1, 8), torch.full((1, 1, 8), 4.0))
    assert attended(reading) == [0, 1, 4]


def test_budget_of_everything_is_dense() -> None:
    prefill = random_prompt(40)
    token = prefill.query[..., 0, :], prefill.key[..., 0, :], prefill.value[..., 0, :]
    full, dense = (m.start(prefill).step(*token) for m in (Quest(budget=64, page=16), FP16()))
    for x, y in ((full.keys, dense.keys), (full.values, dense.values)):
        assert torch.equal(x.sort(-2).values, y.sort(-2).values)


def test_traffic() -> None:
    """Four tokens of 256 B; the digests of 3 full pages and of that being filled, 256 B each."""
    state = Quest(budget=4, page=2).start(prompt(7, width=64))
    reading = step(state, 7, width=64)
    assert reading.read == 4 * 256 + 4 * 256
    # The token and the digest of its page.
    assert reading.written == 256 + 256
    # One token in the new page.
    assert step(state, 8, width=64).read == 3 * 256 + 5 * 256


def test_shuffled() -> None:
    keys = torch.zeros(64, 8)
    keys[0] = 1.0
    query = torch.ones(8)
    by_score = Quest(budget=4, page=2).start(prompt(64, keys=keys))
    assert attended(step(by_score, 64, query=query))[:2] == [0, 1]
    shuffled = Quest(budget=4, page=2, shuffled=True).start(prompt(64, keys=keys))
    assert attended(step(shuffled, 64, query=query))[:2] != [0, 1]


def test_parameters() -> None:
    with pytest.raises(ValueError, match="budget must be a multiple of page 16, not 100"):
        Quest(budget=100)
