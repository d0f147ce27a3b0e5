"""The check of what came back finds what is wrong."""

from __future__ import annotations

import pytest

from hw.memory.dram import load_standard
from tb.bench.dram.traffic import (
    BYTES,
    IMAGE_BYTES,
    WRITTEN_BYTES,
    Traffic,
    WrongAnswer,
    gather,
    make_image,
    streaming,
    writes,
)

STANDARD = load_standard("hbm2-2000")
IMAGE = make_image(1)
ID_BITS = 4
WINDOW = 3
NUMBER = 7


def answers(traffic: Traffic, gear: int) -> list[int]:
    """What a right memory answers."""
    return [
        int.from_bytes(traffic.contents(request.address + 16 * beat, 16 * gear), "little")
        | (number % WINDOW | beat << ID_BITS) << 128 * gear
        for number, request in enumerate(traffic.requests)
        for beat in range(0, 32, gear)
    ]


@pytest.fixture(params=["streaming", "gather"])
def traffic(request: pytest.FixtureRequest) -> Traffic:
    if request.param == "streaming":
        return streaming(IMAGE, NUMBER, WINDOW, 1)
    return gather(STANDARD, IMAGE, NUMBER, WINDOW, 1)


@pytest.mark.parametrize("gear", [1, 2])
def test_right_answers_pass(traffic: Traffic, gear: int) -> None:
    right = answers(traffic, gear)
    traffic.check(right, gear=gear, id_bits=ID_BITS)
    first = right[: 32 // gear]
    traffic.check(first[::-1] + right[32 // gear :], gear=gear, id_bits=ID_BITS)


@pytest.mark.parametrize(
    ("flipped", "message"),
    [
        (0, "request 0, beat 0 has other data"),
        (128, "has other data|not asked for"),  # the id
        (128 + ID_BITS, "has other data|twice"),  # the beat
        (128 + ID_BITS + 5, "error 1: not asked for"),
    ],
)
def test_a_wrong_bit_is_found(traffic: Traffic, flipped: int, message: str) -> None:
    wrong = answers(traffic, 1)
    wrong[0] ^= 1 << flipped
    with pytest.raises(WrongAnswer, match=message):
        traffic.check(wrong, gear=1, id_bits=ID_BITS)


def test_a_word_twice_or_missing_is_found(traffic: Traffic) -> None:
    right = answers(traffic, 1)
    with pytest.raises(WrongAnswer, match="beat 0, error 0: not asked for, or twice"):
        traffic.check([right[0], *right[:-1]], gear=1, id_bits=ID_BITS)
    with pytest.raises(WrongAnswer, match="223 words, not 224"):
        traffic.check(right[:-1], gear=1, id_bits=ID_BITS)


def test_streaming_goes_round() -> None:
    addresses = [r.address for r in streaming(IMAGE, IMAGE_BYTES // BYTES + 1, WINDOW, 3).requests]
    assert addresses[0] == addresses[-1]
    assert sorted(addresses[1:]) == list(range(0, IMAGE_BYTES, BYTES))


def test_nobody_reads_what_is_written() -> None:
    written = {r.address for r in writes(5000, 1, WINDOW, 1)}
    assert min(written) == IMAGE_BYTES
    assert max(written) == IMAGE_BYTES + WRITTEN_BYTES - BYTES
    small = load_standard("lpddr5-6400-x16")
    assert written.isdisjoint(r.address for r in gather(small, IMAGE, 50_000, WINDOW, 2).requests)
