"""The integer twin of the progressive format against the float reference."""

from math import log, sqrt

import pytest
import torch
from torch import Tensor

from golden.model.architecture import LayerTensors
from golden.model.prompts import load_prompt
from golden.model.weights import load_model
from golden.progressive import reference, twin
from golden.progressive.format import ProgressiveFormat, one_burst_bits
from golden.progressive.numbers import (
    Coded,
    decode,
    encode,
    fold_query,
    key_statistics,
    normalise,
)
from golden.progressive.reference import HeadStatistics, Tokens
from golden.reference.quantiser import from_fp16, to_fp16
from hw.constants import QUERY_FRACTION
from tb.golden.progressive.small import head, statistics


def same(x: Coded, y: Coded) -> bool:
    return all(torch.equal(getattr(x, n), getattr(y, n)) for n in ("codes", "scale", "zero"))


@pytest.mark.parametrize("bits", [2, 3, 4, 6, 7])
def test_codes_equal(bits: int) -> None:
    """The same bytes as the float reference, with ranges of all sizes and one-sided ones."""
    source = torch.Generator().manual_seed(bits)
    size = torch.randint(0, 19, (200, 1), generator=source).double().exp2()
    numbers = (
        (torch.randn(200, 32, generator=source).double() * size).round().clamp(-524287, 524287)
    )
    numbers[::7] = numbers[::7].abs()
    numbers[1::7] = 0
    assert same(twin.encode(numbers.long(), bits, 16), encode(numbers / 4096, bits, 16))


def test_normalised_numbers_equal() -> None:
    _, keys, _ = head(100)
    keys[3, 5] = 60000.0
    found = key_statistics(keys, keys)
    assert torch.equal(twin.normalise(to_fp16(keys), found), (normalise(keys, found) * 4096).long())


def agree(
    query: Tensor, keys: Tensor, values: Tensor, found: HeadStatistics, form: ProgressiveFormat
) -> tuple[int, float]:
    """A step of twin and reference with the same query codes.

    Returns
    -------
    tuple
        Kept tokens; the smallest cosine of an output row. The candidates have to be the same.
    """
    cache = twin.compress(to_fp16(keys), to_fp16(values), found, form)
    expected = reference.compress(keys, values, found, form)
    assert same(cache.key, expected.key)
    assert same(cache.value, expected.value)

    fold = 1 / (sqrt(form.head_dim) * log(2))
    codes, scale = twin.query_codes(fold_query(query, found.key) * fold)
    result = twin.attend(codes, scale, cache, found, form)
    # The reference with the numbers that the query codes stand for.
    rounded = codes * from_fp16(scale) / 2**QUERY_FRACTION
    ranked = slice(form.first, form.first + form.ranked(len(keys)))
    estimates = reference.estimate(
        rounded,
        decode(cache.key, form.key_bits, form.plane_bits)[ranked],
        reference.choose_channels(rounded, form.channels),
    )
    chosen = form.first + reference.select(estimates, form.top)
    assert set(result.candidates.tolist()) == set(chosen.tolist())
    back = rounded / fold / found.key.exponent.double().exp2()
    output = reference.attend(back, cache, found, form)
    cosine = torch.cosine_similarity(result.output / 2**15, output, -1)
    return len(result.kept), float(cosine.min())


@pytest.mark.parametrize("plane_bits", [1, 2])
@pytest.mark.parametrize(("width", "rows", "tokens"), [(64, 2, 700), (128, 4, 520), (32, 1, 40)])
def test_step(width: int, rows: int, tokens: int, plane_bits: int) -> None:
    """The same candidates; outputs within the rounding of the twin."""
    form = ProgressiveFormat(
        head_dim=width,
        screen_bits=one_burst_bits(width, 6),
        plane_bits=plane_bits,
        channels=width // (4 * plane_bits),
        top=96,
    )
    query, keys, values = head(tokens, width=width, rows=rows)
    _, cosine = agree(query, keys, values, statistics(query, keys, values), form)
    assert cosine > 0.99999


@pytest.mark.slow
@pytest.mark.parametrize("name", ["text", "recall"])
def test_on_the_model(name: str) -> None:
    """Every layer and KV head of the trained model, at lengths beside those of pages."""
    model = load_model()
    captured: dict[int, LayerTensors] = {}
    with torch.no_grad():
        model(torch.from_numpy(load_prompt(name).tokens)[None], captured=captured)
    form = ProgressiveFormat(head_dim=64, screen_bits=4, channels=16)
    kept = []
    for tensors in captured.values():
        query = tensors.query[0].unflatten(0, (tensors.key.shape[1], -1)).double()
        keys, values = (from_fp16(to_fp16(x[0])) for x in (tensors.key, tensors.value))
        for group in range(len(keys)):
            past = query[group, :, :1000].flatten(0, 1)
            found = HeadStatistics.of(keys[group, :1000], values[group, :1000], past)
            for tokens in (1024, 1025, 2048):
                count, cosine = agree(
                    query[group, :, tokens - 1],
                    keys[group, :tokens],
                    values[group, :tokens],
                    found,
                    form,
                )
                kept.append(count)
                assert cosine > 0.999995
    assert min(kept) < 20 < max(kept)


def test_ties_to_the_lowest_token() -> None:
    """Equal keys: the first ones are the candidates, in order."""
    form = ProgressiveFormat(head_dim=32, screen_bits=4, channels=8, top=5, window=2, first=1)
    query, keys, values = head(30, width=32)
    found = statistics(query, keys, values)
    same_keys = twin.compress(to_fp16(keys[:1].expand(30, -1)), to_fp16(values), found, form)
    codes, scale = twin.query_codes(fold_query(query, found.key))
    result = twin.attend(codes, scale, same_keys, found, form)
    assert result.candidates.tolist() == [1, 2, 3, 4, 5]
    assert result.kept.tolist() == [0, 28, 29, 1, 2, 3, 4, 5]


def one_channel(codes: list[int]) -> Tokens:
    """Keys that are ``codes - 31`` in channel 0 and 0 elsewhere; values 0."""
    count = len(codes)
    # Scale 1 (byte 16 * 10 is 16 * 2**-4), zero point 124 / 4 = code 31.
    whole = torch.full((count, 32), 31)
    whole[:, 0] = torch.tensor(codes)
    key = Coded(whole, torch.full((count, 1), 160), torch.full((count, 1), 124))
    none = torch.zeros(count, 1, dtype=torch.int64)
    return Tokens(key, Coded(torch.zeros_like(whole), none, none))


def kept_of(codes: list[int], first: int) -> list[int]:
    """Tokens kept for a query of 1 in channel 0."""
    form = ProgressiveFormat(head_dim=32, channels=32, top=4, window=1, first=first, screen_bits=6)
    _, keys, values = head(4, width=32)
    query = torch.zeros(1, 32, dtype=torch.int64)
    query[0, 0] = 1024
    # 1024 * 2 / 2**11 = 1.
    scale = to_fp16(torch.tensor(2.0))
    found = statistics(keys, keys, values)
    return twin.attend(query, scale, one_channel(codes), found, form).kept.tolist()


def test_reach() -> None:
    """Scores 0, -2, -7, -6 in powers of two: reach 6 includes the last (the newest), not -7."""
    assert kept_of([31, 29, 24, 25], 0) == [3, 0, 1]


def test_a_sink_is_no_measure() -> None:
    """Token 0 is 30 powers of two above the others, which are kept if it is one of the first."""
    assert kept_of([61, 29, 24, 31], 0) == [0]
    assert kept_of([61, 29, 24, 31], 1) == [0, 3, 1]
