"""Elements of value records, and the scales of their channels."""

import random
from dataclasses import replace
from typing import Any

import pytest

from hw.config import preset
from hw.cores.compressor.value_elements import ValueElements
from tb.cores.compressor.streams import play
from tb.harness import pack, unpack

TINY = preset("tiny")
CONFIGS = {
    "tiny": TINY,
    "chunk 4": replace(TINY, chunk=4, value_bits=4),
    "one chunk": replace(TINY, chunk=16, budget=48),
    "lm": preset("lm"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_elements(name: str, seed: int) -> None:
    config = CONFIGS[name]
    rng = random.Random(seed)
    unit = ValueElements(config)
    bits, chunk = config.value_bits, config.chunk
    items: list[Any] = []
    pairs, elements = [], []
    for _ in range(15):
        codes = [rng.randrange(2**bits) for _ in range(config.value_group)]
        mask = [rng.getrandbits(1) for _ in codes]
        base = [rng.randrange(4**bits) for _ in range(config.group_chunks)]
        pair = rng.getrandbits(32)
        items.append(
            {
                "code": codes,
                "mask": sum(bit << i for i, bit in enumerate(mask)),
                "base": base,
                "scale": pair & 0xFFFF,
                "minimum": pair >> 16,
            }
        )
        pairs.append(pair)
        for number in range(config.group_chunks):
            others = range(number * chunk + 1, (number + 1) * chunk)
            kept = [codes[i] * mask[i] for i in others]
            elements.append(
                {
                    "codes": sum(code << bits * i for i, code in enumerate(kept)),
                    "mask": sum(mask[i] << j for j, i in enumerate(others)),
                    "base": base[number],
                }
            )
    packed = [pack(unit.groups.payload.shape(), item) for item in items]
    for stall in (0.3, 0.0):
        played = play(
            unit,
            inputs={"groups": packed},
            outputs={"pairs": len(pairs), "elements": len(elements)},
            stall=stall,
            seed=seed,
        )
        assert played.outputs["pairs"] == pairs
        found = [unpack(unit.elements.payload.shape(), e) for e in played.outputs["elements"]]
        assert found == elements
    assert played.cycles == len(elements) + 1
