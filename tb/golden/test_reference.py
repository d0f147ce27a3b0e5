"""The float reference: hand-worked numbers, brute-force answers, properties of the method."""

from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

from golden.reference import (
    CompressedCache,
    CompressedWindow,
    Quantised,
    attend,
    base_keys,
    compress_cache,
    compress_tail,
    compress_window,
    dense_attention,
    dequantise,
    dequantise_query,
    dequantise_tail,
    dequantise_window,
    estimate_chunks,
    from_fp16,
    order_window,
    quantise,
    quantise_query,
    saliency,
    select_chunks,
    to_fp16,
)
from golden.reference.compress import fixed_values, keep_largest
from golden.reference.quantiser import query_fold, symmetric_codes, symmetric_values
from golden.tensors import CASES, Tensors
from golden.tensors import random as random_tensors
from hw.config import AttentionConfig, preset

TINY = preset("tiny")
FOUR_BITS = replace(TINY, key_bits=4, key_delta_bits=4, mask_scope="chunk", value_bits=4)
FP16_STEP = 2.0**-11


def build(
    case: str, context: int, seed: int = 0, config: AttentionConfig = TINY
) -> tuple[Tensors, Tensor, CompressedCache]:
    tensors = CASES[case](config, context, seed)
    sums = saliency(tensors.queries, tensors.keys, config)
    return tensors, sums, compress_cache(tensors.keys, tensors.values, sums, config)


# --- quantiser ----------------------------------------------------------------------------------


def test_fp16_patterns() -> None:
    numbers = torch.tensor([0.0, -0.0, 1.0, -2.0, 1e-5, 65504.0, 1e9, -1e9, 2.0**-24, -(2.0**-30)])
    assert to_fp16(numbers).tolist() == [
        0x0000,
        0x0000,
        0x3C00,
        0xC000,
        0x00A8,
        0x7BFF,
        0x7BFF,
        0xFBFF,
        0x0001,
        0x0000,
    ]
    assert from_fp16(torch.tensor([0x00A8])).item() == 168 * 2.0**-24
    # Just above a tie: rounding through float32 first would fall on the tie and go down to 1.
    above = torch.tensor(1 + 2.0**-11 + 2.0**-40, dtype=torch.float64)
    assert to_fp16(above).item() == 0x3C01
    with pytest.raises(ValueError, match=r"^every element must be finite$"):
        to_fp16(torch.tensor([1.0, float("nan")]))


def test_every_fp16_number_survives() -> None:
    patterns = torch.arange(1 << 16)
    finite = patterns[(patterns >> 10 & 31 != 31) & (patterns != 0x8000)]
    assert torch.equal(to_fp16(from_fp16(finite)), finite)


def test_quantise_by_hand() -> None:
    # Two groups of four. Group 0: range 3 in 3 steps, 0.5 and 1.5 are ties and go to the even code.
    # Group 1: constant, so the scale is the floor and the minimum is FP16(0.1) = 0.0999755859375;
    # the rest, 2.44e-5, is 2.44 floor steps.
    x = torch.tensor([0.0, 0.5, 1.5, 3.0, 0.1, 0.1, 0.1, 0.1], dtype=torch.float64)
    answer = quantise(x, 2, 4)
    assert answer.codes.tolist() == [0, 0, 2, 3, 2, 2, 2, 2]
    assert answer.scale.tolist() == [0x3C00, 0x00A8]
    assert answer.minimum.tolist() == [0x0000, 0x2E66]
    assert dequantise(answer)[:4].tolist() == [0.0, 0.0, 2.0, 3.0]


def test_quantise_uses_the_rounded_scale() -> None:
    # Scale 2000/255 = 7.84314 rounds to 7.84375: 1000 is 127.5 exact steps, 127.49 rounded ones.
    x = torch.tensor([0.0, 1000.0, 2000.0], dtype=torch.float64)
    answer = quantise(x, 8, 3)
    assert from_fp16(answer.scale).item() == 7.84375
    assert answer.codes.tolist() == [0, 127, 255]


