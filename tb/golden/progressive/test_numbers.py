"""Normalisation and codes of the progressive format."""

import torch

from golden.progressive.numbers import (
    LARGEST,
    Coded,
    Statistics,
    decode,
    encode,
    fold_query,
    key_statistics,
    normalise,
    restore,
    scale_values,
    value_statistics,
)
from golden.reference.quantiser import to_fp16
from tb.golden.progressive.small import head


def test_scale_bytes() -> None:
    """16 steps per power of two, from 2**-10; 62 is the largest."""
    scale = scale_values(torch.arange(256))
    assert scale[[0, 1, 16, 255]].tolist() == [2**-10, 17 / 2**14, 2**-9, 62.0]
    assert bool((scale.diff() > 0).all())


def test_codes_by_hand() -> None:
    """Range -1 to 2 in 3 bits: 3 / 7 takes scale 28 / 64, zero point 1 / s * 32 = 73.14."""
    coded = encode(torch.tensor([-1.0, 0.0, 2.0, 0.2], dtype=torch.float64), 3, 4)
    # 28 / 64 = (16 + 12) * 2**(8 - 14).
    assert coded.scale.tolist() == [8 * 16 + 12]
    assert coded.zero.tolist() == [73]
    # In codes the zero lies at 73 / 32 = 2.28; 2 / s = 4.57; 0.2 / s = 0.46.
    assert coded.codes.tolist() == [0, 2, 7, 3]
    expected = (torch.tensor([0, 2, 7, 3]) - 73 / 32) * 28 / 64
    assert torch.equal(decode(coded, 3), expected.double())


def test_levels_by_hand() -> None:
    """Codes 5 and 45 of 6 bits lie in halves around 15.5 and 47.5, quarters around 7.5 and 39.5."""
    coded = Coded(torch.tensor([5, 45]), torch.tensor([64 + 0]), torch.tensor([0]))
    step = 16 * 2.0 ** (4 - 14)
    assert (decode(coded, 6, 1) / step).tolist() == [15.5, 47.5]
    assert (decode(coded, 6, 2) / step).tolist() == [7.5, 39.5]
    assert (decode(coded, 6) / step).tolist() == [5.0, 45.0]


def test_codes_are_near() -> None:
    """Half a step at most (and the zero point's rounding), for ranges on either side of 0."""
    source = torch.Generator().manual_seed(1)
    x = torch.randn(64, 32, generator=source, dtype=torch.float64) * 3
    x[0], x[1] = x[0].abs() + 1, -x[1].abs() - 1
    x[2] = 0
    for bits in (2, 4, 6):
        coded = encode(x, bits, 16)
        step = scale_values(coded.scale).repeat_interleave(16, -1)
        assert bool(((decode(coded, bits) - x).abs() <= step * (0.5 + 2.0 ** (bits - 9))).all())
        # No smaller scale spans the range.
        split = x.unflatten(-1, (-1, 16))
        span = split.amax(-1).clamp(min=0) - split.amin(-1).clamp(max=0)
        below = scale_values((coded.scale - 1).clamp(min=0))
        assert bool((below * (2**bits - 1) < span)[coded.scale > 0].all())


def test_normalisation_is_exact_in_attention() -> None:
    """Softmax of the scores and the output are those of the keys and values themselves."""
    query, keys, values = head(50)
    key, value = key_statistics(keys, query), value_statistics(values)
    exact = (query @ keys.T).softmax(-1) @ values
    normal = (fold_query(query, key) @ normalise(keys, key).T).softmax(-1)
    output = restore(normal @ normalise(values, value), value)
    assert torch.allclose(output, exact, rtol=0.01, atol=0.01)


def test_normalisation_by_hand() -> None:
    """(3 - 1) / 2**1 = 1; saturation at 2**19 - 1; half up: 2**-13 is rounded to 2**-12."""
    statistics = Statistics(to_fp16(torch.tensor([1.0, 0.0])), torch.tensor([1, 0]))
    x = torch.tensor([[3.0, 1000.0], [1.0, 2.0**-13], [1.0, -(2.0**-13)]])
    normal = normalise(x, statistics)
    assert normal.tolist() == [[1.0, LARGEST / 4096], [0.0, 2.0**-12], [0.0, 0.0]]


def test_statistics_follow_size_and_weight() -> None:
    """A channel 16 times as large has an exponent 4 higher; queries that weigh it evenly out."""
    source = torch.Generator().manual_seed(2)
    keys = torch.randn(2000, 4, generator=source) * torch.tensor([1.0, 16.0, 1.0, 1.0])
    keys = keys + torch.tensor([0.0, 0.0, 7.0, 0.0])
    even = torch.tensor([[1.0, 1 / 16, 1.0, 1.0]])
    found = key_statistics(keys, even)
    assert found.exponent.tolist() == [0, 4, 0, 0]
    assert abs(float(normalise(keys, found)[:, 2].mean())) < 0.01
    # Logarithms 0, 0, 0, 6 of the weights, 1.5 on average: half of the rest is -0.75 and 2.25.
    steep = torch.tensor([[1.0, 1 / 16, 1.0, 64.0]])
    assert key_statistics(keys, steep).exponent.tolist() == [1, 5, 1, -2]


def test_constant_channels() -> None:
    """Deviation 0 and queries of 0 give statistics all the same."""
    found = key_statistics(torch.ones(3, 4), torch.zeros(2, 4))
    assert found.exponent.tolist() == [-24] * 4
    assert not bool(normalise(torch.ones(3, 4), found).any())
