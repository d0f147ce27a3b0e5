"""Pieces against a burst put together byte by byte."""

import random
from functools import cache
from typing import Any

import pytest

from hw.config import BURST_BYTES
from hw.cores.compressor.burst_builder import HALF_BITS, HALVES, PIECE, BurstBuilder
from hw.cores.compressor.payloads import BURST
from tb.harness import Run, pack, simulate, unpack


@cache
def device() -> BurstBuilder:
    """One component, so that all runs share its elaboration and build."""
    return BurstBuilder()


def make_pieces(seed: int, count: int) -> list[dict[str, int]]:
    """Runs of pieces of one size from a random place on, some of them over the end of a burst."""
    print(f"pieces of seed {seed}")
    rng = random.Random(seed)
    pieces: list[dict[str, int]] = []
    while len(pieces) < count:
        size = rng.randrange(4)
        run = rng.choice([1, 2, 3, 16, 20])
        address = rng.randrange(0, 1 << 20) >> size << size
        last = rng.randrange(2)
        for i in range(run):
            pieces.append(
                {
                    "address": address + (i << size),
                    "data": rng.getrandbits(128),
                    "size": size,
                    "end": int(i == run - 1),
                    "last": last,
                }
            )
    return pieces


def bursts_of(pieces: list[dict[str, int]]) -> list[dict[str, int]]:
    """What they make; halves that are not enabled are 0."""
    found: list[dict[str, int]] = []
    data = enable = 0
    for piece in pieces:
        number, place = divmod(piece["address"], HALVES)
        size = 1 << piece["size"]
        bits = piece["data"] & (1 << size * HALF_BITS) - 1
        data |= bits << place * HALF_BITS
        enable |= (1 << size) - 1 << place
        if piece["end"] or place + size == HALVES:
            flags = {"record": 0, "end": piece["end"], "last": piece["last"]}
            found.append({"address": number, "data": data, "enable": enable, **flags})
            data = enable = 0
    return found


def check(pieces: list[dict[str, int]], **options: Any) -> Run:
    """Run the pieces and compare every burst; the run comes back."""
    wanted = bursts_of(pieces)
    run = simulate(
        device(),
        name="burst_builder",
        inputs={"pieces": [pack(PIECE, piece) for piece in pieces]},
        outputs={"bursts": len(wanted)},
        **options,
    )
    found = [unpack(BURST, item) for item in run.outputs["bursts"]]
    for burst in found:
        mask = sum(0xFFFF << HALF_BITS * i for i in range(HALVES) if burst["enable"] >> i & 1)
        burst["data"] &= mask
    assert found == wanted
    return run


def test_pieces_at_full_pace(seed: int) -> None:
    pieces = make_pieces(seed, 300)
    run = check(pieces)
    # A cycle for each piece, and the last burst leaves.
    assert run.cycles == 1 + len(pieces) + 1
    assert BURST_BYTES * 8 == HALVES * HALF_BITS


@pytest.mark.parametrize("stall", [0.5, {"pieces": 0.9}, {"bursts": 0.9}], ids=str)
def test_stalls(stall: Any, seed: int) -> None:
    check(make_pieces(seed, 100), stall=stall, seed=seed)


@pytest.mark.parametrize("cycle", [3, 11])
def test_reset_in_flight(cycle: int, seed: int) -> None:
    check(make_pieces(seed, 40), stall=0.3, seed=seed, reset_at=cycle)
