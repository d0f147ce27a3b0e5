"""Clients, arbiter, AXI4 master and memory in a row: data, ends, and what the counters say."""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path

import pytest
from amaranth.hdl import ClockSignal, Instance, Module, ResetSignal, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import BEAT_BYTES, BURST_BYTES
from hw.memory.arbiter import ChannelArbiter, Client
from hw.memory.axi import AxiMaster
from hw.memory.axi.port import axi_port
from hw.memory.port import BURST_BEATS, port_request, read_response, write_data, write_end
from tb.harness import Run, pack, simulate, unpack
from tb.harness.files import REPOSITORY

MODEL = REPOSITORY / "tb" / "models" / "axi_memory.sv"
MEMORY_BYTES = 1 << 16
#: Tags of every client; a test uses each once in a while only, so none is used twice at a time.
TAG_BITS = 8
READERS, WRITERS = ("core", "check"), ("append", "tables")
CLIENTS = [
    *(Client(name=name, tag_bits=TAG_BITS) for name in READERS),
    *(Client(name=name, tag_bits=TAG_BITS, writes=True) for name in WRITERS),
]


class PathBench(wiring.Component):
    """The row. Requests of ``check`` wait until ``writes`` writes have ended."""

    def __init__(self, gear: int) -> None:
        self._gear = gear
        self._arbiter = ChannelArbiter(CLIENTS, gear=gear, patience=200)
        ids = self._arbiter.id_layout.size
        self._master = AxiMaster(id_bits=ids, gear=gear, axi_id_bits=4)
        self._counters = [*self._arbiter.counters, *self._master.counters]
        request = stream.Signature(port_request(TAG_BITS))
        ports = {f"{client.name}_request": In(request) for client in CLIENTS}
        for name in READERS:
            ports[f"{name}_response"] = Out(stream.Signature(read_response(TAG_BITS, gear)))
        for name in WRITERS:
            ports[f"{name}_data"] = In(stream.Signature(write_data(gear)))
            ports[f"{name}_written"] = Out(stream.Signature(write_end(TAG_BITS)))
        counts = {f"count_{counter.name}": Out(32) for counter in self._counters}
        super().__init__({**ports, **counts, "writes": In(16)})

    @property
    def counts(self) -> list[str]:
        """The names of the counts."""
        return [f"count_{counter.name}" for counter in self._counters]

    def elaborate(self, platform: object) -> Module:
        """Connect the row."""
        m = Module()
        m.submodules.arbiter = arbiter = self._arbiter
        m.submodules.master = master = self._master
        wiring.connect(m, arbiter.channel, master.channel)
        ended = Signal(16)
        for client in CLIENTS:
            port = getattr(arbiter, client.name)
            request = getattr(self, f"{client.name}_request")
            go = ended == self.writes if client.name == "check" else 1
            m.d.comb += [
                port.request.payload.eq(request.payload),
                port.request.valid.eq(request.valid & go),
                request.ready.eq(port.request.ready & go),
            ]
            for name in ("data", "written") if client.writes else ("response",):
                outside, inside = getattr(self, f"{client.name}_{name}"), getattr(port, name)
                wiring.connect(m, wiring.flipped(outside), inside)
        ends = [getattr(arbiter, name).written.valid for name in WRITERS]
        m.d.sync += ended.eq(ended + ends[0] + ends[1])
        for counter in self._counters:
            count = getattr(self, f"count_{counter.name}")
            m.d.sync += count.eq(count + counter.event)
        ports: dict[str, object] = {}
        for name, member in axi_port(4, self._gear).items():
            ports[("i_" if member.flow == Out else "o_") + name] = getattr(master, name)
        m.submodules.memory = Instance(
            "axi_memory",
            p_BYTES=MEMORY_BYTES,
            p_WORD_BYTES=self._gear * BEAT_BYTES,
            p_ID_BITS=4,
            i_clk=ClockSignal(),
            i_rst=ResetSignal(),
            **ports,
        )
        return m


@cache
def bench(gear: int) -> PathBench:
    """One per gear, so that it is elaborated once."""
    return PathBench(gear)


def places(rng: random.Random, low: int, high: int, number: int) -> list[tuple[int, int]]:
    """Addresses and bursts within a range of bytes, that do not overlap."""
    found, at = [], low
    for _ in range(number):
        bursts = rng.randint(1, 16)
        at += BURST_BYTES * rng.randrange(3)
        if at + bursts * BURST_BYTES <= high:
            found.append((at, bursts))
            at += bursts * BURST_BYTES
    return found


def requests(wanted: list[tuple[int, int]]) -> list[int]:
    """The payloads, tags in turn."""
    layout = port_request(TAG_BITS)
    return [
        pack(layout, {"address": a, "bursts_less_one": b - 1, "tag": tag})
        for tag, (a, b) in enumerate(wanted)
    ]


def check_answers(
    run: Run, name: str, wanted: list[tuple[int, int]], data: bytes, gear: int
) -> None:
    """Compare every beat."""
    got = {}
    for item in run.outputs[f"{name}_response"]:
        answer = unpack(read_response(TAG_BITS, gear), item)
        assert not answer["error"]
        got[answer["tag"], answer["beat"]] = answer["data"].to_bytes(gear * BEAT_BYTES, "little")
    expected = {}
    for tag, (address, bursts) in enumerate(wanted):
        for beat in range(0, bursts * BURST_BEATS, gear):
            start = address + beat * BEAT_BYTES
            expected[tag, beat] = data[start : start + gear * BEAT_BYTES]
    assert got == expected


