"""Values in the new order as fixed-point numbers, against the golden ones."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch

from golden.reference.cache import dequantise_tail
from golden.reference.compress import fixed_values, order_window
from hw.config import AttentionConfig, preset
from hw.constants import FIXED_FRACTION
from hw.cores.compressor.value_numbers import ValueNumbers
from hw.cores.payloads import BEAT
from tb.cores.compressor.bench import header_sections, random_tail, tail_beats
from tb.cores.compressor.streams import Played, play
from tb.harness import pack, unpack

TINY = preset("tiny")
CONFIGS: dict[str, tuple[AttentionConfig, int]] = {
    "tiny": (TINY, 8),
    "8 bits": (replace(TINY, tail_value_bits=8, head_dim=64, window=32), 4),
    "chunk 4": (replace(TINY, chunk=4, window=64, value_group=32), 8),
    "chunk 16": (replace(TINY, chunk=16, budget=48, window=32), 8),
}


def run(name: str, seed: int, stall: float = 0.3, reset_at: int | None = None) -> Played:
    """Compare all that a window makes."""
    config, lanes = CONFIGS[name]
    tail = random_tail(config, random.Random(seed), config.window)
    headers, _, values = tail_beats(tail, config)
    _, scales = header_sections(headers, config)
    order = order_window(tail.saliency, config)
    places = order.unflatten(-1, (-1, config.chunk)) % config.chunk
    unit = ValueNumbers(config, lanes=lanes)
    numbers = fixed_values(dequantise_tail(tail, config)[1]) * 2**FIXED_FRACTION
    ordered = numbers.to(torch.int64)[order].unflatten(0, (-1, config.value_group))
    expected = ordered.transpose(1, 2).flatten()
    played = play(
        unit,
        inputs={
            "order": [pack(unit.order.payload.shape(), one) for one in places.tolist()],
            "scales": scales,
            "codes": [pack(BEAT, {"data": beat, "error": 0, "last": 0}) for beat in values],
        },
        outputs={"numbers": len(expected) // lanes},
        stall=stall,
        seed=seed,
        reset_at=reset_at,
        # Codes come behind all scales, as in a window.
        first=("order", "scales"),
    )
    shape = unit.numbers.payload.shape()
    found = torch.tensor([unpack(shape, item) for item in played.outputs["numbers"]])
    assert torch.equal(found.flatten(), expected)
    return played


@pytest.mark.parametrize("reset_at", [None, 150])
@pytest.mark.parametrize("name", CONFIGS)
def test_windows(name: str, reset_at: int | None, seed: int) -> None:
    run(name, seed, reset_at=reset_at)


def test_pace() -> None:
    """The first tile comes, then lanes numbers a cycle without a gap."""
    config, lanes = CONFIGS["8 bits"]
    played = run("8 bits", 1, stall=0.0)
    before = config.window // config.chunk + 2 * config.value_group
    assert played.cycles == before + config.window * config.head_dim // lanes + 5
