"""Runs of bursts: what is written where, in which requests, with which errors."""

from __future__ import annotations

import random
from typing import Any

import pytest
from amaranth.sim import Simulator

from hw.config import BURST_BYTES
from hw.cores.compressor.payloads import BURST, ENABLED_BYTES
from hw.cores.compressor.record_writer import RecordWriter
from tb.cores.compressor.bench import WriteModel
from tb.harness import pack
from tb.memory.kv_mmu.memory_model import Request
from tb.memory.kv_mmu.pins import Pins

RECORDS = (1, 1, 4)
TAG_BITS = 2
#: A burst of a source: address, data, enable, record, end of a run.
Burst = dict[str, int]


def random_bursts(rng: random.Random, source: int, count: int) -> list[Burst]:
    """Runs of every length in every record of a source; no address twice."""
    bursts: list[Burst] = []
    left = dict.fromkeys(range(RECORDS[source]), 0)
    place = dict.fromkeys(left, 0)
    for _ in range(count):
        record = rng.choice(list(left))
        if left[record] == 0:
            left[record] = rng.choice((1, 1, 2, 3, 8, 9, 20))
            place[record] += 2
        left[record] -= 1
        bursts.append(
            {
                "address": (source << 12 | record << 10) + place[record],
                "data": rng.getrandbits(256),
                "enable": rng.choice((0xFFFF, 0xFFFF, rng.getrandbits(16))),
                "record": record,
                "end": int(left[record] == 0),
                "last": 0,
            }
        )
        place[record] += 1
    # What is under way ends with the last burst of its record.
    seen = set()
    for burst in reversed(bursts):
        burst["end"] |= burst["record"] not in seen
        seen.add(burst["record"])
    return bursts