@pytest.mark.parametrize(("gear", "rough", "seed"), [(1, False, 1), (1, True, 2), (2, True, 3)])
def test_everything_arrives_and_is_counted(
    gear: int, rough: bool, seed: int, tmp_path: Path
) -> None:
    rng = random.Random(seed)
    image = rng.randbytes(MEMORY_BYTES)
    half = MEMORY_BYTES // 2
    wanted = {
        "core": places(rng, 0, half, 60),
        "append": places(rng, half, half + 0x4000, 40),
        "tables": places(rng, half + 0x4000, MEMORY_BYTES, 30),
        "check": [(half + 512 * i, 16) for i in range(half // 512)],
    }
    memory = bytearray(image)
    words: dict[str, list[int]] = {}
    for name in WRITERS:
        words[name] = []
        for address, bursts in wanted[name]:
            data = rng.randbytes(bursts * BURST_BYTES)
            memory[address : address + len(data)] = data
            for i in range(0, len(data), gear * BEAT_BYTES):
                word = int.from_bytes(data[i : i + gear * BEAT_BYTES], "little")
                enable = (1 << gear * BEAT_BYTES) - 1
                words[name].append(pack(write_data(gear), {"data": word, "enable": enable}))
    bursts_of = {name: sum(b for _, b in its) for name, its in wanted.items()}
    words_of = {name: bursts * BURST_BEATS // gear for name, bursts in bursts_of.items()}
    (tmp_path / "image.bin").write_bytes(image)
    options: dict[str, int | str] = {"image": str(tmp_path / "image.bin")}
    inputs = {f"{name}_request": requests(its) for name, its in wanted.items()}
    inputs |= {f"{name}_data": its for name, its in words.items()}
    if rough:
        options |= {"latency_max": 50, "shuffle": 1, "stall": 90, "gap": 60}
    run = simulate(
        bench(gear),
        name=f"memory_path_{gear}",
        inputs=inputs,
        outputs={
            **{f"{name}_response": words_of[name] for name in READERS},
            **{f"{name}_written": len(wanted[name]) for name in WRITERS},
        },
        settings={"writes": sum(len(wanted[name]) for name in WRITERS)},
        sources=[MODEL],
        plusargs=[f"+axi_{key}={value}" for key, value in options.items()],
        observe=bench(gear).counts,
        stall=dict.fromkeys(inputs, 0.3) if rough else 0.0,
        seed=seed,
    )
    for name in READERS:
        check_answers(run, name, wanted[name], bytes(memory), gear)
    for name in WRITERS:
        ends = [unpack(write_end(TAG_BITS), item) for item in run.outputs[f"{name}_written"]]
        assert sorted(end["tag"] for end in ends) == list(range(len(wanted[name])))
        assert not any(end["error"] for end in ends)

    counts = {name.removeprefix("count_"): value for name, value in run.observed.items()}
    for name, its in wanted.items():
        assert counts[f"{name}_requests"] == len(its)
        assert counts[f"{name}_bursts"] == bursts_of[name]
    assert counts["core_waited"] > 0
    for way, names in (("read", READERS), ("write", WRITERS)):
        crossings = sum(
            address // 4096 != (address + bursts * BURST_BYTES - 1) // 4096
            for name in names
            for address, bursts in wanted[name]
        )
        assert crossings > 0
        assert counts[f"{way}_bursts"] == sum(len(wanted[name]) for name in names) + crossings
        assert counts[f"{way}_words"] == sum(words_of[name] for name in names)
        assert counts[f"{way}_errors"] == counts[f"{way}_strays"] == 0
    if not rough:
        # Reads and writes side by side, and then the check: a word a cycle, but for latencies.
        alone = words_of["check"] + max(words_of["core"], words_of["append"] + words_of["tables"])
        assert run.cycles < alone + 80


def test_errors_are_counted(tmp_path: Path) -> None:
    wanted = {"core": [(0, 2), (4096, 1)], "append": [(4096, 3)], "tables": [(0, 1)]}
    word = pack(write_data(1), {"data": 5, "enable": 1})
    run = simulate(
        bench(1),
        name="memory_path_1",
        inputs={
            **{f"{name}_request": requests(wanted.get(name, [])) for name in (*READERS, *WRITERS)},
            **{f"{name}_data": [word] * BURST_BEATS * wanted[name][0][1] for name in WRITERS},
        },
        outputs={
            "core_response": 6,
            "check_response": 0,
            "append_written": 1,
            "tables_written": 1,
        },
        sources=[MODEL],
        plusargs=["+axi_error_address=1000", "+axi_error_bytes=32"],
        observe=["count_read_errors", "count_write_errors"],
    )
    answers = [unpack(read_response(TAG_BITS), item) for item in run.outputs["core_response"]]
    assert [answer["error"] for answer in answers] == [0, 0, 0, 0, 1, 1]
    assert run.observed == {"count_read_errors": 2, "count_write_errors": 1}
    (failed,) = run.outputs["append_written"]
    assert unpack(write_end(TAG_BITS), failed) == {"tag": 0, "error": 1}
    (fine,) = run.outputs["tables_written"]
    assert unpack(write_end(TAG_BITS), fine) == {"tag": 0, "error": 0}
