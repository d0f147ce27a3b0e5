"""The core's twin against the float reference: outputs, selection and statistics."""

from functools import cache

import pytest
import torch
from torch import Tensor

from golden.reference import (
    CompressedCache,
    DenseCache,
    attend,
    compress_cache,
    quantise_query,
    saliency,
)
from golden.tensors import CASES
from golden.twin.attention import JobResult, attention
from golden.twin.dense import dense_attention
from hw.config import AttentionConfig, preset
from hw.constants import OUTPUT_FRACTION, SCORE_FRACTION, SUM_FRACTION
from hw.formats import Mode
from tb.configurations import AWKWARD

CONFIGS = {"tiny": preset("tiny"), "lm": preset("lm"), **AWKWARD}
CONTEXTS = {
    "tiny": (1, 8, 31, 32, 33, 100, 256),
    "lm": (129, 777, 2048),
    "channels96": (1, 33, 143),
    "channels192": (1, 65, 160),
}
SEEDS = {"tiny": (1, 2, 3), "lm": (1,), "channels96": (1, 2, 3), "channels192": (1, 2)}
REAL_CASES = ("random", "sink", "outlier_channels")
COSINE = 0.9999
OVERLAP = 0.99


@cache
def prepared(
    name: str, case: str, context: int, seed: int
) -> tuple[AttentionConfig, Tensor, CompressedCache]:
    """Configuration, query and compressed cache."""
    config = CONFIGS[name]
    tensors = CASES[case](config, context, seed)
    sums = saliency(tensors.queries, tensors.keys, config)
    return config, tensors.query, compress_cache(tensors.keys, tensors.values, sums, config)


def run(
    config: AttentionConfig, query: Tensor, cache: CompressedCache, selection: Tensor | None = None
) -> JobResult:
    """The twin on a float query."""
    codes, scale = quantise_query(query)
    return attention(codes, scale, cache, config, selection)


def real_output(result: JobResult) -> Tensor:
    """The output as numbers."""
    return result.output.double() * 2.0**-OUTPUT_FRACTION


@pytest.mark.parametrize("name", CONTEXTS)
@pytest.mark.parametrize("case", REAL_CASES)
def test_output_with_the_selection_of_the_reference(name: str, case: str) -> None:
    """Every output row points where the reference's does, and is as long."""
    for context in CONTEXTS[name]:
        for seed in SEEDS[name]:
            config, query, cache = prepared(name, case, context, seed)
            wanted = attend(query, cache, config)
            found = real_output(run(config, query, cache, wanted.selection))
            cosine = torch.nn.functional.cosine_similarity(found, wanted.output, dim=-1)
            print(f"{name} {case} context {context} seed {seed}: cosine {cosine.tolist()}")
            assert (cosine >= COSINE).all()
            length = found.norm(dim=-1) / wanted.output.norm(dim=-1)
            assert ((length - 1).abs() < 0.01).all()


@pytest.mark.parametrize("name", CONTEXTS)
@pytest.mark.parametrize("case", REAL_CASES)
def test_own_selection(name: str, case: str) -> None:
    """Nearly the same chunks, and where they differ the reference sees almost a tie."""
    overlaps = []
    for context in CONTEXTS[name]:
        for seed in SEEDS[name]:
            config, query, cache = prepared(name, case, context, seed)
            if config.closed_tokens(context) == 0:
                continue
            wanted = attend(query, cache, config)
            found = run(config, query, cache).selection
            kept = set(wanted.selection.tolist())
            others = [chunk for chunk in found.tolist() if chunk not in kept]
            overlaps.append(1 - len(others) / len(kept))
            limit = wanted.estimate[wanted.selection].min()
            for chunk in others:
                gap = float(limit - wanted.estimate[chunk])
                print(f"{name} {case} {context} seed {seed}: chunk {chunk}, gap {gap:.2e}")
                assert gap < 0.05
    mean = sum(overlaps) / len(overlaps)
    print(f"{name} {case}: overlap {mean:.4f} over {len(overlaps)} jobs")
    assert mean >= OVERLAP