@pytest.mark.parametrize("bits", [2, 8])
def test_quantise_error(bits: int) -> None:
    x = torch.randn(50, 64, generator=torch.Generator().manual_seed(bits), dtype=torch.float64)
    answer = quantise(x, bits, 16)
    step = from_fp16(answer.scale).repeat_interleave(16, -1)
    minimum = from_fp16(answer.minimum).repeat_interleave(16, -1).abs()
    # Half a step, and at the ends of the range what rounding the pair to FP16 moves.
    bound = step / 2 + FP16_STEP * (minimum + 2**bits * step)
    assert bool(((dequantise(answer) - x).abs() <= bound).all())
    assert int(answer.codes.min()) == 0
    assert int(answer.codes.max()) == 2**bits - 1


def test_symmetric_by_hand() -> None:
    # 1 needs a scale of 32768/32767: the next FP16 number is 1 + 2**-10, the code 32736.03.
    codes, scale = symmetric_codes(torch.tensor([[1.0, -0.5], [0.0, 0.0]]), 16)
    assert scale.tolist() == [0x3C01, 0]
    assert codes.tolist() == [[32736, -16368], [0, 0]]
    # 32767/32768 fits scale 1 exactly.
    codes, scale = symmetric_codes(torch.tensor([-32767 / 32768]), 16)
    assert (codes.item(), scale.item()) == (-32767, 0x3C00)
    # 128/127 = 1.00787 is above 1 + 8/1024: scale 1 + 9/1024, 128/1.00879 = 126.88.
    codes, scale = symmetric_codes(torch.tensor([1.0]), 8)
    assert (codes.item(), scale.item()) == (127, 0x3C09)
    # The largest FP16 number would need a larger scale than there is: the code is clamped.
    codes, scale = symmetric_codes(torch.tensor([65504.0, -65504.0]), 8)
    assert (codes.tolist(), scale.item()) == ([127, -127], 0x7BFF)


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_symmetric_scale_is_the_smallest(bits: int) -> None:
    generator = torch.Generator().manual_seed(bits)
    size = torch.exp2(torch.randint(-20, 12, (200, 1), generator=generator).double())
    x = torch.randn(200, 8, generator=generator, dtype=torch.float64) * size
    codes, scale = symmetric_codes(x, bits)
    unit = 2 ** (bits - 1)
    largest = x.abs().amax(-1)
    assert bool((from_fp16(scale) * (unit - 1) >= largest * unit).all())
    assert bool((from_fp16(scale - 1) * (unit - 1) < largest * unit).all())
    assert int(codes.abs().max()) <= unit - 1
    error = (symmetric_values(codes, scale, bits) - x).abs()
    # No clamping at all: every error is at most half a step.
    assert bool((error <= from_fp16(scale).unsqueeze(-1) / unit / 2).all())


def test_quantise_query() -> None:
    # d = 64: the fold is log2(e)/8 = 0.180337; 2047/2048/fold is the largest code of scale 1.
    assert query_fold(64) == pytest.approx(0.18033688, abs=1e-8)
    query = torch.zeros(2, 64, dtype=torch.float64)
    query[0, 5] = 2047 / 2048 / query_fold(64) * (1 - 1e-12)
    query[0, 6] = -1 / 2048 / query_fold(64)
    codes, scale = quantise_query(query)
    assert scale.tolist() == [0x3C00, 0]
    assert (codes[0, 5].item(), codes[0, 6].item()) == (2047, -1)
    assert int(codes.abs().sum()) == 2048
    assert torch.allclose(dequantise_query(codes, scale), query, rtol=1e-9)


# --- compression --------------------------------------------------------------------------------


