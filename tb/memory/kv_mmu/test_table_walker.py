"""TableWalker between a table in memory and a page pool: what it loads, and what it reports."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pytest

from golden.twin.kv_mmu import Place
from hw.config import preset
from hw.memory.kv_mmu.config import MmuConfig
from hw.memory.kv_mmu.formats import Region, pack_entry, unpack_entry
from hw.memory.kv_mmu.ports import page_check, table_load
from hw.memory.kv_mmu.table_walker import REQUEST_ENTRIES, TableWalker, walk_request
from hw.memory.port import port_request, read_response
from tb.formal.mutant import mutant
from tb.harness import pack, unpack
from tb.harness.stepped import Neighbours, Steps, play
from tb.harness.verdict import Hang

TINY = MmuConfig(attention=preset("tiny"), sequences=3, page_bytes=1024, pages=100)
#: 512 pages in the largest region: walks of four requests.
LM = MmuConfig(
    attention=preset("lm"), sequences=5, page_bytes=1024, pages=3000, table_address=0x7000
)
_BURST_ENTRIES, _BEAT_ENTRIES = 8, 4


@dataclass
class World:
    """Walks, the table that they read, and which page was given out for which place."""

    config: MmuConfig
    walks: list[tuple[int, Place, int]] = field(default_factory=list)
    words: dict[int, int] = field(default_factory=dict)
    owners: dict[int, Place] = field(default_factory=dict)
    #: Byte addresses of beats with an error.
    refused: set[int] = field(default_factory=set)

    def address(self, place: Place, index: int) -> int:
        """Of an entry."""
        return self.config.entry_address(
            place.sequence, place.layer, place.kv_head, place.region, index
        )

    def add(
        self, rng: random.Random, pages: int, damage: float, sequence: int | None = None
    ) -> None:
        """A walk of so many pages; a share of its entries names no page of its own."""
        config = self.config
        core = config.attention
        place = Place(
            rng.choice((0, config.sequences - 1)) if sequence is None else sequence,
            rng.choice((0, core.layers - 1)),
            rng.choice((0, core.kv_heads - 1)),
            rng.choice([region for region in Region if config.region_entries(region) >= pages]),
            0,
        )
        self.walks.append((rng.randrange(config.slots), place, pages))
        for index in range(pages):
            own = Place(place.sequence, place.layer, place.kv_head, place.region, index)
            address = self.address(place, index)
            page = next((p for p, owner in self.owners.items() if owner == own), None)
            if page is None:
                page = rng.choice(sorted(set(range(config.pages)) - set(self.owners)))
                self.owners[page] = own
            entry = pack_entry(page)
            if rng.random() < damage:
                # Nothing, a page of somebody else, one that does not fit, reserved bits.
                another = pack_entry(rng.choice(list(self.owners)))
                beyond = pack_entry(1 << config.page_bits | page)
                odd = entry ^ 1 << rng.randrange(20, 32)
                entry = rng.choice((0, another, beyond, odd, 0xFFFFFFFF))
            self.words.setdefault(address, entry)
            if rng.random() < damage / 4:
                self.refused.add(address // 16 * 16)

    def loads(self, walk: tuple[int, Place, int]) -> tuple[list[dict[str, int]], bool]:
        """What a walk brings in, and whether that is not all."""
        slot, place, pages = walk
        found = []
        refused = False
        for index in range(pages):
            own = Place(place.sequence, place.layer, place.kv_head, place.region, index)
            address = self.address(place, index)
            page = unpack_entry(self.words[address])
            if page is not None and self.owners.get(page) == own:
                load = {"slot": slot, "region": place.region, "index": index, "page": page}
                found.append({"enable": 1, **load})
        # The beats of a request come whole, with entries behind the last one.
        for first in range(0, pages, REQUEST_ENTRIES):
            size = min(REQUEST_ENTRIES, pages - first)
            bursts = -(-size // _BURST_ENTRIES)
            start = self.address(place, first)
            beats = range(start, start + 32 * bursts, 16)
            refused |= any(address in self.refused for address in beats)
        return found, refused or len(found) != pages


class Around(Neighbours):
    """Table and pool; the beats of a request come in any order."""

    def __init__(self, world: World, seed: int, ordered: bool) -> None:
        layout = walk_request(world.config)
        super().__init__(
            {
                "request": [
                    pack(
                        layout,
                        {
                            "slot": slot,
                            "place": {**vars(place)},
                            "pages": pages,
                        },
                    )
                    for slot, place, pages in world.walks
                ],
                "table__response": [],
            }
        )
        self._world, self._rng, self._ordered = world, random.Random(seed), ordered
        self.loads: list[dict[str, int]] = []
        self.requests: list[tuple[int, int]] = []

    def react(self, moved: Mapping[str, int]) -> Mapping[str, int]:
        """The pool says in the next cycle whether it is that page."""
        config, world = self._world.config, self._world
        if "table__request" in moved:
            request = unpack(port_request(1), moved["table__request"])
            assert request["tag"] == 0
            bursts = request["bursts_less_one"] + 1
            self.requests.append((request["address"], bursts))
            beats = list(range(2 * bursts))
            if not self._ordered:
                self._rng.shuffle(beats)
            self.inputs["table__response"] += [
                self._beat(request["address"], beat) for beat in beats
            ]
        if "load" in moved:
            load = unpack(table_load(config), moved["load"])
            if load["enable"]:
                self.loads.append(load)
        check = unpack(page_check(config), moved.get("check", 0))
        if not check["enable"]:
            # What nobody asked for means nothing.
            return {"match": self._rng.randrange(2)}
        place = Place(**{**check["place"], "region": Region(check["place"]["region"])})
        return {"match": int(world.owners.get(check["page"]) == place)}

    def _beat(self, start: int, beat: int) -> int:
        address = start + 16 * beat
        words = [self._world.words.get(address + 4 * i, 0) for i in range(_BEAT_ENTRIES)]
        data = sum(word << 32 * i for i, word in enumerate(words))
        error = int(address in self._world.refused)
        return pack(read_response(1), {"data": data, "tag": 0, "beat": beat, "error": error})


@cache
def unit(config: MmuConfig) -> TableWalker:
    """One for all runs."""
    return TableWalker(config)


def check(
    walker: Any,
    world: World,
    seed: int,
    ordered: bool = False,
    max_cycles: int = 9000,
    **options: Any,
) -> Steps:
    """Compare requests, loads and results."""
    made: list[Around] = []

    def neighbours() -> Around:
        made.append(Around(world, seed, ordered))
        return made[-1]

    requests = [
        (world.address(place, first), -(-min(REQUEST_ENTRIES, pages - first) // _BURST_ENTRIES))
        for _, place, pages in world.walks
        for first in range(0, pages, REQUEST_ENTRIES)
    ]
    outputs = {"result": len(world.walks), "table__request": len(requests)}
    steps = play(
        walker,
        neighbours,
        outputs,
        watch=("check", "load"),
        seed=seed,
        max_cycles=max_cycles,
        **options,
    )
    expected = [world.loads(walk) for walk in world.walks]
    print(f"{sum(fault for _, fault in expected)} faults in {len(expected)} walks")
    assert made[-1].requests == requests
    assert made[-1].loads == [load for loads, _ in expected for load in loads]
    assert steps.items["result"] == [int(fault) for _, fault in expected]
    return steps


def faulty_world() -> World:
    """An intact walk, one with a page of the first one's, one with a beat refused, an intact one.

    The tables are of different sequences, or regions.
    """
    rng, world = random.Random(1), World(TINY)
    for number, pages in enumerate((1, 3, 9)):
        world.add(rng, pages, 0.0, sequence=number)
    (_, first, _), (_, second, _), (_, third, _) = world.walks
    world.words[world.address(second, 1)] = world.words[world.address(first, 0)]
    world.refused.add(world.address(third, 4))
    world.walks.append(world.walks[0])
    assert [world.loads(walk)[1] for walk in world.walks] == [False, True, True, False]
    return world


def world_of(config: MmuConfig, seed: int, pages: list[int], damage: float) -> World:
    """Walks of so many pages each; every other one is intact."""
    rng, world = random.Random(seed), World(config)
    for i, number in enumerate(pages):
        world.add(rng, number, damage * (i % 2))
    return world


@pytest.mark.parametrize(
    "stall",
    [0.0, 0.5, {"table__response": 0.8}, {"request": 0.8, "table__request": 0.9, "result": 0.9}],
)
def test_random_walks(stall: Any, seed: int) -> None:
    """None, one, a burst's and all pages of a region, of several sequences, damaged or not."""
    world = world_of(TINY, seed, [0, 1, 2, 9, 8, 3, TINY.most_pages, 2, 1], 0.5)
    check(unit(TINY), world, seed, stall=stall)


