"""Addresses of a closing window, from the layout that docs/contracts.md gives."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from amaranth.sim import Simulator

from hw.config import BURST_BYTES, AttentionConfig, preset
from hw.cores.compressor.payloads import window_count
from hw.cores.compressor.window_places import WindowPlaces
from hw.formats import KVFormat
from tb.formal.mutant import mutant

TINY = preset("tiny")
WORD_BYTES = 4
#: Windows that fill half a base key block, a whole one, and several; padding between the parts.
CONFIGS: dict[str, AttentionConfig] = {
    "tiny": TINY,
    "chunk 4": replace(TINY, chunk=4, window=64),
    "chunk 16": replace(TINY, chunk=16, budget=48),
    "4 bits": replace(TINY, key_bits=4, key_delta_bits=4, value_bits=4),
    "lm": preset("lm"),
    "paper": preset("paper"),
}


def places_of(config: AttentionConfig, window: dict[str, int]) -> dict[str, int]:
    """Sections 5 and 9: where the window's tail blocks, base keys and groups lie."""
    layout, number = KVFormat(config), window["window"]
    chunk = number * config.window // config.chunk
    group = number * config.window // config.value_group
    block, row = divmod(chunk, config.chunk)
    keys = window["base_address"] + block * layout.base_block_bytes
    records = window["chunk_address"] + group * layout.group_bytes
    ring = number % 2 * config.window // config.chunk
    parts = {
        "tail": window["tail_address"] + ring * layout.tail_block_bytes,
        "base_pairs": keys + row * config.groups * 4,
        "base_codes": keys + layout.key_scale_bytes + row * config.head_dim * config.key_bits // 8,
        "scales": records,
        "deltas": records + layout.value_scale_bytes,
        "records": records + layout.value_scale_bytes + layout.delta_bytes,
    }
    return {
        name: place // (WORD_BYTES if name.startswith("base") else BURST_BYTES)
        for name, place in parts.items()
    }


def check(unit: Any, config: AttentionConfig, seed: int) -> None:
    """Window after window, a cycle each; the answer is that of the cycle before."""
    rng = random.Random(seed)
    regions = ("base_address", "chunk_address", "tail_address")
    numbers = [*range(min(12, window_count(config))), window_count(config) - 1]
    windows = [
        {name: BURST_BYTES * rng.randrange(1 << 25) for name in regions} | {"window": number}
        for number in numbers * 3
    ]
    simulator = Simulator(unit)
    simulator.add_clock(1e-9)

    async def bench(context: Any) -> None:
        for window in windows:
            for name, value in window.items():
                context.set(unit.window[name], value)
            await context.tick()
            expected = places_of(config, window)
            assert {name: context.get(getattr(unit, name)) for name in expected} == expected

    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.parametrize("name", CONFIGS)
def test_places(name: str, seed: int) -> None:
    check(WindowPlaces(CONFIGS[name]), CONFIGS[name], seed)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Mux(number[0], half, 0)", "Mux(number[0], 0, half)"),
        ("(number & (sharing - 1)) * chunks", "0"),
        ("group_place + scales + deltas", "group_place + deltas"),
    ],
)
def test_faults_are_found(old: str, new: str) -> None:
    """Negative control."""
    config = replace(TINY, chunk=8, window=16)
    with pytest.raises(AssertionError):
        check(mutant(WindowPlaces, old, new)(config), config, 1)
