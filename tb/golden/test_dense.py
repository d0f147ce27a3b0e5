"""The dense modes: the reference's quantisation, and the twin against a float softmax."""

from functools import cache
from math import log

import pytest
import torch
from torch import Tensor

from golden.reference import (
    DenseCache,
    dense_attention,
    dense_cache,
    dequantise_dense,
    from_fp16,
    quantise_query,
)
from golden.reference.quantiser import query_fold
from golden.tensors import CASES
from golden.twin import dense as twin
from golden.twin.attention import JobResult
from hw.config import AttentionConfig, ConfigError, preset
from hw.constants import OUTPUT_FRACTION, SUM_FRACTION
from hw.formats import Mode

TINY = preset("tiny")
MODES = (Mode.DENSE8, Mode.DENSE16)
#: One token, a multiple of the chunk and not, around a window, and the most tokens.
CONTEXTS = {"tiny": (1, 7, 8, 9, 33, 100, 255, 256), "lm": (1, 777, 2048)}
COSINE = 0.9999


def unit(mode: Mode) -> int:
    """The code that would stand for one scale."""
    return 1 << 8 * mode.code_bytes - 1


def tokens_of(*numbers: float) -> Tensor:
    """One token per number, which is in its first channel; the others are 0."""
    found = torch.zeros(len(numbers), TINY.head_dim, dtype=torch.float64)
    found[:, 0] = torch.tensor(numbers, dtype=torch.float64)
    return found


# --- reference ----------------------------------------------------------------------------------


def test_by_hand_in_8_bits() -> None:
    """Keys up to 1: 128 / 127 is 1.00787, FP16 1.0078125 is too small, the next is 0x3C09."""
    cache = dense_cache(tokens_of(1, -0.5, 0), tokens_of(0.25, -127 / 64, 0), Mode.DENSE8, TINY)
    assert int(cache.key_scale) == 0x3C09
    # 128 / 1.0087890625 is 126.88, half of it 63.44.
    assert cache.key_codes[:, 0].tolist() == [127, -63, 0]
    # Values have a scale of their own, here exactly 2.
    assert int(cache.value_scale) == 0x4000
    assert cache.value_codes[:, 0].tolist() == [16, -127, 0]
    assert not cache.key_codes[:, 1:].any()
    assert not cache.value_codes[:, 1:].any()
    assert cache.context == 3
    assert cache.mode == Mode.DENSE8


def test_by_hand_in_16_bits() -> None:
    """32768 / 32767 is closer to 1 than FP16 can say, and 1 is too small: the next is 0x3C01."""
    cache = dense_cache(tokens_of(1, -0.5), tokens_of(-2 * 32767 / 32768, 2**-14), MODES[1], TINY)
    assert int(cache.key_scale) == 0x3C01
    # 32768 / 1.0009765625 is 32736.03.
    assert cache.key_codes[:, 0].tolist() == [32736, -16368]
    assert int(cache.value_scale) == 0x4000
    assert cache.value_codes[:, 0].tolist() == [-32767, 1]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("scale", [2.0**-14, 0.75, 3.0, 65504.0])
def test_multiples_of_the_step_are_exact(mode: Mode, scale: float, seed: int) -> None:
    """With the largest code in use, the scale is found again and nothing is lost."""
    print(f"seed {seed}")
    generator = torch.Generator().manual_seed(seed)
    most = unit(mode) - 1
    codes = torch.randint(-most, most + 1, (2, 40, TINY.head_dim), generator=generator)
    codes[0, 3, 5], codes[1, 39, 31] = most, -most
    keys, values = codes.double() * scale / unit(mode)
    cache = dense_cache(keys, values, mode, TINY)
    assert torch.equal(cache.key_codes, codes[0])
    assert torch.equal(cache.value_codes, codes[1])
    assert float(from_fp16(cache.key_scale)) == float(from_fp16(cache.value_scale)) == scale
    assert all(map(torch.equal, dequantise_dense(cache), (keys, values)))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", ["random", "sink", "outlier_channels", "ties"])