class Fences:
    """Asks for fences at random, and knows which bursts each one is behind."""

    def __init__(self, rng: random.Random, run_bursts: int) -> None:
        self._rng, self._run = rng, run_bursts
        self._open: dict[tuple[int, int], list[int]] = {}
        #: Bursts of complete runs that are not written, and of those what the fence is behind.
        self._complete: set[int] = set()
        self._behind: set[int] = set()
        self._requests: dict[int, Request] = {}
        #: Fences, and how many of them were passed while something else was to be written.
        self.asked, self.passed_among_others = 0, 0
        self._waits = False

    def ask(self) -> bool:
        """Whether one is asked for in this cycle, if it may be."""
        return self._rng.random() < 0.2

    def look(self, asks: bool, fenced: bool, idle: bool) -> None:
        """What the writer says at the beginning of a cycle."""
        if fenced:
            assert not self._behind
            self.passed_among_others += self._waits and bool(self._complete)
            self._waits = False
        assert fenced or not idle
        assert idle == (not self._complete)
        self._fences = asks and fenced

    def move(self, source: int, burst: Burst) -> None:
        """A burst is taken."""
        run = self._open.setdefault((source, burst["record"]), [])
        run.append(burst["address"])
        if burst["end"] or len(run) == self._run:
            self._complete.update(run)
            run.clear()

    def end(self, request: Request | None, written: int | None) -> None:
        """At the end of a cycle: what was asked for, and what is written."""
        if self._fences:
            self.asked += 1
            self._waits = True
            self._behind = set(self._complete)
        if request is not None:
            self._requests[request.tag] = request
        if written is not None:
            done = self._requests[written & (1 << TAG_BITS) - 1]
            for i in range(done.bursts):
                self._complete.remove(done.address // BURST_BYTES + i)
                self._behind.discard(done.address // BURST_BYTES + i)


def run(
    run_bursts: int,
    sources: list[list[Burst]],
    *,
    seed: int,
    busy: float = 0.3,
    refused: range = range(0),
    reset_at: int | None = None,
) -> tuple[WriteModel, int, int]:
    """Write what the sources have; the model, how many writes failed, and the cycles."""
    print(f"seed {seed}")
    rng = random.Random(seed)
    pins = Pins(RecordWriter(records=RECORDS, run=run_bursts, tag_bits=TAG_BITS))
    memory = bytearray(4 << 17)
    expected = bytearray(memory)
    for bursts in sources:
        for burst in bursts:
            data, at = burst["data"].to_bytes(32, "little"), 32 * burst["address"]
            for byte in range(BURST_BYTES):
                if burst["enable"] >> byte // ENABLED_BYTES & 1:
                    expected[at + byte] = data[byte]
    result: list[Any] = []

    async def bench(context: Any) -> None:
        writes = WriteModel(rng, memory, busy, TAG_BITS)
        writes.refuses = refused
        left = [list(bursts) for bursts in sources]
        offered = [False] * len(sources)
        failed, idle = 0, 0
        waiting: dict[str, int] = {}
        fences = Fences(rng, run_bursts)
        pins.set("fence", 0)
        for now in range(8000):
            if now == reset_at:
                context.set(pins.reset, 1)
                await context.tick()
                context.set(pins.reset, 0)
                writes = WriteModel(rng, memory, busy, TAG_BITS)
                left, offered = [list(bursts) for bursts in sources], [False] * len(sources)
                waiting = {}
                fences = Fences(rng, run_bursts)
            for i, bursts in enumerate(left):
                offered[i] = bool(bursts) and (offered[i] or rng.random() >= busy)
                pins.offer(f"bursts__{i}", pack(BURST, bursts[0]) if offered[i] else None)
            pins.set("memory__request__ready", writes.ready())
            pins.set("memory__data__ready", writes.ready())
            pins.offer("memory__written", writes.end(now))
            asks = fences.ask()
            pins.exchange(context)
            asks = asks and bool(pins.get("fenced"))
            pins.set("fence", asks)
            pins.exchange(context)
            fences.look(asks, bool(pins.get("fenced")), bool(pins.get("idle")))
            request = None
            for name in ("memory__request", "memory__data"):
                there = pins.get(f"{name}__payload") if pins.get(f"{name}__valid") else None
                assert waiting.pop(name, there) == there, f"{name} did not stay"
                if there is not None and not pins.get(f"{name}__ready"):
                    waiting[name] = there
            failed += pins.get("failed")
            for i, bursts in enumerate(left):
                if pins.moved(f"bursts__{i}") is not None:
                    fences.move(i, bursts[0])
                    bursts.pop(0)
                    offered[i] = False
            if pins.moved("memory__request") is not None:
                fields = pins.get_fields("memory__request__payload")
                bursts_asked = fields["bursts_less_one"] + 1
                assert bursts_asked <= run_bursts
                request = Request(fields["address"], bursts_asked, fields["tag"])
                writes.take(request, now)
            moved = pins.moved("memory__data")
            if moved is not None:
                writes.take_beat(moved & ((1 << 128) - 1), moved >> 128, now)
            fences.end(request, pins.moved("memory__written"))
            idle = idle + 1 if pins.get("idle") and not any(left) else 0
            # Idle for good: everything is written.
            if idle > 3:
                if busy:
                    assert fences.passed_among_others >= 3
                result.extend([writes, failed, now])
                assert not writes.under_way
                return
            await context.tick()
        raise AssertionError(f"not done: {left}")

    simulator = Simulator(pins.top)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    if not refused:
        assert memory == expected
    return result[0], result[1], result[2]


@pytest.mark.parametrize("reset_at", [None, 50])
@pytest.mark.parametrize("run_bursts", [2, 8])
def test_everything_is_written(run_bursts: int, reset_at: int | None, seed: int) -> None:
    rng = random.Random(seed)
    sources = [random_bursts(rng, source, 60) for source in range(len(RECORDS))]
    _, failed, _ = run(run_bursts, sources, seed=seed, reset_at=reset_at)
    assert failed == 0


def test_runs_are_as_long_as_they_can_be() -> None:
    """19 bursts of one record are three requests; every record gets its own."""
    bursts = [
        {
            "address": 64 + i,
            "data": i,
            "enable": 0xFFFF,
            "record": 0,
            "end": int(i == 18),
            "last": 0,
        }
        for i in range(19)
    ]
    writes, _, cycles = run(8, [bursts, [], []], seed=1, busy=0.0)
    assert writes.written == [32 * 64, 32 * 72, 32 * 80]
    # Two cycles a burst, and the memory's own time for the last write.
    assert cycles < 8 + 2 * 19 + 3 * 4 + 30


def test_a_refused_write_is_told(seed: int) -> None:
    rng = random.Random(seed)
    sources = [random_bursts(rng, source, 30) for source in range(len(RECORDS))]
    first = 32 * sources[1][0]["address"]
    _, failed, _ = run(8, sources, seed=seed, refused=range(first, first + 1))
    assert failed == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"records": ()}, r"records must have a source of at least 1 each, not \(\)"),
        ({"records": (1, 0)}, r"records must have a source of at least 1 each, not \(1, 0\)"),
        ({"run": 3}, r"run must be one of \(2, 4, 8, 16\), not 3"),
    ],
)
def test_illegal_parameters(options: dict[str, Any], message: str) -> None:
    legal: dict[str, Any] = {"records": (1,), "run": 4, "tag_bits": 2}
    with pytest.raises(ValueError, match=message):
        RecordWriter(**(legal | options))
