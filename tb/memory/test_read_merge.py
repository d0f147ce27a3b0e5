"""Every request once and in order, every answer to the reader that asked, at full pace."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import pytest

from hw.memory.port import BURST_BEATS, port_request, read_response
from hw.memory.read_merge import ReadMerge
from tb.harness import pack, unpack
from tb.harness.stepped import Neighbours, Steps, play

TAG_BITS = 2
REQUEST, ANSWER = port_request(TAG_BITS), read_response(TAG_BITS)


class Memory(Neighbours):
    """Answers beats in any order, one or none a cycle, with random data."""

    def __init__(self, readers: int, requests: list[list[int]], seed: int, gap: float) -> None:
        names = [f"readers__{i}__request" for i in range(readers)]
        super().__init__({**dict(zip(names, requests, strict=True)), "memory__response": []})
        bits = TAG_BITS + (readers - 1).bit_length()
        self._request, self._answer = port_request(bits), read_response(bits)
        self._rng, self._gap = random.Random(seed), gap
        self._due: list[tuple[int, int]] = []

    def react(self, moved: Mapping[str, int]) -> Mapping[str, int]:
        rng = self._rng
        if "memory__request" in moved:
            asked = unpack(self._request, moved["memory__request"])
            beats = (asked["bursts_less_one"] + 1) * BURST_BEATS
            self._due += [(asked["tag"], beat) for beat in range(beats)]
        if self._due and rng.random() >= self._gap:
            tag, beat = self._due.pop(rng.randrange(len(self._due)))
            fields = {"tag": tag, "beat": beat, "data": rng.getrandbits(128)}
            fields["error"] = rng.randrange(2)
            self.inputs["memory__response"].append(pack(self._answer, fields))
        return {}


def make_requests(readers: int, seed: int, count: int, bursts: int) -> list[list[int]]:
    """Random requests of at most so many bursts."""
    print(f"requests of seed {seed}")
    rng = random.Random(seed)
    return [
        [
            pack(
                REQUEST,
                {
                    "address": rng.randrange(1 << 27) * 32,
                    "bursts_less_one": rng.randrange(bursts),
                    "tag": rng.randrange(1 << TAG_BITS),
                },
            )
            for _ in range(count)
        ]
        for _ in range(readers)
    ]


def check(
    readers: int, requests: list[list[int]], seed: int, gap: float = 0.0, **options: Any
) -> Steps:
    """Run the requests, compare them and the answers; the run comes back."""
    beats = [
        sum((unpack(REQUEST, item)["bursts_less_one"] + 1) * BURST_BEATS for item in items)
        for items in requests
    ]
    steps = play(
        ReadMerge(readers, tag_bits=TAG_BITS),
        lambda: Memory(readers, requests, seed, gap),
        {
            "memory__request": sum(map(len, requests)),
            **{f"readers__{i}__response": count for i, count in enumerate(beats)},
        },
        seed=seed,
        **options,
    )
    bits = TAG_BITS + (readers - 1).bit_length()
    mask = (1 << TAG_BITS) - 1
    asked = [unpack(port_request(bits), item) for item in steps.items["memory__request"]]
    answered = [unpack(read_response(bits), item) for item in steps.items["memory__response"]]
    when = list(zip(answered, steps.cycles_of["memory__response"], strict=True))
    for i, wanted in enumerate(requests):
        mine = [{**item, "tag": item["tag"] & mask} for item in asked if item["tag"] >> 2 == i]
        assert [pack(REQUEST, item) for item in mine] == wanted
        found = [unpack(ANSWER, item) for item in steps.items[f"readers__{i}__response"]]
        its = [(item, cycle) for item, cycle in when if item["tag"] >> TAG_BITS == i]
        assert found == [{**item, "tag": item["tag"] & mask} for item, _ in its]
        # In the cycle in which they come.
        assert steps.cycles_of[f"readers__{i}__response"] == [cycle for _, cycle in its]
    return steps


def slow(readers: int, probability: float) -> dict[str, float]:
    """Stalls of the requests; answers are never held up."""
    names = ["memory__request", "memory__response"]
    return dict.fromkeys([*names, *(f"readers__{i}__request" for i in range(readers))], probability)


@pytest.mark.parametrize("readers", [2, 3, 4])
def test_full_pace(readers: int, seed: int) -> None:
    """A request a cycle, 1 cycle later, by turns."""
    requests = make_requests(readers, seed, 8, 1)
    steps = check(readers, requests, seed)
    accepted = [
        cycle for i in range(readers) for cycle in steps.cycles_of[f"readers__{i}__request"]
    ]
    assert sorted(accepted) == list(range(1, 8 * readers + 1))
    assert steps.cycles_of["memory__request"] == list(range(2, 8 * readers + 2))
    tags = [unpack(port_request(4), item)["tag"] for item in steps.items["memory__request"]]
    assert [tag >> TAG_BITS for tag in tags] == list(range(readers)) * 8


@pytest.mark.parametrize("probability", [0.5, 0.9])
def test_stalls(probability: float, seed: int) -> None:
    check(3, make_requests(3, seed, 6, 3), seed, gap=0.4, stall=slow(3, probability))


def test_one_reader_at_full_pace(seed: int) -> None:
    """The others take no turns."""
    requests = [[], make_requests(1, seed, 12, 1)[0], []]
    steps = check(3, requests, seed)
    assert steps.cycles_of["memory__request"] == list(range(2, 14))


@pytest.mark.parametrize("cycle", [2, 9])
def test_reset_in_flight(cycle: int, seed: int) -> None:
    check(2, make_requests(2, seed, 6, 2), seed, stall=slow(2, 0.3), reset_at=cycle)


def test_readers() -> None:
    with pytest.raises(ValueError, match="readers must be at least 2, not 1"):
        ReadMerge(1, tag_bits=2)
