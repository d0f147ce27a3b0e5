"""Elements of delta records: masks of every kind, back-pressure, pace."""

import random
from dataclasses import replace
from typing import Any

import pytest

from hw.config import preset
from hw.cores.compressor.delta_elements import DeltaElements
from tb.cores.compressor.streams import play
from tb.harness import pack, unpack

TINY = preset("tiny")
CONFIGS = {
    "tiny": TINY,
    "wide": replace(TINY, head_dim=64, group=64, key_keep=32, key_delta_bits=4),
    "one kept": replace(TINY, group=32, key_keep=1),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_elements(name: str, seed: int) -> None:
    config = CONFIGS[name]
    rng = random.Random(seed)
    unit = DeltaElements(config)
    group, bits, keep = config.group, config.key_delta_bits, config.key_keep
    kept = [list(range(keep)), list(range(group - keep, group))]
    kept += [sorted(rng.sample(range(group), keep)) for _ in range(20)]
    items: list[Any] = []
    expected = []
    for places in kept:
        codes = [rng.randrange(2**bits) for _ in range(group)]
        mask = sum(1 << place for place in places)
        scale, minimum = rng.getrandbits(16), rng.getrandbits(16)
        items.append({"code": codes, "mask": mask, "scale": scale, "minimum": minimum})
        expected.append(
            {
                "mask": mask,
                "codes": sum(codes[place] << bits * i for i, place in enumerate(places)),
                "pair": scale | minimum << 16,
            }
        )
    packed = [pack(unit.groups.payload.shape(), item) for item in items]
    for stall in (0.3, 0.0):
        played = play(
            unit,
            inputs={"groups": packed},
            outputs={"elements": len(expected)},
            stall=stall,
            seed=seed,
        )
        found = [unpack(unit.elements.payload.shape(), e) for e in played.outputs["elements"]]
        assert found == expected
    assert played.cycles == len(items) * (group // 8 + 1) + 1
