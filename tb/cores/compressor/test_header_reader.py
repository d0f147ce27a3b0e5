"""Sections of headers, and numbers that are not finite."""

import random
from dataclasses import replace

import pytest

from hw.config import AttentionConfig, preset
from hw.cores.compressor.header_reader import HeaderReader
from hw.cores.payloads import BEAT
from hw.formats import KVFormat
from tb.cores.compressor.streams import play
from tb.harness import pack

TINY = preset("tiny")
CONFIGS = {
    "tiny": TINY,
    "chunk 4": replace(TINY, chunk=4, head_dim=96, group=32),
    "chunk 16": replace(TINY, chunk=16, budget=48),
}
FINITE = 0x7BFF_FBFF_0001_3C00_8400_0000_5555_03FF


def header(config: AttentionConfig, rng: random.Random) -> dict[str, list[int]]:
    """Beats of each section; the scales are finite."""
    layout = KVFormat(config)
    used = layout.saliency_bytes + layout.key_scale_bytes + layout.tail_scale_bytes
    return {
        "saliencies": [rng.getrandbits(128) for _ in range(layout.saliency_bytes // 16)],
        "pairs": [FINITE ^ rng.getrandbits(8) for _ in range(layout.key_scale_bytes // 16)],
        "value_scales": [FINITE ^ rng.getrandbits(8) for _ in range(layout.tail_scale_bytes // 16)],
        # What is all ones is no finite number; it must not be looked at.
        "padding": [(1 << 128) - 1] * ((layout.tail_header_bytes - used) // 16),
    }


def run(config: AttentionConfig, headers: list[dict[str, list[int]]], seed: int = 1) -> int:
    """Check the sections of ``headers``; how many beats were not finite."""
    names = ("saliencies", "pairs", "value_scales")
    beats = [
        pack(BEAT, {"data": data, "error": 0, "last": 0})
        for one in headers
        for section in one.values()
        for data in section
    ]
    expected = {name: [data for one in headers for data in one[name]] for name in names}
    played = play(
        HeaderReader(config),
        inputs={"beats": beats},
        outputs={name: len(items) for name, items in expected.items()},
        watch=["not_finite"],
        seed=seed,
    )
    assert played.outputs == expected
    return played.high["not_finite"]


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_sections(config: AttentionConfig, seed: int) -> None:
    rng = random.Random(seed)
    assert run(config, [header(config, rng) for _ in range(5)], seed) == 0


@pytest.mark.parametrize("bad", [0x7C00, 0xFC00, 0x7C01, 0xFFFF])
@pytest.mark.parametrize("section", ["pairs", "value_scales"])
@pytest.mark.parametrize("place", [0, 3])
def test_not_finite(section: str, place: int, bad: int) -> None:
    config = CONFIGS["chunk 4"]
    one = header(config, random.Random(1))
    one[section][-1] = one[section][-1] & ~(0xFFFF << 16 * place) | bad << 16 * place
    assert run(config, [one]) == 1


def test_what_lies_behind_the_value_scales_has_no_meaning() -> None:
    config = CONFIGS["chunk 4"]
    one = header(config, random.Random(1))
    one["value_scales"][0] |= ((1 << 64) - 1) << 64
    assert run(config, [one]) == 0
