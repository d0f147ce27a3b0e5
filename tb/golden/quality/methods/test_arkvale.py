"""Pages by digest, evicted and recalled."""

import pytest
import torch

from golden.quality.methods.arkvale import ArkVale, cuboid
from golden.quality.methods.fp16 import FP16
from tb.golden.quality.small import attended, prompt, random_prompt, step

#: Pages of 2 tokens; a step reads the first page, the newest full one, the one being filled and
#: one more. Nothing else is resident.
SMALL = ArkVale(budget=8, page=2, residents=1)


def wanting(channel: int) -> torch.Tensor:
    query = torch.zeros(8)
    query[channel] = 1.0
    return query


def keys_by_page() -> torch.Tensor:
    """16 tokens; page 2 answers to channel 0, page 4 to channel 1, page 5 to channel 2."""
    keys = torch.zeros(16, 8)
    keys[4:6, 0], keys[8:10, 1], keys[10:12, 2] = 1.0, 1.0, 1.0
    return keys


def test_cuboid() -> None:
    """0, 1, 4: centre 2, mean distance 5/3. It does not enclose the page, a largest one would."""
    low, high = cuboid(torch.tensor([[0.0], [1.0], [4.0]]))
    assert low.tolist() == pytest.approx([1 / 3], abs=1e-3)
    assert high.tolist() == pytest.approx([11 / 3], abs=2e-3)


def test_selection() -> None:
    state = SMALL.start(prompt(16, keys=keys_by_page()))
    assert attended(step(state, 16, query=wanting(1))) == [0, 1, 8, 9, 14, 15, 16]
    assert attended(step(state, 17, query=wanting(0))) == [0, 1, 4, 5, 14, 15, 16, 17]
    # The page of 16 and 17 is the newest full one now.
    assert attended(step(state, 18, query=wanting(0))) == [0, 1, 4, 5, 16, 17, 18]


def test_recall() -> None:
    """Tokens take 64 B, digests too. A recalled page of 128 B is read and written once more."""
    state = SMALL.start(prompt(16, keys=keys_by_page()))
    plain = 7 * 64 + 8 * 64
    # Page 1, by index, was resident after the prompt; page 4 has to come back.
    reading = step(state, 16, query=wanting(1))
    assert (reading.read, reading.written) == (plain + 128, 64 + 128)
    # It is resident now. The page that becomes full writes its digest and its copy.
    reading = step(state, 17, query=wanting(1))
    assert (reading.read, reading.written) == (plain + 64, 64 + 64 + 128)
    # Another page pushes it out, and it comes back again. The first step reads 7 tokens.
    assert step(state, 18, query=wanting(0)).read == 7 * 64 + 9 * 64 + 128
    assert step(state, 19, query=wanting(1)).read == 8 * 64 + 9 * 64 + 128


def test_more_residents_need_no_recall() -> None:
    state = ArkVale(budget=8, page=2, residents=3).start(prompt(16, keys=keys_by_page()))
    for position, channel in ((16, 1), (17, 0), (18, 1), (19, 0)):
        reading = step(state, position, query=wanting(channel))
    assert reading.written == 64 + 64 + 128


def test_budget_of_everything_is_dense() -> None:
    prefill = random_prompt(40)
    token = prefill.query[..., 0, :], prefill.key[..., 0, :], prefill.value[..., 0, :]
    full, dense = (m.start(prefill).step(*token) for m in (ArkVale(budget=64), FP16()))
    assert torch.equal(full.keys.sort(-2).values, dense.keys.sort(-2).values)


def test_from_an_empty_digest() -> None:
    """A prompt shorter than a page; all is read until the budget is."""
    state = SMALL.start(prompt(1))
    for position in range(1, 8):
        reading = step(state, position)
        assert attended(reading) == list(range(position + 1))


def test_shuffled() -> None:
    keys = torch.zeros(64, 8)
    keys[20:22, 1] = 1.0
    found = step(SMALL.start(prompt(64, keys=keys)), 64, query=wanting(1))
    assert attended(found) == [0, 1, 20, 21, 62, 63, 64]
    control = ArkVale(budget=8, page=2, residents=1, shuffled=True).start(prompt(64, keys=keys))
    assert attended(step(control, 64, query=wanting(1))) != [0, 1, 20, 21, 62, 63, 64]


def test_parameters() -> None:
    with pytest.raises(ValueError, match="budget must be an integer from 64 up, not 32"):
        ArkVale(budget=32)
    with pytest.raises(ValueError, match="budget must be a multiple of page 16, not 70"):
        ArkVale(budget=70)
