"""A compressor of one's own: legal `KVO` records with other choices in them.

python -m docs.examples.value_norm runs it on the simulated core.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from golden.reference import CompressedCache, compress_cache
from golden.tensors import CASES, Tensors
from golden.workload import JobCase, case_from_tensors, make_workload
from hw.config import AttentionConfig, preset
from tb.attention.runner import require_equal, run_attention


def compress(tensors: Tensors, config: AttentionConfig) -> CompressedCache:
    """Order a chunk by the size of its values; the last of each chunk keeps no value.

    The attention of the prefill is not needed, so a window closes without its queries.
    """
    size = torch.linalg.vector_norm(tensors.values.double(), dim=-1)
    cache = compress_cache(tensors.keys, tensors.values, size, config)
    mask = cache.closed.value_mask.clone()
    mask[..., -1, :] = 0
    codes = cache.closed.value_codes * mask  # the codes of absent values must be 0
    return replace(cache, closed=replace(cache.closed, value_mask=mask, value_codes=codes))


def cases(config: AttentionConfig, seed: int) -> list[JobCase]:
    """Each kind of synthetic tensors with one closed window, and with all."""
    return [
        case_from_tensors(f"{name}, {n} tokens", make(config, n, seed), config, compress=compress)
        for name, make in CASES.items()
        for n in (3 * config.window, config.max_context)
    ]


def main() -> None:
    """Compare the core with the twin on these jobs, word by word."""
    config = preset("tiny")
    run = run_attention(config, make_workload(cases(config, seed=1), config), seed=1)
    require_equal(run.comparison)
    print(f"{run.comparison.jobs} jobs, {run.comparison.words} words: 0 differences")


if __name__ == "__main__":
    main()
