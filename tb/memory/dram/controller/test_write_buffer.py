"""WriteBuffer: each launched burst is on the bus in time with its data and masks; ends in order."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import pytest

from hw.config import BEAT_BITS, BEAT_BYTES, BURST_BYTES
from hw.memory.dram import load_standard
from hw.memory.dram.controller import ControllerConfig
from hw.memory.dram.controller.distances import Distances
from hw.memory.dram.controller.write_buffer import WriteBuffer
from tb.formal.mutant import mutant
from tb.memory.dram.controller.clocked import DATA_PATHS, refutes, run

REQUESTS = 20
NOTHING = (1 << BEAT_BYTES) - 1


@dataclass
class Request:
    """A write: its beats with their enables, and what is left to do of it."""

    number: int
    address: int
    bursts: int
    refused: bool
    beats: list[tuple[int, int]] = field(repr=False)
    #: Bursts of the DRAM, and those that have not been launched.
    size: int = 0
    left: set[int] = field(default_factory=set)


def requests_of(config: ControllerConfig, choose: random.Random) -> list[Request]:
    """Return random requests, some beyond the end of the channel."""
    standard, found = config.standard, []
    ratio = standard.burst_bytes // BURST_BYTES
    for number in range(REQUESTS):
        bursts = choose.choice((1, 1, 2, choose.randrange(1, 17), 16))
        refused = standard.bytes < 1 << 32 and choose.random() < 0.2
        low = standard.bytes if refused else 0
        address = low + choose.randrange(1 << 20) * BURST_BYTES
        beats = [
            (
                choose.getrandbits(BEAT_BITS),
                choose.choice((NOTHING, choose.getrandbits(BEAT_BYTES))),
            )
            for _ in range(2 * bursts)
        ]
        skipped = address // BURST_BYTES % ratio
        size = -(-(bursts + skipped) // ratio)
        found.append(Request(number, address, bursts, refused, beats, size, set(range(size))))
    return found


def burst_words(config: ControllerConfig, request: Request, index: int) -> list[tuple[int, int]]:
    """Return data and mask of the words of a burst; the mask says what is kept."""
    standard = config.standard
    skipped = 2 * (request.address // BURST_BYTES % (standard.burst_bytes // BURST_BYTES))
    words = []
    for i in range(standard.burst_cycles):
        beat = index * standard.burst_cycles + i - skipped
        inside = 0 <= beat < len(request.beats) and not request.refused
        data, enable = request.beats[beat] if inside else (0, 0)
        words.append((data, NOTHING & ~enable))
    return words


def check(name: str, gear: int, number: int, seed: int, unit: type = WriteBuffer) -> None:
    """Fill it as fast as it goes, launch in any order; compare bus, ends and counts."""
    config = ControllerConfig(
        standard=load_standard(name), gear=gear, write_buffer=32, write_batch=8
    )
    standard, choose = config.standard, random.Random(seed)
    distances = Distances(standard, gear, number)
    buffer, todo = unit(config, distances), requests_of(config, choose)
    #: Waiting for the split, split and not over, and words of data to send.
    asked, unsplit = list(todo), list(todo)
    open_requests: list[Request] = []
    stream = [
        (
            sum(request.beats[i + j][0] << BEAT_BITS * j for j in range(gear)),
            sum(request.beats[i + j][1] << BEAT_BYTES * j for j in range(gear)),
        )
        for request in todo
        for i in range(0, 2 * request.bursts, gear)
    ]
    places: dict[int, int] = {}
    on_bus: dict[int, tuple[int, int]] = {}
    ended: list[int] = []
    gap = standard["tCCD_S"] // gear

    async def bench(ctx: Any) -> None:
        head, pending, resume = 0, 0, 0
        for clock in range(4000):
            if len(ended) == REQUESTS and all(when < clock * gear for when in on_bus):
                return
            ctx.set(buffer.request.valid, bool(asked))
            if asked:
                ctx.set(buffer.request.payload.address, asked[0].address)
                ctx.set(buffer.request.payload.bursts_less_one, asked[0].bursts - 1)
                ctx.set(buffer.request.payload.id, asked[0].number)
            offered = bool(stream) and choose.random() < 0.9
            ctx.set(buffer.data.valid, offered)
            if stream:
                ctx.set(buffer.data.payload.data, stream[0][0])
                ctx.set(buffer.data.payload.enable, stream[0][1])
            taken = choose.random() < 0.7
            ctx.set(buffer.split.ready, taken)
            assert ctx.get(buffer.pending) == pending, f"clock {clock}"

            waiting = [(r, i) for r in open_requests for i in sorted(r.left)]
            # Bursts wait until the buffer is full, now and then.
            launch = bool(waiting) and clock >= resume and clock // 150 % 2 == 1
            ctx.set(buffer.launch, launch)
            if launch:
                request, index = choose.choice(waiting)
                ctx.set(buffer.place, (places[request.number] + index) % config.write_buffer)
                request.left.remove(index)
                first = (clock + 1) * gear + distances.column_phase + standard["tCWL"]
                for i, word in enumerate(burst_words(config, request, index)):
                    on_bus[first + i] = word
                resume = clock + gap + choose.choice((0, 0, 3))
                pending -= 1
            for i in range(gear):
                data, mask = on_bus.get(clock * gear + i, (0, None))
                if mask is not None:
                    shown = ctx.get(buffer.write_mask) >> BEAT_BYTES * i & NOTHING
                    assert shown == mask, f"clock {clock}, mask of phase {i}"
                    word = ctx.get(buffer.write_data) >> BEAT_BITS * i
                    written = sum(0xFF << 8 * byte for byte in range(16) if not mask >> byte & 1)
                    assert (word ^ data) & written == 0, f"clock {clock}, data of phase {i}"
            if ctx.get(buffer.written.valid):
                request = todo[len(ended)]
                assert not request.left, f"clock {clock}: the end of {request} is told too early"
                payload = ctx.get(buffer.written.payload)
                assert (payload.id, payload.error) == (request.number, request.refused)
                ended.append(request.number)
            if taken and ctx.get(buffer.split.valid):
                request = unsplit.pop(0)
                split = ctx.get(buffer.split.payload)
                assert split.request.id == request.number
                assert split.request.address == request.address
                assert (split.place, split.refused) == (head, request.refused)
                places[request.number] = head
                head = (head + request.size) % config.write_buffer
                pending += request.size
                open_requests.append(request)
            if asked and ctx.get(buffer.request.ready):
                asked.pop(0)
            if offered and ctx.get(buffer.data.ready):
                stream.pop(0)
            await ctx.tick()

    run(buffer, bench)
    assert ended == list(range(REQUESTS))


@pytest.mark.parametrize(("name", "gear", "number"), DATA_PATHS)
def test_writes_arrive(name: str, gear: int, number: int, seed: int) -> None:
    check(name, gear, number, seed)


FAULTS = {
    "any request finds room": ("~filling & ~complete & (free >= wanted)", "~filling & ~complete"),
    "words that are absent are written": ("Mux(absent | refused, 0,", "Mux(refused, 0,"),
    "a refused request is written": ("Mux(absent | refused, 0,", "Mux(absent, 0,"),
    "the first half is not skipped": ("held) * port_words)", "held) * 0)"),
    "ends out of order": ("retired.eq((done & at_tail).any())", "retired.eq(done.any())"),
    "the end of a request of one burst": ("head + bursts - 1, held.id", "head, held.id"),
    "data a clock late": ("range(late // gear)", "range(late // gear + 1)"),
    "a launch does not count": ("0) - self.launch)", "0))"),
    "the error is not told": ("error.eq(refused)", "error.eq(0)"),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_found(fault: str) -> None:
    faulty = mutant(WriteBuffer, *FAULTS[fault])
    assert any(
        refutes(lambda name=name: check(name, 1, 0, 1, faulty))  # type: ignore[misc]
        for name in ("hbm2-2000", "ddr4-3200")
    )


def test_a_faulty_phase_is_found() -> None:
    faulty = mutant(WriteBuffer, "if late % gear == 0", "if late % gear == 1")
    assert refutes(lambda: check("hbm2-2000", 2, 0, 1, faulty))
