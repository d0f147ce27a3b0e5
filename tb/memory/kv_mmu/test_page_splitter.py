"""PageSplitter: the parts of a request, and the numbers of their beats."""

from __future__ import annotations

import random

import pytest

from hw.config import preset
from hw.memory.kv_mmu.config import MmuConfig
from hw.memory.kv_mmu.page_splitter import PageSplitter
from hw.memory.port import port_request, read_response
from tb.harness import pack, simulate, unpack

TAG_BITS = 2
CONFIG = MmuConfig(attention=preset("tiny"), page_bytes=1024)
SPLITTER = PageSplitter(CONFIG, tag_bits=TAG_BITS)


def parts_of(address: int, bursts: int, tag: int) -> list[tuple[int, int, int]]:
    """Address, bursts and tag of the parts."""
    room = 32 - address // 32 % 32
    if bursts <= room:
        return [(address, bursts, tag)]
    return [(address, room, tag), (address + 32 * room, bursts - room, tag | 1 << TAG_BITS)]


@pytest.mark.parametrize("stall", [0.0, 0.5])
def test_parts(stall: float) -> None:
    rng = random.Random(3)
    requests = [(32 * rng.randrange(1 << 20), rng.randint(1, 16), i % 4) for i in range(200)]
    requests += [(1024 * 7 - 32 * i, i, 0) for i in range(1, 17)]
    requests += [(1024 * 7 - 32 * i, i + 1, 1) for i in range(1, 16)]
    parts = [part for request in requests for part in parts_of(*request)]
    assert len(requests) < len(parts) < 2 * len(requests)
    names = ("address", "bursts_less_one", "tag")
    run = simulate(
        SPLITTER,
        name="page_splitter",
        inputs={
            "request": [
                pack(port_request(TAG_BITS), dict(zip(names, (a, b - 1, t), strict=True)))
                for a, b, t in requests
            ],
            "answer": [],
        },
        outputs={"part": len(parts), "response": 0},
        stall=stall,
    )
    layout = port_request(TAG_BITS + 1)
    got = [unpack(layout, item) for item in run.outputs["part"]]
    assert got == [dict(zip(names, (a, b - 1, t), strict=True)) for a, b, t in parts]
    if not stall:
        assert run.cycles <= len(parts) + 4


@pytest.mark.parametrize("room", [1, 7, 15])
def test_the_beats_of_the_second_part_go_on(room: int) -> None:
    request = {"address": 1024 * 9 - 32 * room, "bursts_less_one": 15, "tag": 2}
    layout = read_response(TAG_BITS + 1)
    beats = [
        (half, beat) for half, bursts in ((0, room), (1, 16 - room)) for beat in range(2 * bursts)
    ]
    random.Random(room).shuffle(beats)
    answers = [
        {"data": 100 * half + beat, "tag": half << TAG_BITS | 2, "beat": beat, "error": half}
        for half, beat in beats
    ]
    # The request goes first: answers of nothing come before it, and do no harm.
    idle = [{"data": 0, "tag": 3, "beat": 0, "error": 0}] * 20
    run = simulate(
        SPLITTER,
        name="page_splitter",
        inputs={
            "request": [pack(port_request(TAG_BITS), request)],
            "answer": [pack(layout, answer) for answer in idle + answers],
        },
        outputs={"part": 2, "response": len(idle) + len(answers)},
    )
    got = [unpack(read_response(TAG_BITS), item) for item in run.outputs["response"]][len(idle) :]
    assert {item["beat"] for item in got} == set(range(32))
    for (half, beat), item in zip(beats, got, strict=True):
        assert item == {
            "data": 100 * half + beat,
            "tag": 2,
            "beat": beat + 2 * room * half,
            "error": half,
        }