def test_saliency_of_equal_attention() -> None:
    # Zero queries: token q attends to each of its q + 1 tokens with 1/(q + 1). Two query heads.
    tokens = 40
    answer = saliency(torch.zeros(2, tokens, 32), torch.zeros(tokens, 32), TINY)
    for j in range(tokens):
        end = min(tokens, (j // 16 + 2) * 16)
        assert answer[j].item() == pytest.approx(2 * sum(1 / (q + 1) for q in range(j, end)))


def test_saliency_brute_force() -> None:
    tensors = random_tensors(TINY, 53, 3)
    expected = torch.zeros(53, dtype=torch.float64)
    for head in tensors.queries.double():
        for q in range(53):
            score = torch.stack([head[q] @ k for k in tensors.keys[: q + 1].double()]) / 32**0.5
            for j, probability in enumerate(torch.softmax(score, 0)):
                if q // 16 - j // 16 <= 1:
                    expected[j] += probability
    assert torch.allclose(saliency(tensors.queries, tensors.keys, TINY), expected, rtol=1e-12)


def test_order_and_pruning_ties() -> None:
    sums = torch.tensor([1.0, 5, 5, 0, 7, 1, 1, 7, 2, 2, 2, 2, 2, 2, 2, 3])
    order = [4, 7, 1, 2, 0, 5, 6, 3, 15, 8, 9, 10, 11, 12, 13, 14]
    assert order_window(sums, TINY).tolist() == order
    magnitude = torch.tensor([[1.0, 3, 2, 2, 2, 0], [0, 0, 0, 0, 0, 0]])
    assert keep_largest(magnitude, 3).tolist() == [[0, 1, 1, 1, 0, 0], [1, 1, 1, 0, 0, 0]]


def test_window_by_hand() -> None:
    """One window of preset tiny: token 2 leads chunk 0, chunk 1 stays as it came."""
    sums = torch.zeros(16)
    sums[2] = 1
    keys = torch.zeros(16, 32)
    # Group 0 of the base key: 0, 17 .. 255 is AQ_8 without error, scale 1 and minimum 0.
    keys[2, :16] = torch.arange(16) * 17.0
    values = torch.zeros(16, 32)
    values[2, 0] = 10  # place 0 of the new order: the base
    values[0, 0] = 3  # place 1
    values[1, 0] = -3  # place 2
    values[3, 0] = 1  # place 3
    window = compress_window(quantise(keys, 8, 16), values, sums, TINY)

    assert window.base_codes[0, :16].tolist() == [17 * i for i in range(16)]
    assert window.base_scale.tolist() == [[0x3C00, 0x00A8], [0x00A8, 0x00A8]]
    assert window.base_minimum.tolist() == [[0, 0], [0, 0]]
    # The other tokens are 0, so D = -17 i: scale 85 = 0x5550, minimum -255 = 0xDBF8, code
    # rne(3 - i/5). Sizes 255 - 85 code: channels 13 to 15 have 255; 8 to 12 tie at 170 and the
    # lowest, 8, is kept.
    for token in range(7):
        assert window.delta_scale[0, token].tolist() == [0x5550, 0x00A8]
        assert window.delta_minimum[0, token].tolist() == [0xDBF8, 0]
        assert window.delta_mask[0, token, 0].nonzero().flatten().tolist() == [8, 13, 14, 15]
        assert window.delta_codes[0, token, 0].tolist() == [0] * 8 + [1] + [0] * 7
        # All differences are 0: the lowest indices are kept.
        assert window.delta_mask[0, token, 1].nonzero().flatten().tolist() == [0, 1, 2, 3]

    # Values of channel 0, base as 0: minimum -3 = 0xC200, scale 2 = 0x4000, levels -3, -1, 1, 3.
    # 0 lies between two levels and goes to the even code, 2. Of the 14 tokens places 1 and 2 have
    # size 3, all others 1: places 3 to 6 are kept.
    assert (window.value_scale[0, 0].item(), window.value_minimum[0, 0].item()) == (0x4000, 0xC200)
    assert window.value_mask[:, :, 0].tolist() == [[1, 1, 1, 1, 1, 1, 0], [0] * 7]
    assert window.value_codes[:, :, 0].tolist() == [[3, 0, 2, 2, 2, 2, 0], [0] * 7]
    # Bases in steps of 2/5: (10 + 3) / 0.4 = 32.5 is clamped to 15, (0 + 3) / 0.4 = 7.5 goes to 8.
    assert window.value_base[:, 0].tolist() == [15, 8]

    key, value = dequantise_window(window, TINY)
    base = [17.0 * i for i in range(16)]
    assert key[0, 0, :16].tolist() == base
    assert key[0, 1, :16].tolist() == [*base[:8], -34.0, *base[9:13], -34.0, -17.0, 0.0]
    assert value[0, :, 0].tolist() == [3.0, 3.0, -3.0, 1.0, 1.0, 1.0, 1.0, 0.0]
    assert value[1, :, 0].tolist() == [pytest.approx(0.2)] + [0.0] * 7


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", ["tiny", "lm", "four_bits"])
def test_window_properties(name: str, case: str) -> None:
    config = FOUR_BITS if name == "four_bits" else preset(name)
    tensors, sums, cache = build(case, 4 * config.window + 1, 7, config)
    closed = cache.closed
    count = config.closed_tokens(cache.context)
    assert closed.base_codes.shape == (3, config.window // 8, config.head_dim)

    # Base: the INT8 key of the most salient token, as the tail held it.
    tail = compress_tail(tensors.keys, tensors.values, config)
    entered, entered_values = dequantise_tail(tail, config)
    salient = sums[:count].reshape(-1, 8).argmax(-1) + torch.arange(0, count, 8)
    assert torch.equal(closed.base_codes.flatten(0, 1), tail.keys.codes[salient])
    assert torch.equal(closed.base_scale.flatten(0, 1), tail.keys.scale[salient])
    assert torch.equal(closed.base_minimum.flatten(0, 1), tail.keys.minimum[salient])

    # Ranges, exact counts of kept codes, no code where nothing is kept.
    assert bool((closed.delta_mask.sum(-1) == config.key_keep).all())
    kept = closed.value_mask.reshape(-1, config.value_group // 8 * 7, config.head_dim).sum(1)
    assert bool((kept == config.value_keep).all())
    for codes, mask, bits in (
        (closed.delta_codes, closed.delta_mask, config.key_delta_bits),
        (closed.value_codes, closed.value_mask, config.value_bits),
    ):
        assert set(codes.unique().tolist()) <= set(range(1 << bits))
        assert not bool((codes * (1 - mask)).any())
    assert set(closed.base_codes.unique().tolist()) <= set(range(1 << config.key_bits))
    assert set(closed.value_base.unique().tolist()) <= set(range(1 << 2 * config.value_bits))
    shared = (closed.delta_mask == closed.delta_mask[:, :, :1]).all()
    assert bool(shared) == (config.mask_scope == "chunk" or case == "all_zero")

    # Every scale is positive and finite, every minimum finite.
    for field in fields(closed):
        if field.name.endswith(("scale", "minimum")):
            patterns = getattr(closed, field.name)
            assert bool((patterns >> 10 & 31 < 31).all())
            if field.name.endswith("scale"):
                assert bool(((patterns > 0) & (patterns < 0x8000)).all())

    if case == "saturating":
        return  # a difference of two extremes leaves FP16, so the bounds do not hold
    keys, values = (x.reshape(count, -1) for x in dequantise_window(closed, config))
    order = order_window(sums[:count], config)
    ordered = entered[order]
    scale = from_fp16(closed.delta_scale).repeat_interleave(config.group, -1)
    low = from_fp16(closed.delta_minimum).repeat_interleave(config.group, -1)
    bound = scale / 2 + FP16_STEP * (low.abs() + 2**config.key_delta_bits * scale)
    error = (keys - ordered).reshape(3, -1, 8, config.head_dim)[:, :, 1:].abs()
    mask = closed.delta_mask.flatten(-2).bool()
    assert bool((error <= bound)[mask].all())
    # A pruned channel is the base's own, whatever the token was.
    chunks = keys.reshape(3, -1, 8, config.head_dim)
    assert torch.equal(chunks[:, :, 1:][~mask], chunks[:, :, :1].expand_as(chunks[:, :, 1:])[~mask])
    step = from_fp16(closed.value_scale).repeat_interleave(config.value_group, 1).flatten(0, 1)
    floor = from_fp16(closed.value_minimum).repeat_interleave(config.value_group, 1).flatten(0, 1)
    value_mask = torch.cat((torch.zeros_like(closed.value_mask[:, :, :1]), closed.value_mask), 2)
    value_mask = value_mask.reshape(count, -1).bool()
    value_error = (values - entered_values[order]).abs()
    steps = 2**config.value_bits
    bound = step / 2 + FP16_STEP * (floor.abs() + steps * step)
    assert bool((value_error <= bound)[value_mask].all())
    others = values.reshape(-1, 8, config.head_dim)[:, 1:]
    assert not bool(others[~value_mask.reshape(-1, 8, config.head_dim)[:, 1:]].any())


@pytest.mark.parametrize("scope", ["token", "chunk"])
@pytest.mark.parametrize("bits", [2, 4])
def test_pruning_keeps_the_largest(scope: str, bits: int) -> None:
    """Against a slow selection by (size, index) from the unpruned codes."""
    config = replace(TINY, key_delta_bits=bits, mask_scope=scope, value_bits=bits)
    tensors, sums, cache = build("ties", 33, 5, config)
    keys, values = dequantise_tail(compress_tail(tensors.keys, tensors.values, config), config)
    order = order_window(sums[:16], config)
    base = base_keys(cache.closed)[0]
    for chunk in range(2):
        difference = keys[order[chunk * 8 + 1 : chunk * 8 + 8]] - base[chunk]
        of_tokens = dequantise(quantise(difference, bits, 16)).abs().reshape(7, 2, 16)
        for token in range(1, 8):
            sizes = of_tokens[token - 1] if scope == "token" else of_tokens.sum(0)
            for group, size in enumerate(sizes.tolist()):
                best = sorted(range(16), key=lambda i: (-size[i], i))[:4]
                mask = cache.closed.delta_mask[0, chunk, token - 1, group]
                assert mask.nonzero().flatten().tolist() == sorted(best)
    for channel in range(32):
        column = values[order, channel].clone()
        column[[0, 8]] = 0
        value_sizes = dequantise(quantise(column, bits, 16)).abs().tolist()
        others = [i for i in range(16) if i % 8]
        best = sorted(others, key=lambda i: (-value_sizes[i], i))[:6]
        mask = cache.closed.value_mask[0, :, :, channel].flatten()
        assert [others[i] for i in mask.nonzero().flatten().tolist()] == sorted(best)


def test_differences_are_from_the_quantised_base() -> None:
    keys = torch.randn(16, 32, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    entered = quantise(keys, 8, 16)
    window = compress_window(entered, torch.zeros(16, 32), torch.zeros(16), TINY)
    held = dequantise(entered)
    for chunk in range(2):
        base = held[8 * chunk]
        expected = quantise(held[8 * chunk + 1 : 8 * chunk + 8] - base, 2, 16)
        assert torch.equal(window.delta_scale[chunk], expected.scale)
        assert torch.equal(window.delta_minimum[chunk], expected.minimum)
        mask = window.delta_mask[chunk].flatten(-2)
        assert torch.equal(window.delta_codes[chunk].flatten(-2), expected.codes * mask)


def test_closing_reads_what_the_tail_held() -> None:
    config = replace(TINY, tail_value_bits=8)
    tensors = random_tensors(config, 33, 4)
    sums = torch.zeros(33)
    tail = compress_tail(tensors.keys, tensors.values, config)
    held_values = dequantise_tail(tail, config)[1]
    closed = compress_cache(tensors.keys, tensors.values, sums, config).closed
    held_keys = tail.keys.each(lambda part: part[:16])
    expected = compress_window(held_keys, held_values[:16], sums[:16], config)
    for field in fields(CompressedWindow):
        assert torch.equal(getattr(closed, field.name)[0], getattr(expected, field.name))


def test_opposite_differences_tie() -> None:
    """+x and -x have the same size after dequantising, so only the index decides."""
    keys = torch.zeros(16, 32)
    keys[1, :16] = torch.tensor([-1.5, 1.5] * 8)  # levels -1.5, -0.5, 0.5, 1.5
    sums = torch.zeros(16)
    window = compress_window(quantise(keys, 8, 16), torch.zeros(16, 32), sums, TINY)
    mask = window.delta_mask
    assert mask[0, 0, 0].tolist() == [1, 1, 1, 1] + [0] * 12


@pytest.mark.parametrize(("bits", "step"), [(16, 2.0**-15), (8, 2.0**-7)])
def test_tail(bits: int, step: float) -> None:
    config = replace(TINY, tail_value_bits=bits)
    tensors = random_tensors(config, 20, 1)
    tail = compress_tail(tensors.keys, tensors.values, config)
    keys, values = dequantise_tail(tail, config)
    assert torch.equal(keys, dequantise(quantise(tensors.keys, 8, 16)))
    bound = from_fp16(tail.value_scale).unsqueeze(-1) * step / 2
    assert bool(((values - tensors.values).abs() <= bound).all())


@pytest.mark.parametrize("context", [1, 16, 32, 33, 48, 49, 256])
def test_cache_shapes(context: int) -> None:
    tensors, _sums, cache = build("random", context)
    closed = TINY.closed_tokens(context)
    assert cache.closed.base_codes.shape == (closed // 16, 2, 32)
    assert cache.closed.value_scale.shape == (closed // 16, 1, 32)
    assert cache.tail.value_codes.shape == (context - closed, 32)
    whole = compress_tail(tensors.keys, tensors.values, TINY)
    assert torch.equal(cache.tail.keys.codes, whole.keys.codes[closed:])


def test_saliency_of_the_tail() -> None:
    """In units of 2**-20, half up, within 32 bits; 0 where no sum is given."""
    tensors = random_tensors(TINY, 40, 1)
    sums = torch.zeros(40, dtype=torch.float64)
    given = [1.0, 2.5 * 2**-20, 2.49 * 2**-20, 4095.9, 4096.0, 1e9]
    sums[16:22] = torch.tensor(given, dtype=torch.float64)
    sums[39] = 0.5
    tail = compress_cache(tensors.keys, tensors.values, sums, TINY).tail
    wanted = [1 << 20, 3, 2, round(4095.9 * 2**20), (1 << 32) - 1, (1 << 32) - 1]
    assert tail.saliency.dtype == torch.int64
    assert tail.saliency.tolist() == [*wanted, *[0] * 17, 1 << 19]
    shorter = compress_cache(tensors.keys, tensors.values, sums[:18], TINY).tail
    assert shorter.saliency.tolist() == [1 << 20, 3, *[0] * 22]
    none = compress_cache(tensors.keys, tensors.values, sums[:16], TINY).tail
    assert not none.saliency.any()
    assert not compress_tail(tensors.keys, tensors.values, TINY).saliency.any()


def test_closed_windows_never_change() -> None:
    tensors = random_tensors(TINY, 120, 2)
    sums = saliency(tensors.queries, tensors.keys, TINY)
    late = compress_cache(tensors.keys, tensors.values, sums, TINY)
    # Saliency of the first 49 tokens alone gives the same window: later queries do not count.
    early_sums = saliency(tensors.queries[:, :49], tensors.keys[:49], TINY)
    early = compress_cache(tensors.keys[:49], tensors.values[:49], early_sums, TINY)
    assert early.closed.base_codes.shape[0] == 2
    for field in fields(CompressedWindow):
        assert torch.equal(getattr(early.closed, field.name), getattr(late.closed, field.name)[:2])


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((0, 32), "context must be from 1 to 256, not 0"),
        ((257, 32), "context must be from 1 to 256, not 257"),
        ((10, 64), "head dimension must be 32, not 64"),
    ],
)
def test_cache_errors(shape: tuple[int, int], message: str) -> None:
    token = torch.zeros(shape)
    with pytest.raises(ValueError, match=f"^{message}$"):
        compress_cache(token, token, token[:, 0], TINY)


def test_leading_dimensions() -> None:
    """Heads together give what each gives alone."""
    cases = [random_tensors(TINY, 85, seed) for seed in range(3)]
    keys, values, queries = (
        torch.stack([getattr(case, name) for case in cases])
        for name in ("keys", "values", "queries")
    )
    together = compress_cache(keys, values, saliency(queries, keys, TINY), TINY)
    answers = attend(queries[..., -1, :], together, TINY)
    for i, case in enumerate(cases):
        alone = compress_cache(
            case.keys, case.values, saliency(case.queries, case.keys, TINY), TINY
        )
        assert torch.equal(together.closed.value_codes[i], alone.closed.value_codes)
        assert torch.equal(together.tail.keys.scale[i], alone.tail.keys.scale)
        answer = attend(case.query, alone, TINY)
        assert torch.equal(answers.selection[i], answer.selection)
        assert torch.allclose(answers.output[i], answer.output, rtol=1e-12)
        assert torch.allclose(answers.tail_probability[i], answer.tail_probability, rtol=1e-12)


# --- attention ----------------------------------------------------------------------------------


def test_attend_equal_scores() -> None:
    """A zero query weighs all tokens alike; all chunks tie and the lowest four are selected."""
    _, _, cache = build("random", 85)  # 64 closed tokens, 8 chunks; 21 tail tokens
    answer = attend(torch.zeros(2, 32), cache, TINY)
    assert answer.selection.tolist() == [0, 1, 2, 3]
    assert answer.maximum.tolist() == [0.0, 0.0]
    assert answer.total.tolist() == [53.0, 53.0]
    values = dequantise_window(cache.closed, TINY)[1].reshape(64, 32)[:32]
    mean = torch.cat((dequantise_tail(cache.tail, TINY)[1], values)).mean(0)
    assert torch.allclose(answer.output, mean.expand(2, -1))
    assert torch.allclose(answer.tail_probability, torch.full((21,), 2 / 53, dtype=torch.float64))


def test_attend_without_closed_windows() -> None:
    tensors, _, cache = build("random", 32)
    answer = attend(tensors.query, cache, TINY)
    keys, values = dequantise_tail(cache.tail, TINY)
    assert answer.selection.shape == (0,)
    assert torch.allclose(answer.output, dense_attention(tensors.query, keys, values))
    score = tensors.query.double() @ keys.T / 32**0.5
    # Statistics are base 2: total * 2**maximum is the sum of e**score.
    assert torch.allclose(answer.total * torch.exp2(answer.maximum), score.exp().sum(-1))
    assert torch.allclose(answer.tail_probability, score.softmax(-1).sum(0), rtol=1e-12)


def chosen_bases(rows_like: list[list[float]], config: AttentionConfig) -> CompressedCache:
    """A cache of four chunks whose estimates for row r are about ``rows_like[r]``.

    The query of row r is 1 in channel r alone; the base of chunk c has ``rows_like[r][c]`` there.
    """
    _, _, cache = build("all_zero", 49, config=config)
    keys = torch.zeros(4, 32)
    for row, like in enumerate(rows_like):
        keys[:, row] = torch.tensor(like)
    base = quantise(keys, 8, 16)
    closed = replace(
        cache.closed,
        base_codes=base.codes.reshape(2, 2, 32),
        base_scale=base.scale.reshape(2, 2, 2),
        base_minimum=base.minimum.reshape(2, 2, 2),
    )
    return replace(cache, closed=closed)


def test_selection_of_query_groups() -> None:
    rows = torch.zeros(2, 32)
    rows[0, 0] = rows[1, 1] = 1
    like = [[9.0, 5.0, 1.0, 4.0], [-9.0, 5.0, 8.0, 1.0]]
    largest = replace(TINY, group_combine="max", budget=24)
    mean = replace(TINY, group_combine="mean", budget=24)
    cache = chosen_bases(like, largest)
    assert attend(rows, cache, largest).selection.tolist() == [0, 2, 1]  # 9, 8, 5, (4)
    assert attend(rows, cache, mean).selection.tolist() == [1, 2, 3]  # 5, 4.5, 2.5, (0)
    estimate = estimate_chunks(rows, cache, mean)
    assert torch.allclose(
        estimate / query_fold(32), torch.tensor([0.0, 5, 4.5, 2.5]).double(), atol=0.1
    )


def test_selection_ties() -> None:
    estimate = torch.tensor([1.0, 3.0, 2.0, 3.0, 2.0, 2.0])
    assert select_chunks(estimate, TINY).tolist() == [1, 3, 2, 4]


def test_attend_forced_selection() -> None:
    tensors, _, cache = build("random", 120, 4)
    keys, values = (x.flatten(0, 1) for x in dequantise_window(cache.closed, TINY))
    tail_keys, tail_values = dequantise_tail(cache.tail, TINY)
    choice = torch.tensor([7, 0, 3])
    expected = dense_attention(
        tensors.query,
        torch.cat((keys[choice].flatten(0, 1), tail_keys)),
        torch.cat((values[choice].flatten(0, 1), tail_values)),
    )
    answer = attend(tensors.query, cache, TINY, choice)
    assert answer.selection.tolist() == [7, 0, 3]
    assert torch.allclose(answer.output, expected, rtol=1e-12)


def test_attend_is_dense_where_nothing_is_lost() -> None:
    """A budget for all chunks, and numbers that every quantiser of the method holds exactly."""
    config = replace(TINY, budget=128)
    generator = torch.Generator().manual_seed(11)
    context = 129  # 112 closed tokens, 14 chunks
    # Equal keys in a chunk, 0 to 255 in each group: AQ_8 has scale 1, every difference is 0.
    keys = torch.randint(0, 256, (17, 32), generator=generator).float()
    keys[:, ::16], keys[:, 1::16] = 0, 255
    keys = keys.repeat_interleave(8, 0)[:context]
    # Values: step 5 with minimum 0; one kept token per chunk and channel, bases among 0, 1 .. 15.
    values = torch.zeros(context, 32)
    values[0::8] = torch.randint(0, 16, values[0::8].shape, generator=generator).float()
    values[3::8] = 15.0
    queries = torch.randn(2, 32, generator=generator) * 0.01
    # Token 0 of each chunk leads.
    sums = torch.zeros(context)
    sums[0::8] = 1
    cache = compress_cache(keys, values, sums, config)
    answer = attend(queries, cache, config)
    assert answer.selection.shape == (14,)
    # The tail's values alone keep a rounding error of 2**-16 of their scale.
    assert torch.allclose(answer.output, dense_attention(queries, keys, values), atol=2e-4)
    closed_keys, closed_values = dequantise_window(cache.closed, config)
    assert torch.equal(closed_keys.reshape(112, 32), keys[:112].double())
    assert torch.equal(closed_values.reshape(112, 32), values[:112].double())


def test_attend_rows() -> None:
    _, _, cache = build("random", 20)
    with pytest.raises(ValueError, match=r"^query must have 2 rows, not 3$"):
        attend(torch.zeros(3, 32), cache, TINY)


def test_sink_takes_the_attention() -> None:
    tensors, _, cache = build("sink", 200, 1)
    answer = attend(tensors.query, cache, TINY)
    assert answer.selection[0].item() == 0
    assert bool((answer.total < 1.1).all())
    weights = (tensors.query @ tensors.keys.T / 32**0.5).softmax(-1)
    assert bool((weights[:, 0] > 0.9).all())


def test_outlier_channels() -> None:
    keys = CASES["outlier_channels"](TINY, 200, 1).keys
    outliers = keys.std(0) > 5
    assert int(outliers.sum()) == 4
    assert torch.allclose(keys[:, outliers].mean(0), torch.full((4,), 15.0), atol=3)


@pytest.mark.parametrize("case", CASES)
def test_cases_are_seeded_fp16(case: str) -> None:
    first, again, other = (CASES[case](TINY, 40, seed) for seed in (1, 1, 2))
    assert first.query.shape == (2, 32)
    for name in ("keys", "values", "queries"):
        tensor = getattr(first, name)
        assert torch.equal(tensor, getattr(again, name))
        assert torch.equal(tensor, tensor.half().float())
        assert case == "all_zero" or not torch.equal(tensor, getattr(other, name))


def test_quantised_of_nothing() -> None:
    empty = quantise(torch.zeros(0, 32), 8, 16)
    assert dequantise(Quantised(empty.codes, empty.scale, empty.minimum)).shape == (0, 32)


def test_closing_rounds_values_to_fixed_point() -> None:
    unit = 2.0**-24
    values = torch.tensor([0.0, 0.49, 0.5, 1.5, -0.5, -0.51, 65504 / unit + 0.25]).double() * unit
    expected = torch.tensor([0.0, 0.0, 1.0, 2.0, 0.0, -1.0, 65504 / unit]).double() * unit
    assert torch.equal(fixed_values(values), expected)
    # The range of a value group is that of the rounded numbers.
    column = torch.zeros(16, 32, dtype=torch.float64)
    column[1, 0] = 3000.4 * unit
    keys = quantise(torch.zeros(16, 32), 8, 16)
    closed = compress_window(keys, column, torch.zeros(16), TINY)
    assert from_fp16(closed.value_scale[0, 0]).item() == 1000 * unit
