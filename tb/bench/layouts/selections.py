"""Which chunks the golden model selects: real KV of the trained model, or synthetic tensors."""

from __future__ import annotations

from golden.captured import captured_cases
from golden.reference import CompressedCache, quantise_query, select_chunks
from golden.twin.attention import chunk_view
from golden.twin.keys import base_key_sums, score, selection_score
from golden.workload import JobCase
from hw.config import AttentionConfig
from hw.formats import Mode
from tb.attention.catalogue import fitted_cases, has_model_shape


def golden_selections(
    config: AttentionConfig, context: int, seed: int, jobs: int
) -> tuple[str, list[list[int]]]:
    """Where the tensors come from, and the selected chunks of each job, best first."""
    if has_model_shape(config):
        source, cases = "captured KV of the trained model", captured_cases(config, [context])
    else:
        source = "synthetic, fitted to captured KV"
        cases = fitted_cases(config, context, seed, Mode.KVO, jobs)
    return source, [_selection(case, config) for case in cases[:jobs]]


def _selection(case: JobCase, config: AttentionConfig) -> list[int]:
    assert isinstance(case.cache, CompressedCache)
    codes, scale = quantise_query(case.query)
    estimates = base_key_sums(codes, chunk_view(case.cache.closed), config)
    scores = selection_score(score(estimates, scale), config)
    return [int(chunk) for chunk in select_chunks(scores, config)]
