"""Quantised groups and their masks against the twin, with bases and without."""

import random
from typing import Any

import pytest
import torch

from golden.twin.quantiser import keep_largest
from hw.cores.compressor.pruner import Pruner
from tb.cores.compressor.streams import play
from tb.harness import pack, unpack

#: Bits, group, lanes, kept, distance of the bases.
SHAPES: dict[str, tuple[int, int, int, int, int | None]] = {
    "deltas": (2, 32, 8, 8, None),
    "values": (2, 32, 8, 12, 8),
    "small chunks": (4, 16, 8, 6, 4),
    "large chunks": (2, 32, 4, 20, 16),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_groups(shape: str, seed: int) -> None:
    bits, group, lanes, keep, every = SHAPES[shape]
    rng = random.Random(seed)
    unit = Pruner(bits=bits, group=group, lanes=lanes, keep=keep, base_every=every)
    bases = [] if every is None else list(range(0, group, every))
    of_beat = len(range(0, lanes, every)) if every else 0
    beats: list[Any] = []
    expected = []
    for _ in range(30):
        codes = [rng.randrange(2**bits) for _ in range(group)]
        base = [rng.randrange(4**bits) for _ in bases]
        scale, minimum = rng.randrange(168, 0x6000), rng.randrange(0x6000) | rng.choice((0, 0x8000))
        left = list(base)
        for start in range(0, group, lanes):
            has_bases = every is not None and start % every == 0
            there = [left.pop(0) for _ in range(of_beat)] if has_bases else [0] * of_beat
            beats.append(
                {
                    "code": codes[start : start + lanes],
                    **({"base": there} if bases else {}),
                    "scale": scale,
                    "minimum": minimum,
                    "last": int(start + lanes == group),
                }
            )
        without = torch.tensor([int(i in bases) for i in range(group)])
        numbers = torch.tensor([codes]), torch.tensor([scale]), torch.tensor([minimum])
        mask = keep_largest(*numbers, keep, without)[0].tolist()
        expected.append(
            {
                "code": codes,
                "mask": sum(bit << i for i, bit in enumerate(mask)),
                **({"base": base} if bases else {}),
                "scale": scale,
                "minimum": minimum,
            }
        )
    played = play(
        unit,
        inputs={"codes": [pack(unit.codes.payload.shape(), beat) for beat in beats]},
        outputs={"groups": len(expected)},
        seed=seed,
    )
    found = [unpack(unit.groups.payload.shape(), item) for item in played.outputs["groups"]]
    assert found == expected