@pytest.mark.parametrize(
    "pages", [[129], pytest.param([128, 512, 384, 257], marks=pytest.mark.slow)], ids=str
)
def test_walks_of_several_requests(pages: list[int], seed: int) -> None:
    """128 entries are one request, 129 are two, and all of a region four."""
    assert LM.most_pages == 4 * REQUEST_ENTRIES
    check(unit(LM), world_of(LM, seed, pages, 0.02), seed)


@pytest.mark.parametrize("cycle", [2, 4, 9, 21, 30])
def test_reset_in_flight(cycle: int) -> None:
    """Beats, entries and checks under way are forgotten."""
    check(unit(TINY), world_of(TINY, 3, [9, 2, 0, 4], 0.5), 3, stall=0.2, reset_at=cycle)


def test_pace() -> None:
    """Beside the memory an entry a cycle, and 6 cycles more a request."""
    world = World(LM)
    world.add(random.Random(1), 136, 0.0)
    steps = check(unit(LM), world, 1, ordered=True)
    (start,), (end,) = steps.cycles_of["request"], steps.cycles_of["result"]
    sent, came = steps.cycles_of["table__request"], steps.cycles_of["table__response"]
    # The memory's part, from a request to its last beat.
    first = 2 * REQUEST_ENTRIES // _BURST_ENTRIES
    memory = (came[first - 1] - sent[0]) + (came[-1] - sent[1])
    assert end - start == memory + 136 + 2 * 6


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("self.load.enable.eq(checked & claimed & self.match)", "self.load.enable.eq(checked)"),
        ("~(claimed & self.match)", "~claimed"),
        ("fault.eq(fault | answer.payload.error)", "fault.eq(fault)"),
        ("[walk.eq(self.request.payload), fault.eq(0)]", "walk.eq(self.request.payload)"),
        ("number == size - 1", "number == size - 2"),
        ("write.addr.eq(answer.payload.beat)", "write.addr.eq(answer.payload.beat + 1)"),
    ],
)
def test_faults_are_found(old: str, new: str) -> None:
    """Negative control."""
    with pytest.raises((AssertionError, Hang)):
        check(mutant(TableWalker, old, new)(TINY), faulty_world(), 1, max_cycles=600)
