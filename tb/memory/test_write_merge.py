"""Every request once, in order; data in the order of the requests; ends to their writers."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import pytest

from hw.memory.port import BURST_BEATS, REQUEST_BURSTS, port_request, write_data, write_end
from hw.memory.write_merge import WriteMerge
from tb.harness import pack, unpack
from tb.harness.stepped import Neighbours, Steps, play

TAG_BITS = 2
REQUEST, END = port_request(TAG_BITS), write_end(TAG_BITS)


class Memory(Neighbours):
    """Ends writes whose data have come, in any order."""

    def __init__(self, requests: list[list[int]], data: list[list[int]], seed: int) -> None:
        writers = len(requests)
        super().__init__(
            {
                **{f"writers__{i}__request": items for i, items in enumerate(requests)},
                **{f"writers__{i}__data": items for i, items in enumerate(data)},
                "memory__written": [],
            }
        )
        bits = TAG_BITS + (writers - 1).bit_length()
        self._request, self._end = port_request(bits), write_end(bits)
        self._rng = random.Random(seed)
        self._asked: list[tuple[int, int]] = []
        self._words = 0
        self._due: list[int] = []

    def react(self, moved: Mapping[str, int]) -> Mapping[str, int]:
        rng = self._rng
        if "memory__request" in moved:
            asked = unpack(self._request, moved["memory__request"])
            self._asked.append((asked["tag"], beats_of(asked)))
        self._words += "memory__data" in moved
        while self._asked and self._words >= self._asked[0][1]:
            tag, beats = self._asked.pop(0)
            self._words -= beats
            self._due.append(tag)
        if self._due and rng.random() < 0.4:
            tag = self._due.pop(rng.randrange(len(self._due)))
            end = pack(self._end, {"tag": tag, "error": rng.randrange(2)})
            self.inputs["memory__written"].append(end)
        return {}


def beats_of(request: Mapping[str, int]) -> int:
    """Words of a request."""
    return (request["bursts_less_one"] + 1) * BURST_BEATS


def make(
    writers: int, seed: int, sizes: list[list[int]]
) -> tuple[list[list[int]], list[list[int]]]:
    """Requests of so many bursts for each writer, and their words."""
    print(f"writes of seed {seed}")
    rng = random.Random(seed)
    requests, data = [], []
    for of_writer in sizes:
        fields = [
            {
                "address": rng.randrange(1 << 27) * 32,
                "bursts_less_one": bursts - 1,
                "tag": rng.randrange(1 << TAG_BITS),
            }
            for bursts in of_writer
        ]
        requests.append([pack(REQUEST, item) for item in fields])
        words = sum(map(beats_of, fields))
        data.append([rng.getrandbits(write_data().size) for _ in range(words)])
    assert len(requests) == writers
    return requests, data


def check(writers: int, seed: int, sizes: list[list[int]], **options: Any) -> Steps:
    """Run the requests, compare them, the data and the ends; the run comes back."""
    requests, data = make(writers, seed, sizes)
    steps = play(
        WriteMerge(writers, tag_bits=TAG_BITS),
        lambda: Memory(requests, data, seed),
        {
            "memory__request": sum(map(len, requests)),
            "memory__data": sum(map(len, data)),
            **{f"writers__{i}__written": len(items) for i, items in enumerate(requests)},
        },
        seed=seed,
        **options,
    )
    bits, mask = TAG_BITS + (writers - 1).bit_length(), (1 << TAG_BITS) - 1
    asked = [unpack(port_request(bits), item) for item in steps.items["memory__request"]]
    ended = [unpack(write_end(bits), item) for item in steps.items["memory__written"]]
    for i, wanted in enumerate(requests):
        mine = [item for item in asked if item["tag"] >> TAG_BITS == i]
        assert [pack(REQUEST, {**item, "tag": item["tag"] & mask}) for item in mine] == wanted
        its = [{**item, "tag": item["tag"] & mask} for item in ended if item["tag"] >> 2 == i]
        assert [unpack(END, item) for item in steps.items[f"writers__{i}__written"]] == its
    words = [iter(items) for items in data]
    order = [words[item["tag"] >> TAG_BITS] for item in asked for _ in range(beats_of(item))]
    assert steps.items["memory__data"] == [next(source) for source in order]
    return steps


def random_sizes(writers: int, seed: int, count: int) -> list[list[int]]:
    """Mostly short requests, and the longest one."""
    rng = random.Random(seed)
    sizes = [[rng.randint(1, 3) for _ in range(count)] for _ in range(writers)]
    sizes[rng.randrange(writers)][rng.randrange(count)] = REQUEST_BURSTS
    return sizes


@pytest.mark.parametrize("writers", [2, 3])
def test_full_pace(writers: int, seed: int) -> None:
    """A beat a cycle, 1 cycle later; a request of the first ones, too, and all by turns."""
    steps = check(writers, seed, [[1] * 8] * writers)
    accepted = [cycle for i in range(writers) for cycle in steps.cycles_of[f"writers__{i}__data"]]
    words = 8 * writers * BURST_BEATS
    # The first request is known a cycle after it was taken.
    assert sorted(accepted) == list(range(2, 2 + words))
    assert steps.cycles_of["memory__data"] == [cycle + 1 for cycle in sorted(accepted)]
    asked = [cycle for i in range(writers) for cycle in steps.cycles_of[f"writers__{i}__request"]]
    assert steps.cycles_of["memory__request"] == [cycle + 1 for cycle in sorted(asked)]
    assert sorted(asked)[:4] == [1, 2, 3, 4]
    tags = [unpack(port_request(4), item)["tag"] for item in steps.items["memory__request"]]
    assert [tag >> TAG_BITS for tag in tags] == list(range(writers)) * 8


@pytest.mark.parametrize("slow", ["memory__request", "memory__data", "writers__1__data", "all"])
def test_stalls(slow: str, seed: int) -> None:
    names = ["memory__request", "memory__data", "memory__written"]
    names += [f"writers__{i}__{kind}" for i in range(3) for kind in ("request", "data")]
    stall = dict.fromkeys(names, 0.5) if slow == "all" else {slow: 0.8}
    check(3, seed, random_sizes(3, seed, 5), stall=stall)


@pytest.mark.parametrize("cycle", [2, 11])
def test_reset_in_flight(cycle: int, seed: int) -> None:
    stall = {"memory__request": 0.3, "memory__data": 0.3}
    check(2, seed, random_sizes(2, seed, 4), stall=stall, reset_at=cycle)


def test_writers() -> None:
    with pytest.raises(ValueError, match="writers must be at least 2, not 1"):
        WriteMerge(1, tag_bits=2)
