"""The order of a chunk: ties, extremes, back-pressure, a reset, pace."""

import random
from dataclasses import replace

import pytest

from hw.config import preset
from hw.cores.compressor.chunk_order import ChunkOrder
from tb.cores.compressor.streams import play
from tb.harness import pack, unpack

TINY = preset("tiny")
CONFIGS = {c: replace(TINY, chunk=c, budget=48) for c in (4, 8, 16)}


def chunks_of(chunk: int, rng: random.Random, count: int) -> list[list[int]]:
    """Saliencies of all sizes: all equal, rising, falling, few different ones, the largest."""
    chunks = [[0] * chunk, [2**32 - 1] * chunk, list(range(chunk)), list(range(chunk))[::-1]]
    while len(chunks) < count:
        limit = rng.choice((2, 4, 2**32))
        chunks.append([rng.randrange(limit) << rng.choice((0, 0, 31)) for _ in range(chunk)])
    return [[number % 2**32 for number in numbers] for numbers in chunks]


def order(numbers: list[int]) -> list[int]:
    return sorted(range(len(numbers)), key=lambda place: (-numbers[place], place))


@pytest.mark.parametrize("reset_at", [None, 11])
@pytest.mark.parametrize("chunk", CONFIGS)
def test_order(chunk: int, reset_at: int | None, seed: int) -> None:
    chunks = chunks_of(chunk, random.Random(seed), 40)
    unit = ChunkOrder(CONFIGS[chunk])
    beats = [c[i : i + 4] for c in chunks for i in range(0, chunk, 4)]
    played = play(
        unit,
        inputs={"saliencies": [pack(unit.saliencies.payload.shape(), beat) for beat in beats]},
        outputs={"order": len(chunks)},
        stall=0.4,
        seed=seed,
        reset_at=reset_at,
    )
    found = [unpack(unit.order.payload.shape(), item) for item in played.outputs["order"]]
    assert found == [order(numbers) for numbers in chunks]


@pytest.mark.parametrize("chunk", CONFIGS)
def test_pace(chunk: int) -> None:
    """A chunk in C + 1 cycles."""
    unit = ChunkOrder(CONFIGS[chunk])
    count = 5
    played = play(
        unit,
        inputs={"saliencies": [0] * (count * chunk // 4)},
        outputs={"order": count},
        stall=0.0,
    )
    assert played.cycles == count * (chunk + 1) + 1
