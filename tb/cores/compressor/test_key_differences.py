"""Differences of keys against the golden numbers, and the base keys as they lie in the tail."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch

from golden.reference.compress import order_window
from golden.twin.quantiser import fixed_of_fp16
from hw.config import AttentionConfig, preset
from hw.cores.compressor.key_differences import KeyDifferences
from hw.cores.compressor.payloads import BASE_ITEM
from hw.cores.payloads import BEAT
from tb.cores.compressor.bench import header_sections, random_tail, tail_beats
from tb.cores.compressor.streams import Played, play
from tb.harness import pack, unpack

TINY = preset("tiny")
CONFIGS: dict[str, tuple[AttentionConfig, int]] = {
    "tiny": (TINY, 8),
    "four lanes": (replace(TINY, window=32), 4),
    "six groups": (replace(TINY, head_dim=96, chunk=4), 8),
    "4 bits": (replace(TINY, key_bits=4, group=32, chunk=16, budget=48), 4),
}


def run(name: str, seed: int, stall: float = 0.3, reset_at: int | None = None) -> Played:
    """Compare all that a window makes."""
    config, lanes = CONFIGS[name]
    tail = random_tail(config, random.Random(seed), config.window)
    headers, keys, _ = tail_beats(tail, config)
    pairs, _ = header_sections(headers, config)
    order = order_window(tail.saliency, config).unflatten(-1, (-1, config.chunk))
    places = order % config.chunk
    unit = KeyDifferences(config, lanes=lanes)
    chunks = len(order)

    step = fixed_of_fp16(tail.keys.scale).unsqueeze(-1)
    low = fixed_of_fp16(tail.keys.minimum).unsqueeze(-1)
    numbers = (tail.keys.codes.unflatten(-1, (config.groups, -1)) * step + low).flatten(-2)
    ordered = numbers[order]
    differences = ordered[:, 1:] - ordered[:, :1]
    base = []
    for first in order[:, 0].tolist():
        words = tail.keys.scale[first] | tail.keys.minimum[first] << 16
        base += [{"data": word, "codes": 0} for word in words.tolist()]
        codes = tail.keys.codes[first].unflatten(-1, (-1, 128 // config.key_bits)).tolist()
        base += [
            {"data": sum(c << config.key_bits * i for i, c in enumerate(beat)), "codes": 1}
            for beat in codes
        ]
    played = play(
        unit,
        inputs={
            "order": [pack(unit.order.payload.shape(), one) for one in places.tolist()],
            "pairs": pairs,
            "codes": [pack(BEAT, {"data": beat, "error": 0, "last": 0}) for beat in keys],
        },
        outputs={
            "numbers": chunks * (config.chunk - 1) * config.head_dim // lanes,
            "base": len(base),
        },
        stall=stall,
        seed=seed,
        reset_at=reset_at,
        # Codes come behind all scales, as in a window.
        first=("order", "pairs"),
    )
    shape = unit.numbers.payload.shape()
    found = torch.tensor([unpack(shape, item) for item in played.outputs["numbers"]])
    assert torch.equal(found.flatten(), differences.flatten())
    assert [unpack(BASE_ITEM, item) for item in played.outputs["base"]] == base
    return played


@pytest.mark.parametrize("reset_at", [None, 150])
@pytest.mark.parametrize("name", CONFIGS)
def test_windows(name: str, reset_at: int | None, seed: int) -> None:
    run(name, seed, reset_at=reset_at)


def test_pace() -> None:
    """The beats of a chunk, then groups and beats of its base and all other tokens' numbers."""
    config, lanes = CONFIGS["four lanes"]
    key_beats = config.head_dim * config.key_bits // 128
    chunk = config.groups + key_beats + 3 + (config.chunk - 1) * config.head_dim // lanes
    played = run("four lanes", 1, stall=0.0)
    before = config.window * config.groups // 4 + config.chunk * key_beats
    assert played.cycles <= before + config.window // config.chunk * chunk + 8