@pytest.mark.parametrize("case", REAL_CASES)
def test_statistics(case: str) -> None:
    """Maximum and sum give the reference's log2 of its softmax sum."""
    config, query, cache = prepared("tiny", case, 256, 1)
    wanted = attend(query, cache, config)
    found = run(config, query, cache, wanted.selection)
    size = torch.log2(found.sum.double()) - SUM_FRACTION + found.maximum
    assert torch.allclose(size, wanted.maximum + torch.log2(wanted.total), atol=0.02)
    # The unit exponent lies less than one unit of a score above the largest score.
    above = found.maximum - wanted.maximum
    assert (above > -(2.0 ** -(SCORE_FRACTION - 6))).all()
    assert (above <= 1 + 2.0 ** -(SCORE_FRACTION - 6)).all()


@pytest.mark.parametrize("case", ["all_zero", "saturating", "ties"])
@pytest.mark.parametrize("context", [1, 33, 256])
def test_extreme_tensors(case: str, context: int) -> None:
    """No number leaves its width: every output is within its values' bound, every sum normal."""
    config, query, cache = prepared("tiny", case, context, 1)
    found = run(config, query, cache)
    assert (found.sum >= 1 << 19).all()
    assert (found.sum < 1 << config.sum_bits).all()
    assert (real_output(found).abs() <= 1.01 * 65504).all()
    assert len(found.selection) == min(
        config.closed_tokens(context) // config.chunk, config.top_chunks
    )
    if case == "all_zero":
        assert found.output.unique().tolist() == [0]
        assert found.selection.tolist() == list(range(len(found.selection)))


@pytest.mark.parametrize("mode", [Mode.DENSE8, Mode.DENSE16])
def test_dense_by_hand(mode: Mode) -> None:
    """Three tokens with the scores 0, -1, -2 and the values 1, 2, -1; a row that sees them equal.

    In real numbers: 2**0, 2**-1 and 2**-2 of 7/4 are 4/7, 2/7 and 1/7, and (4 + 4 - 1) / 7 = 1. In
    the other row (1 + 2 - 1) / 3.
    """
    config = preset("tiny")
    unit = 1 << 8 * mode.code_bytes - 1
    query = torch.zeros(2, config.head_dim, dtype=torch.int64)
    query[0, 5] = 1024  # 1024 / 2048 * 4 = 2
    key_codes = torch.zeros(3, config.head_dim, dtype=torch.int64)
    key_codes[:, 5] = torch.tensor([0, -unit // 2, -unit])  # 0, -1/2, -1
    key_codes[:, 6] = unit - 1  # meets no query
    value_codes = torch.tensor([1, 2, -1])[:, None].expand(3, config.head_dim) * unit // 4
    cache = DenseCache(
        mode=mode,
        key_codes=key_codes,
        value_codes=value_codes,
        key_scale=torch.tensor(0),  # part of the query's
        value_scale=torch.tensor(0x4400),  # 4
    )
    found = dense_attention(query, torch.tensor([0x4400, 0x3C00]), cache, config)
    scores = torch.tensor([[0.0, -1.0, -2.0], [0.0, 0.0, 0.0]]) * torch.log(torch.tensor(2.0))
    wanted = scores.softmax(-1) @ torch.tensor([1.0, 2.0, -1.0])
    assert wanted.tolist() == pytest.approx([1, 2 / 3])
    # 2048, 1024 and 512 of 4096 below the maximum 2**1; then half of 4096 each.
    assert found.maximum.tolist() == [1, 1]
    assert found.sum.tolist() == [256 * 3584, 256 * 6144]
    step = 2.0**-OUTPUT_FRACTION
    assert ((real_output(found) - wanted[:, None]).abs() <= 2 * step).all()
    assert len(found.selection) == 0
