"""The compressor of docs/extending.md, as its reader would use and check it."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch

from docs.examples import value_norm
from golden.acceptance import LEAST_COSINE
from golden.cache_formats import CACHE_FORMATS, run_job
from golden.memory_image import MemoryImage
from golden.memory_image.packing import RecordError
from golden.memory_image.regions import _PACKERS, pack_regions
from golden.reference import CompressedCache, attend
from golden.tensors import CASES
from golden.twin.attention import attention
from golden.workload import JobCase, make_workload
from hw.config import preset
from hw.constants import OUTPUT_FRACTION
from hw.formats import KVFormat, Mode
from tb.attention.runner import Mismatch, require_equal, run_attention

TINY = preset("tiny")


def compressed(case: JobCase) -> CompressedCache:
    assert isinstance(case.cache, CompressedCache)
    return case.cache


def test_every_mode_is_in_both_tables() -> None:
    assert set(CACHE_FORMATS) == set(_PACKERS) == set(Mode)
    config = replace(TINY, slots=48)
    for mode, form in CACHE_FORMATS.items():
        cache = form.compress(CASES["random"](config, 40, 1), config)
        assert (cache.mode, cache.context) == (mode, 40)
        sizes = KVFormat(config).region_bytes(40, mode)
        regions = {name: len(region) for name, region in pack_regions(cache, config).items()}
        assert regions == {name: size for name, size in sizes.items() if name in regions}
        assert sum(regions.values()) == sum(sizes.values())


def test_the_example_runs_on_the_core(capsys: pytest.CaptureFixture[str]) -> None:
    value_norm.main()
    jobs = 2 * len(CASES)
    words = jobs * (TINY.rows * (TINY.head_dim + 2) + 2)
    assert capsys.readouterr().out == f"{jobs} jobs, {words} words: 0 differences\n"


def test_its_records_are_legal(seed: int) -> None:
    """Codes of absent values are 0, and the memory holds the very cache that the twin saw."""
    for case in value_norm.cases(TINY, seed):
        image = MemoryImage(TINY)
        cache, found = compressed(case), image.read(image.place(case.cache))
        assert not (cache.closed.value_codes * (1 - cache.closed.value_mask)).any()
        for part in ("closed", "tail"):
            assert_equal(getattr(found, part), getattr(cache, part))


def assert_equal(found: object, wanted: object) -> None:
    """Compare dataclasses of tensors, and of such."""
    if isinstance(found, torch.Tensor) and isinstance(wanted, torch.Tensor):
        assert torch.equal(found, wanted)
        return
    for field in fields(found):  # type: ignore[arg-type]
        assert_equal(getattr(found, field.name), getattr(wanted, field.name))


def test_they_are_other_records_than_the_method_s(seed: int) -> None:
    tensors = CASES["random"](TINY, 3 * TINY.window, seed)
    own = value_norm.compress(tensors, TINY)
    usual = CACHE_FORMATS[Mode.KVO].compress(tensors, TINY)
    assert isinstance(usual, CompressedCache)
    one, other = (pack_regions(cache, TINY) for cache in (own, usual))
    # The tail holds the same tokens, with saliencies of its own.
    assert torch.equal(own.tail.keys.codes, usual.tail.keys.codes)
    assert torch.equal(own.tail.value_codes, usual.tail.value_codes)
    assert not torch.equal(own.tail.saliency, usual.tail.saliency)
    assert one["base"] != other["base"]
    assert one["chunk"] != other["chunk"]
    outputs = [run_job(tensors.query, cache, TINY)[2].output for cache in (own, usual)]
    assert not torch.equal(*outputs)


def test_the_twin_is_near_the_reference(seed: int) -> None:
    tensors = CASES["random"](TINY, TINY.max_context, seed)
    cache = value_norm.compress(tensors, TINY)
    wanted = attend(tensors.query, cache, TINY)
    codes, scale, _ = run_job(tensors.query, cache, TINY)
    found = attention(codes, scale, cache, TINY, selection=wanted.selection).output
    real = found.double() / (1 << OUTPUT_FRACTION)
    assert torch.nn.functional.cosine_similarity(real, wanted.output, dim=-1).min() > LEAST_COSINE


def test_an_illegal_record_is_refused(seed: int) -> None:
    """Negative control: one delta more than ``key_keep``."""
    cache = value_norm.compress(CASES["random"](TINY, 3 * TINY.window, seed), TINY)
    mask = cache.closed.delta_mask.clone()
    channel = int(mask[0, 1, 2, 0].argmin())
    mask[0, 1, 2, 0, channel] = 1
    spoiled = replace(cache, closed=replace(cache.closed, delta_mask=mask))
    with pytest.raises(RecordError, match=r"^delta mask must have 4 ones, not 5$"):
        MemoryImage(TINY).place(spoiled)


def test_a_record_that_the_twin_did_not_see_is_found(seed: int) -> None:
    """Negative control: the codes of some values change in memory only."""
    case = value_norm.cases(TINY, seed)[0]
    # With one closed window every chunk is selected, so each is read.
    assert TINY.closed_tokens(case.cache.context) <= TINY.budget
    codes = KVFormat(TINY).delta_bytes
    spoiled = replace(case, poison=(("chunk", codes, bytes([0x5A] * 16)),))
    data = make_workload([spoiled], TINY)
    with pytest.raises(Mismatch, match="outputs differ"):
        require_equal(run_attention(TINY, data, seed=seed).comparison)