def test_every_element_is_within_half_a_step(mode: Mode, case: str, seed: int) -> None:
    print(f"seed {seed}")
    tensors = CASES[case](TINY, 100, seed)
    cache = dense_cache(tensors.keys, tensors.values, mode, TINY)
    found = dequantise_dense(cache)
    scales = (cache.key_scale, cache.value_scale)
    for x, y, scale in zip((tensors.keys, tensors.values), found, scales, strict=True):
        step = float(from_fp16(scale)) / unit(mode)
        assert ((x.double() - y).abs() <= step / 2).all()
        # The next smaller scale would take the largest element beyond the largest code.
        assert float(from_fp16(scale - 1)) * (unit(mode) - 1) < float(x.abs().max()) * unit(mode)
    for codes in (cache.key_codes, cache.value_codes):
        assert codes.dtype == torch.int64
        assert int(codes.abs().max()) < unit(mode)


@pytest.mark.parametrize("mode", MODES)
def test_all_zero(mode: Mode) -> None:
    tensors = CASES["all_zero"](TINY, 9, 0)
    cache = dense_cache(tensors.keys, tensors.values, mode, TINY)
    assert int(cache.key_scale) == int(cache.value_scale) == 0
    assert not cache.key_codes.any()
    assert all(not x.any() for x in dequantise_dense(cache))


@pytest.mark.parametrize("mode", MODES)
def test_saturating(mode: Mode) -> None:
    """No FP16 scale is large enough: the codes stop at their ends."""
    tensors = CASES["saturating"](TINY, 9, 1)
    cache = dense_cache(tensors.keys, tensors.values, mode, TINY)
    assert int(cache.key_scale) == int(cache.value_scale) == 0x7BFF
    most = unit(mode) - 1
    for found, wanted in (
        (cache.key_codes, tensors.keys.sign().long() * most),
        (cache.value_codes, tensors.values.sign().long() * most),
        (dequantise_dense(cache)[1], tensors.values.sign().double() * 65504 * most / (most + 1)),
    ):
        assert torch.equal(found, wanted)


@pytest.mark.parametrize("mode", MODES)
def test_shapes_that_do_not_fit(mode: Mode) -> None:
    for shape, message in (
        ((0, 32), "context must be from 1 to 256, not 0"),
        ((257, 32), "context must be from 1 to 256, not 257"),
        ((5, 16), "head dimension must be 32, not 16"),
    ):
        with pytest.raises(ConfigError, match=f"^{message}$"):
            dense_cache(torch.zeros(shape), torch.zeros(shape), mode, TINY)


def test_query_with_the_scale_of_the_keys() -> None:
    """Codes are those without it; the scale takes it in."""
    generator = torch.Generator().manual_seed(3)
    query = torch.randn(2, TINY.head_dim, generator=generator)
    codes, scale = quantise_query(query, torch.tensor(0x4400))  # 4
    plain_codes, plain_scale = quantise_query(query)
    assert torch.equal(codes, plain_codes)
    assert torch.equal(from_fp16(scale), 4 * from_fp16(plain_scale))
    largest = query.abs().amax(-1).double() * query_fold(TINY.head_dim) * 4
    assert torch.allclose(from_fp16(scale), largest, rtol=2e-3)


# --- twin ---------------------------------------------------------------------------------------


def cache_of(mode: Mode, key_codes: Tensor) -> DenseCache:
    """A cache of these keys, with scales and values of no interest."""
    one = torch.tensor(0x3C00)
    return DenseCache(mode, key_codes, torch.zeros_like(key_codes), one, one)


@pytest.mark.parametrize(
    ("mode", "codes", "sums"),
    [
        (Mode.DENSE8, [0, 1, -1, 127, -128], [0, 6, -6, 762, -768]),
        # 3 * code / 128: 63 / 128, 66 / 128, -63 / 128, -66 / 128, 192 / 128 and -192 / 128.
        (Mode.DENSE16, [21, 22, -21, -22, 64, -64], [0, 1, 0, -1, 2, -1]),
    ],
)
def test_key_sums_by_hand(mode: Mode, codes: list[int], sums: list[int]) -> None:
    """A query of 3 in the last channel of row 0 and of -2047 in all channels of row 1."""
    query = torch.zeros(2, TINY.head_dim, dtype=torch.int64)
    query[0, -1] = 3
    query[1] = -2047
    keys = torch.zeros(len(codes), TINY.head_dim, dtype=torch.int64)
    keys[:, -1] = torch.tensor(codes)
    found = twin.dense_key_sums(query, cache_of(mode, keys))
    assert found[:, 0].tolist() == sums
    # All channels count, and the largest sums are exact.
    keys[:] = -unit(mode)
    found = twin.dense_key_sums(query, cache_of(mode, keys))
    assert found[:, 1].unique().tolist() == [TINY.head_dim * 2047 * 256]


