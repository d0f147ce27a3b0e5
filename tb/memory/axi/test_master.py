"""AxiMaster against the model of a memory that checks the bus."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from hw.config import BEAT_BYTES, BURST_BYTES
from hw.memory.axi import AxiMaster
from hw.memory.channel_port import channel_response, channel_written
from hw.memory.port import BURST_BEATS, write_data
from tb.harness import Run, pack, simulate, unpack
from tb.harness.files import REPOSITORY
from tb.memory.axi.bench import ID_BITS, ITEM, MEMORY_BYTES, AxiBench

MODEL = REPOSITORY / "tb" / "models" / "axi_memory.sv"
PAGE = 4096
ALL_ONES = (1 << 8 * BEAT_BYTES) - 1
ROUGH = {"latency_min": 1, "latency_max": 60, "shuffle": 1, "stall": 100, "gap": 90}


@cache
def bench(gear: int, axi_id_bits: int) -> AxiBench:
    """One per parameters, so that it is elaborated once."""
    return AxiBench(gear, axi_id_bits)


@dataclass
class Script:
    """Requests in order, and what is to come of them.

    Parameters
    ----------
    image
        The contents at the start.
    bad
        Bytes whose access fails.
    """

    image: bytes
    gear: int
    bad: range = range(0)
    items: list[int] = field(default_factory=list)
    words: list[int] = field(default_factory=list)
    #: By id: the beats of a read, each with its error; whether a write fails.
    reads: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    writes: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.memory = bytearray(self.image)

    def parts(self, address: int, bursts: int) -> list[range]:
        """Return the bursts on the bus: an error is one of all of it."""
        end = address + bursts * BURST_BYTES
        edge = min(end, (address // PAGE + 1) * PAGE)
        return [part for part in (range(address, edge), range(edge, end)) if part]

    def refused(self, part: range) -> bool:
        """Say whether the model refuses a burst."""
        return part.stop > self.bad.start and part.start < self.bad.stop

    def send(self, address: int, bursts: int, *, write: bool, fence: bool) -> int:
        """Add a request and return its id."""
        number = len(self.items)
        request = {"address": address, "bursts_less_one": bursts - 1, "id": number}
        self.items.append(pack(ITEM, {"request": request | {"write": write}, "fence": fence}))
        return number

    def read(self, address: int, bursts: int, *, fence: bool = False) -> None:
        """Read what has been written before the fence."""
        beats = []
        for part in self.parts(address, bursts):
            for start in part[::BEAT_BYTES]:
                data = int.from_bytes(self.memory[start : start + BEAT_BYTES], "little")
                beats.append((ALL_ONES, 1) if self.refused(part) else (data, 0))
        self.reads[self.send(address, bursts, write=False, fence=fence)] = beats

    def write(self, address: int, data: bytes, enable: Sequence[int], *, fence: bool) -> None:
        """Write the bytes whose ``enable`` is 1."""
        bursts = len(data) // BURST_BYTES
        parts = self.parts(address, bursts)
        number = self.send(address, bursts, write=True, fence=fence)
        self.writes[number] = int(any(map(self.refused, parts)))
        for part in parts:
            for place in part:
                if enable[place - address] and not self.refused(part):
                    self.memory[place] = data[place - address]
        size = self.gear * BEAT_BYTES
        for start in range(0, len(data), size):
            bits = sum(bit << i for i, bit in enumerate(enable[start : start + size]))
            word = {"data": int.from_bytes(data[start : start + size], "little"), "enable": bits}
            self.words.append(pack(write_data(self.gear), word))

    def play(
        self,
        folder: Path,
        memory: dict[str, int],
        axi_id_bits: int = 4,
        *,
        name: str = "axi_master",
        **more: Any,
    ) -> Run:
        """Run it and compare every beat and every end."""
        gear = self.gear
        image = folder / "image.bin"
        image.write_bytes(self.image)
        options: dict[str, int | str] = {**memory, "image": str(image)}
        if self.bad:
            options |= {"error_address": f"{self.bad.start:x}", "error_bytes": len(self.bad)}
        run = simulate(
            bench(gear, axi_id_bits),
            name=f"{name}_{gear}_{axi_id_bits}",
            inputs={"items": self.items, "words": self.words},
            outputs={
                "response": sum(map(len, self.reads.values())) // gear,
                "written": len(self.writes),
            },
            sources=[MODEL],
            plusargs=[f"+axi_{key}={value}" for key, value in options.items()],
            observe=["read_bursts", "write_bursts", "reads_at_once"],
            **more,
        )
        self.compare(run.outputs["response"], run.outputs["written"])
        return run

    def compare(self, responses: Sequence[int], written: Sequence[int]) -> None:
        """Compare every beat and every end with what is to come."""
        gear = self.gear
        got: dict[int, dict[int, tuple[int, int]]] = {number: {} for number in self.reads}
        for item in responses:
            answer = unpack(channel_response(ID_BITS, gear), item)
            for i in range(gear):
                beat = answer["beat"] + i
                assert beat not in got[answer["id"]], "a beat came twice"
                data = answer["data"] >> (i * 8 * BEAT_BYTES) & ALL_ONES
                got[answer["id"]][beat] = (data, answer["error"])
        for number, beats in self.reads.items():
            assert got[number] == dict(enumerate(beats)), f"read {number}"
        ends = [unpack(channel_written(ID_BITS), item) for item in written]
        assert {end["id"]: end["error"] for end in ends} == self.writes
        assert len(ends) == len(self.writes)


def near_pages(rng: random.Random) -> tuple[int, int]:
    """An address and bursts, at or across a multiple of 4 KiB more often than not."""
    bursts = rng.choice((1, 2, 3, 15, 16, rng.randint(1, 16)))
    edge = PAGE * rng.randrange(1, MEMORY_BYTES // PAGE)
    address = edge - BURST_BYTES * rng.choice((0, 1, bursts, rng.randint(0, bursts), 40))
    return min(address, MEMORY_BYTES - bursts * BURST_BYTES), bursts


def random_script(seed: int, gear: int, *, phases: int = 12, bad: range = range(0)) -> Script:
    """Phases that write and read other places each; what was just written; all of the memory."""
    rng = random.Random(seed)
    script = Script(rng.randbytes(MEMORY_BYTES), gear, bad)
    for _ in range(phases):
        taken: set[int] = set()
        fence = True
        for _ in range(rng.randint(8, 40)):
            address, bursts = near_pages(rng)
            # A page is read or written in a phase by one request only, unless all of them read.
            pages = set(range(address // PAGE, (address + bursts * BURST_BYTES - 1) // PAGE + 1))
            write = rng.random() < 0.5 and not pages & taken
            if write:
                size = bursts * BURST_BYTES
                enable = (
                    [rng.randrange(2) for _ in range(size)] if rng.random() < 0.5 else [1] * size
                )
                script.write(address, rng.randbytes(size), enable, fence=fence)
                taken |= {page + 1000 for page in pages}
            elif not {page + 1000 for page in pages} & taken:
                script.read(address, bursts, fence=fence)
            else:
                continue
            taken |= pages
            fence = False
    for _ in range(3 * phases):
        address, bursts = near_pages(rng)
        size = bursts * BURST_BYTES
        script.write(address, rng.randbytes(size), [1] * size, fence=True)
        script.read(address, bursts, fence=True)
    for address in range(0, MEMORY_BYTES, 512):
        script.read(address, 16, fence=address == 0)
    return script


@pytest.mark.parametrize(("gear", "seed"), [(1, 1), (1, 2), (2, 3), (2, 4)])
def test_reads_and_writes(gear: int, seed: int, tmp_path: Path) -> None:
    script = random_script(seed, gear)
    stall = {"items": 0.3, "words": 0.4} if seed % 2 else {}
    script.play(tmp_path, ROUGH if seed > 1 else {}, stall=stall, seed=seed)


def test_two_ids_only(tmp_path: Path) -> None:
    run = random_script(5, 1, phases=4).play(tmp_path, ROUGH, 1, seed=5)
    # Two requests, both of them cut in two.
    assert 2 <= run.observed["reads_at_once"] <= 4


@pytest.mark.parametrize("bad", [range(0x1FF0, 0x2010), range(0x3000, 0x3001), range(1 << 16)])
@pytest.mark.parametrize("gear", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_errors(gear: int, bad: range, tmp_path: Path) -> None:
    script = random_script(7 + gear, gear, phases=8, bad=bad)
    assert any(script.writes.values())
    script.play(tmp_path, ROUGH, seed=9)


@pytest.mark.parametrize("reset_at", [20, 61, 333])
def test_reset_in_flight(reset_at: int, tmp_path: Path) -> None:
    random_script(reset_at, 1, phases=4).play(tmp_path, ROUGH, seed=reset_at, reset_at=reset_at)


def test_requests_are_cut_at_4_kib_only(tmp_path: Path) -> None:
    script = Script(bytes(MEMORY_BYTES), 1)
    for offset in range(17):
        script.read(PAGE - offset * BURST_BYTES, 16)
    run = script.play(tmp_path, {})
    assert run.observed["read_bursts"] == 17 + 15


@pytest.mark.parametrize("gear", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_word_in_every_cycle(gear: int, tmp_path: Path) -> None:
    """Both ways at once, with 16 IDs, short requests and 20 cycles of latency."""
    script = Script(bytes(MEMORY_BYTES), gear)
    for i in range(128):
        script.read(512 * i, 4 * gear)
        script.write(512 * i + 256, bytes(128 * gear), [1] * 128 * gear, fence=False)
    run = script.play(tmp_path, {"latency_min": 20, "shuffle": 1})
    words = 128 * 4 * gear * BURST_BEATS // gear
    assert words < run.cycles < words + 60


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"id_bits": 0}, "id_bits must be at least 1, not 0"),
        ({"id_bits": 4, "gear": 3}, "gear must be 1 or 2, not 3"),
        ({"id_bits": 4, "axi_id_bits": 9}, "axi_id_bits must be 1 to 8, not 9"),
    ],
)
def test_what_is_refused(wrong: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AxiMaster(**wrong)
