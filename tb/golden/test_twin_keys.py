"""The twin of the key passes on numbers worked by hand, at its ends, and against the reference."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from golden.reference import (
    CompressedWindow,
    Quantised,
    Tail,
    compress_tail,
    dequantise_query,
    dequantise_tail,
    quantise_query,
)
from golden.reference.quantiser import query_fold
from golden.twin.keys import (
    base_key_sums,
    delta_key_sums,
    score,
    selection_score,
    tail_key_sums,
    whole_key_sums,
)
from hw.config import preset

TINY = preset("tiny")
ONE, HALF, MINUS_HALF = 0x3C00, 0x3800, 0xB800


def closed_chunks(chunks: int) -> CompressedWindow:
    """Chunks of zeros, except that every delta scale is 1 and its minimum -0.5."""
    c, d, g = TINY.chunk - 1, TINY.head_dim, TINY.groups

    def zeros(*shape: int) -> Tensor:
        return torch.zeros(chunks, *shape, dtype=torch.int64)

    return CompressedWindow(
        base_codes=zeros(d),
        base_scale=zeros(g) + ONE,
        base_minimum=zeros(g),
        delta_mask=zeros(c, g, TINY.group),
        delta_codes=zeros(c, g, TINY.group),
        delta_scale=zeros(c, g) + ONE,
        delta_minimum=zeros(c, g) + MINUS_HALF,
        value_base=zeros(d),
        value_mask=zeros(c, d),
        value_codes=zeros(c, d),
        value_scale=zeros(d),
        value_minimum=zeros(d),
    )


def query(**channels: int) -> Tensor:
    """Two rows: the given channels in row 0, their negatives in row 1."""
    codes = torch.zeros(2, TINY.head_dim, dtype=torch.int64)
    for channel, code in channels.items():
        codes[0, int(channel[1:])], codes[1, int(channel[1:])] = code, -code
    return codes


def test_whole_key_by_hand() -> None:
    """Channel 0: 100 * (255 * 1 - 0.5); channel 16: 10 * (3 * 0.5), in steps of 2**-8."""
    codes = torch.zeros(1, TINY.head_dim, dtype=torch.int64)
    codes[0, 0], codes[0, 16] = 255, 3
    scale, minimum = torch.tensor([[ONE, HALF]]), torch.tensor([[MINUS_HALF, 0]])
    found = whole_key_sums(query(c0=100, c16=10), codes, scale, minimum, TINY)
    assert found.tolist() == [[(25450 + 15) * 256, -(25450 + 15) * 256]]
    # A query scale of 1 is 2**-11 per step of the code: 25465 / 2048 in steps of 2**-12.
    assert score(found, torch.tensor([ONE, ONE])).tolist() == [[50930, -50930]]


def test_each_term_rounds_half_up_by_itself() -> None:
    """2**-14 * 2 (E = 1, m = 1024): each product is shifted by 16, 32 becomes 1/2, rounded up."""
    codes = torch.zeros(1, TINY.head_dim, dtype=torch.int64)
    codes[0, 0] = 1
    scale, minimum = torch.tensor([[0x0400, ONE]]), torch.tensor([[0x0400, 0]])
    found = whole_key_sums(query(c0=32), codes, scale, minimum, TINY)
    # 32 * 1024 / 2**16 = 1/2 in both terms: 1 + 1, and -1/2 gives 0 + 0.
    assert found.tolist() == [[2, 0]]


def test_deltas_start_from_the_selected_base() -> None:
    closed = closed_chunks(3)
    closed.base_codes[2, 0] = 7
    closed.base_codes[1, 0] = 1
    # Chunk 2, token 3: channel 0 kept with code 2, channel 1 with code 0.
    closed.delta_mask[2, 2, 0, :2] = 1
    closed.delta_codes[2, 2, 0, 0] = 2
    q = query(c0=4, c1=10)
    bases = base_key_sums(q, closed, TINY)
    assert bases.tolist() == [[0, 0], [1024, -1024], [7168, -7168]]
    found = delta_key_sums(q, closed, bases, torch.tensor([2, 1]), TINY)
    # 4 * (2 - 0.5) + 10 * (0 - 0.5) = 1.
    changed = 7168 + 256
    assert found[0].tolist() == [[7168, -7168]] * 3 + [[changed, -changed]] + [[7168, -7168]] * 4
    assert found[1].tolist() == [[1024, -1024]] * 8


def test_key_sums_and_scores_saturate() -> None:
    codes = torch.full((1, TINY.head_dim), 255)
    huge = torch.full((1, TINY.groups), 0x7BFF)
    q = torch.tensor([[2047] * TINY.head_dim, [-2047] * TINY.head_dim])
    found = whole_key_sums(q, codes, huge, torch.zeros_like(huge), TINY)
    assert found.tolist() == [[(1 << 31) - 1, -(1 << 31)]]
    scores = score(found, torch.tensor([0x7BFF, 0x7BFF]))
    assert scores.tolist() == [[(1 << 23) - 1, -(1 << 23)]]
    # A delta on top of a saturated base starts from what was left of it.
    closed = closed_chunks(1)
    closed.delta_mask[:, :, :, 0] = 1
    sums = delta_key_sums(query(c0=2), closed, found, torch.tensor([0]), TINY)
    assert sums[0, 1].tolist() == [(1 << 31) - 1 - 256, -(1 << 31) + 256]


def test_no_sum_of_a_group_leaves_its_width() -> None:
    """The widths that the contract claims for the largest group."""
    largest = 32 * 2047 * 255
    assert largest < 1 << 24
    assert 32 * 2047 < 1 << 19


def test_tail_is_padded_with_absent_tokens() -> None:
    tokens = 9
    tail = Tail(
        Quantised(
            torch.ones(tokens, TINY.head_dim, dtype=torch.int64),
            torch.full((tokens, TINY.groups), ONE),
            torch.zeros(tokens, TINY.groups, dtype=torch.int64),
        ),
        torch.zeros(tokens, TINY.head_dim, dtype=torch.int64),
        torch.arange(1, tokens + 1),
        torch.zeros(tokens, dtype=torch.int64),
    )
    sums, present, scale = tail_key_sums(query(c0=1), tail, TINY)
    assert sums[..., 0].tolist() == [[256] * 8, [256] + [0] * 7]
    assert present.tolist() == [[True] * 8, [True] + [False] * 7]
    assert scale.tolist() == [[1, 2, 3, 4, 5, 6, 7, 8], [9] + [0] * 7]


@pytest.mark.parametrize(("combine", "wanted"), [("max", [5, -1]), ("mean", [2, -3])])
def test_selection_score(combine: str, wanted: list[int]) -> None:
    config = replace(TINY, group_combine=combine)
    found = selection_score(torch.tensor([[5, -3], [-2, -1]]), config)
    assert found.tolist() == wanted


def test_scores_of_a_tail_in_real_numbers(seed: int) -> None:
    """Within the roundings of a score of the same keys and the 12-bit query."""
    print(f"seed {seed}")
    generator = torch.Generator().manual_seed(seed)
    keys = torch.randn(40, TINY.head_dim, generator=generator) * 3
    codes, scale = quantise_query(torch.randn(2, TINY.head_dim, generator=generator))
    tail = compress_tail(keys, keys, TINY)
    sums, present, _ = tail_key_sums(codes, tail, TINY)
    found = score(sums, scale)[present]
    real = dequantise_query(codes, scale) * query_fold(TINY.head_dim)
    wanted = dequantise_tail(tail, TINY)[0] @ real.T * 4096
    assert (found - wanted).abs().max() < 1
