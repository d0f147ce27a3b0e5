"""The twin of the value passes worked by hand, at its ends, and against the reference."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from golden.reference import (
    CompressedWindow,
    compress_tail,
    compress_window,
    dequantise_tail,
    dequantise_window,
    from_fp16,
    quantise,
)
from golden.tensors import random
from golden.twin.attention import chunk_view
from golden.twin.values import accumulate, align_tail, chunk_contributions, tail_contributions
from hw.config import AttentionConfig, preset

TINY = preset("tiny")
BYTES = replace(TINY, tail_value_bits=8)
FOUR_BITS = replace(TINY, value_bits=4)
ONE, MINUS_ONE, LARGEST, LOWEST = 0x3C00, 0xBC00, 0x7BFF, 0xFBFF


def chunk_of(base: int, mask: int, code: int, scale: int, minimum: int) -> CompressedWindow:
    """One chunk with the same numbers in every channel and token."""
    c, d, g = TINY.chunk - 1, TINY.head_dim, TINY.groups

    def full(number: int, *shape: int) -> Tensor:
        return torch.full((1, *shape), number)

    return CompressedWindow(
        base_codes=full(0, d),
        base_scale=full(0, g),
        base_minimum=full(0, g),
        delta_mask=full(0, c, g, TINY.group),
        delta_codes=full(0, c, g, TINY.group),
        delta_scale=full(0, c, g),
        delta_minimum=full(0, c, g),
        value_base=full(base, d),
        value_mask=full(mask, c, d),
        value_codes=full(code, c, d),
        value_scale=full(scale, d),
        value_minimum=full(minimum, d),
    )


def weights(*numbers: int) -> Tensor:
    """One unit, two rows: the weights in row 0, none in row 1."""
    found = torch.zeros(1, 2, TINY.chunk, dtype=torch.int64)
    found[0, 0, : len(numbers)] = torch.tensor(numbers)
    return found


def tail_of(*codes: int) -> Tensor:
    """Tokens with one code in every channel each."""
    return torch.tensor(codes)[:, None].expand(len(codes), TINY.head_dim)


def test_chunk_by_hand() -> None:
    """Weights 1/2 and 1/4: 0.5 * (10 * 1/5 - 1) + 0.25 * (2 - 1) = 0.75, times 5 in 2**-20."""
    closed = chunk_of(base=10, mask=1, code=2, scale=ONE, minimum=MINUS_ONE)
    found = chunk_contributions(weights(2048, 1024), closed, torch.tensor([0]), TINY)
    assert found[0, 0].tolist() == [round(5 * 0.75 * 2**20)] * TINY.head_dim
    assert found[0, 1].tolist() == [0] * TINY.head_dim


def test_pruned_value_is_zero_and_not_the_minimum() -> None:
    closed = chunk_of(base=0, mask=0, code=0, scale=ONE, minimum=MINUS_ONE)
    found = chunk_contributions(weights(0, 4095, 4095), closed, torch.tensor([0]), TINY)
    assert found.unique().tolist() == [0]


@pytest.mark.parametrize("minimum", [LARGEST, LOWEST])
def test_extreme_chunk_does_not_saturate(minimum: int) -> None:
    """All weights, codes and scales at their ends: below 2**44, as the contract says."""
    closed = chunk_of(base=15, mask=1, code=3, scale=LARGEST, minimum=minimum)
    full = torch.full((1, 2, TINY.chunk), 4095)
    found = chunk_contributions(full, closed, torch.tensor([0]), TINY)
    # Eight weights times 3 steps and the minimum, 5 times, 2**8 steps per 2**-12.
    real = 8 * 4095 * 5 * (3 * 65504 + float(from_fp16(torch.tensor(minimum)))) * 256
    assert found.unique().tolist() == [round(real)]
    assert abs(round(real)) < 1 << 44


def test_chunk_of_four_bits_by_hand() -> None:
    """Weights 1/2 and 1/4: 0.5 * (170 * 1/17 - 1) + 0.25 * (9 - 1) = 6.5, times 17 in 2**-20."""
    closed = chunk_of(base=170, mask=1, code=9, scale=ONE, minimum=MINUS_ONE)
    found = chunk_contributions(weights(2048, 1024), closed, torch.tensor([0]), FOUR_BITS)
    assert found[0, 0].tolist() == [round(17 * 6.5 * 2**20)] * TINY.head_dim


@pytest.mark.parametrize("minimum", [LARGEST, LOWEST])
def test_extreme_chunk_of_four_bits(minimum: int) -> None:
    """A record that no compressor writes saturates; values of its size do not."""
    full = torch.full((1, 2, TINY.chunk), 4095)
    for scale, offset in ((LARGEST, minimum), (0x7041, LOWEST)):
        closed = chunk_of(base=255, mask=1, code=15, scale=scale, minimum=offset)
        found = chunk_contributions(full, closed, torch.tensor([0]), FOUR_BITS)
        value = 15 * float(from_fp16(torch.tensor(scale))) + float(from_fp16(torch.tensor(offset)))
        real = round(8 * 4095 * 17 * value * 256)
        assert found.unique().tolist() == [min(real, (1 << 45) - 1)]
        # Scale 8712: 15 of them reach from one end of the numbers to the other.
        assert (abs(real) >= 1 << 45) == (scale == LARGEST)


@pytest.mark.parametrize("config", [TINY, BYTES], ids=["16", "8"])
@pytest.mark.parametrize(("bits", "code"), [(16, 1 << 14), (8, 1 << 6)])
def test_tail_by_hand(config: AttentionConfig, bits: int, code: int) -> None:
    """Weight 1/4 of a scale of 2 (E = 16): a code of one half is 0.25 * 1 = 0.25.

    Either width of codes in either configuration: a dense cache has the width of its mode.
    """
    # The softmax has multiplied by the mantissa: 1024 * 1024 / 2**11 = 512, the exponent is shared.
    found = tail_contributions(weights(512), torch.tensor([16]), tail_of(code), bits, config)
    assert found[0, 0].tolist() == [round(5 * 0.25 * 2**20)] * TINY.head_dim
    assert found[0, 1].unique().tolist() == [0]


@pytest.mark.parametrize(("bits", "end"), [(16, -(1 << 15)), (8, -(1 << 7))])
def test_units_of_a_tail(bits: int, end: int) -> None:
    """Nine tokens make two units; what lies beyond the last one counts nothing."""
    half = -end // 2
    codes = tail_of(half, *[end] * 7, -half)
    one = torch.zeros(2, 2, TINY.chunk, dtype=torch.int64)
    one[0, 0, 0] = one[0, 1, 7] = 512
    one[1] = 512
    found = tail_contributions(one, torch.tensor([16, 17]), codes, bits, TINY)
    quarter = 5 << 18
    # The first unit: a half and -1 of the weight 1/4 * 2. The second has one token and E = 17.
    assert found[..., 0].tolist() == [[quarter, -2 * quarter], [-2 * quarter] * 2]
    assert (found == found[..., :1]).all()


@pytest.mark.parametrize("config", [TINY, BYTES], ids=["16", "8"])
def test_tail_rounds_half_up_and_shifts_left(config: AttentionConfig) -> None:
    v = torch.tensor([1, -1, 2, -2])
    # 5 * v at E = 20 is halved; at E = 21 it stays; at E = 24 it is eight times as large.
    assert align_tail(v, torch.tensor(20), config).tolist() == [3, -2, 5, -5]
    assert align_tail(v, torch.tensor(21), config).tolist() == [5, -5, 10, -10]
    assert align_tail(v, torch.tensor(24), config).tolist() == [40, -40, 80, -80]


def test_accumulation_by_hand() -> None:
    y = torch.tensor([8, 3, 5, -5])[:, None, None].expand(4, 2, TINY.head_dim)
    maximum_shift = torch.tensor([[0, 0], [1, 0], [0, 63], [0, 1]])
    unit_shift = torch.tensor([[0, 0], [0, 2], [1, 0], [63, 0]])
    found = accumulate(y, maximum_shift, unit_shift)
    # Row 0: 8; 8/2 + 3; 7 + 5/2 up; 10 - 0. Row 1: 8; 8 + 3/4 up; 0 + 5; 5/2 up - 5.
    assert found[:, 0].tolist() == [10, -2]


@pytest.mark.parametrize("config", [TINY, FOUR_BITS], ids=["2", "4"])
def test_chunks_in_real_numbers(config: AttentionConfig, seed: int) -> None:
    """Within the roundings of the exact sums over the dequantised values."""
    print(f"seed {seed}")
    torch.manual_seed(seed)
    tensors = random(config, config.window, seed)
    keys = quantise(tensors.keys, config.key_bits, config.group)
    window = compress_window(keys, tensors.values, torch.rand(config.window), config)
    closed = chunk_view(
        CompressedWindow(**{name: x.unsqueeze(0) for name, x in vars(window).items()})
    )
    p = torch.randint(0, 4096, (2, 2, config.chunk))
    found = chunk_contributions(p, closed, torch.tensor([1, 0]), config)
    values = dequantise_window(window, config)[1].flip(0)
    wanted = p.double() @ values * 256 * config.value_step_ratio
    assert (found - wanted).abs().max() <= 1


@pytest.mark.parametrize("config", [TINY, BYTES], ids=["16", "8"])
def test_tail_in_real_numbers(config: AttentionConfig, seed: int) -> None:
    """With the scales multiplied into the weights, 12 bits of them are left."""
    print(f"seed {seed}")
    values = random(config, 8, seed).values
    tail = compress_tail(values, values, config)
    p = torch.full((1, 2, 8), 4095)
    mantissa = (tail.value_scale & 1023) + 1024
    exponent = tail.value_scale >> 10
    largest = exponent.max()
    weight = torch.floor(p * mantissa * 2.0 ** (exponent - largest - 11) + 0.5).long()
    bits = config.tail_value_bits
    found = tail_contributions(
        weight.clamp(max=4095), largest[None], tail.value_codes, bits, config
    )
    wanted = p.double() @ dequantise_tail(tail, config)[1] * 256 * 5
    # Half a step of each weight, times codes of size 1, times the shared exponent.
    step = 2.0 ** (float(largest) - 14) * 256 * 5
    assert (found - wanted).abs().max() <= 8 * 0.5 * step