@cache
def prepared(
    name: str, case: str, mode: Mode, context: int
) -> tuple[AttentionConfig, Tensor, Tensor, DenseCache, JobResult]:
    """Configuration, query, float output on the tensors themselves, cache, what the twin says."""
    config = preset(name)
    tensors = CASES[case](config, context, 1)
    cache = dense_cache(tensors.keys, tensors.values, mode, config)
    codes, scale = quantise_query(tensors.query, cache.key_scale)
    real = dense_attention(tensors.query, tensors.keys, tensors.values)
    return config, tensors.query, real, cache, twin.dense_attention(codes, scale, cache, config)


def real_output(result: JobResult) -> Tensor:
    """The output as numbers."""
    return result.output.double() * 2.0**-OUTPUT_FRACTION


@pytest.mark.parametrize("name", CONTEXTS)
@pytest.mark.parametrize("case", ["random", "sink", "outlier_channels"])
@pytest.mark.parametrize("mode", MODES)
def test_output_in_real_numbers(name: str, case: str, mode: Mode) -> None:
    """Every row points where the float softmax on the cache's numbers does, and is as long."""
    for context in CONTEXTS[name]:
        _, query, real, cache, result = prepared(name, case, mode, context)
        found = real_output(result)
        wanted = dense_attention(query, *dequantise_dense(cache))
        cosine = torch.nn.functional.cosine_similarity(found, wanted, dim=-1)
        print(f"{name} {case} {mode.name} context {context}: cosine {cosine.tolist()}")
        assert (cosine > COSINE).all()
        assert ((found.norm(dim=-1) / wanted.norm(dim=-1) - 1).abs() < 0.01).all()
        assert result.selection.tolist() == []
        if mode == Mode.DENSE16:
            # Nothing worth mentioning was lost on the way into the cache either.
            assert (torch.nn.functional.cosine_similarity(found, real, dim=-1) > COSINE).all()


@pytest.mark.parametrize("case", ["random", "sink", "outlier_channels"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("context", CONTEXTS["tiny"])
def test_statistics(case: str, mode: Mode, context: int) -> None:
    """Maximum and sum give log2 of the float softmax's sum: every token is in it, once."""
    config, query, _, cache, result = prepared("tiny", case, mode, context)
    keys, _ = dequantise_dense(cache)
    scores = query.double() * query_fold(config.head_dim) @ keys.T
    wanted = torch.logsumexp(scores * log(2), -1) / log(2)
    size = torch.log2(result.sum.double()) - SUM_FRACTION + result.maximum
    assert torch.allclose(size, wanted, atol=0.02)


@pytest.mark.parametrize("mode", MODES)
def test_one_token_is_its_value(mode: Mode) -> None:
    """Whatever its score; the weight is 12 bits of it, and so is the sum."""
    _, _, _, cache, result = prepared("tiny", "random", mode, 1)
    wanted = dequantise_dense(cache)[1].expand(TINY.rows, -1)
    assert ((real_output(result) - wanted).abs() <= 2e-3 * wanted.abs().max()).all()


@pytest.mark.parametrize("mode", MODES)
def test_absent_tokens_count_nothing(mode: Mode) -> None:
    """Equal tokens give the same output, whether they fill their chunks or not."""
    outputs = []
    for context in (8, 13, 16, 255):
        same = torch.ones(context, TINY.head_dim)
        cache = dense_cache(same, same, mode, TINY)
        codes, scale = quantise_query(same[:2], cache.key_scale)
        result = twin.dense_attention(codes, scale, cache, TINY)
        outputs.append(real_output(result))
        # Each token has the same probability.
        assert (result.sum % context == 0).all()
    for output in outputs:
        assert torch.allclose(output, torch.ones_like(output), atol=1e-2)
        assert torch.allclose(output, outputs[0], atol=1e-3)


@pytest.mark.parametrize("case", ["all_zero", "saturating", "ties"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("context", [1, 33, 256])
def test_extreme_tensors(case: str, mode: Mode, context: int) -> None:
    """No number leaves its width: every output is within its values' bound, every sum normal."""
    config, _, _, cache, result = prepared("tiny", case, mode, context)
    assert (result.sum >= 1 << 19).all()
    assert (result.sum < 1 << config.sum_bits).all()
    bound = float(dequantise_dense(cache)[1].abs().max())
    assert (real_output(result).abs() <= 1.01 * bound).all()
    if case == "all_zero":
        assert result.output.unique().tolist() == [0]
