"""TableEntry before a table in memory: every place of a burst, refusals, late and mixed beats."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest

from hw.config import preset
from hw.memory.kv_mmu.config import MmuConfig
from hw.memory.kv_mmu.formats import ENTRY_VALID_BIT, pack_entry, unpack_entry
from hw.memory.kv_mmu.table_entry import TableEntry, entry_request, entry_result
from hw.memory.port import port_request, read_response, write_data, write_end
from tb.formal.mutant import mutant
from tb.harness import pack, unpack
from tb.harness.stepped import Neighbours, Steps, play

#: 24 pages have 5 bits, so an entry of page 24 to 31 names one that fits, and of 32 none.
CONFIG = MmuConfig(attention=preset("tiny"), sequences=3, page_bytes=1024, pages=24)
_BURST, _BEAT, _WORD = 32, 16, 4


@dataclass(frozen=True)
class Access:
    """An entry that is read, or written with ``page``; ``errors``: of the two beats, or the end."""

    address: int
    page: int | None
    errors: tuple[int, int] = (0, 0)


class Table(Neighbours):
    """Words by byte address; beats of an answer in either order."""

    def __init__(self, accesses: list[Access], words: dict[int, int], seed: int) -> None:
        request = entry_request(CONFIG)
        super().__init__(
            {
                "request": [
                    pack(request, {"address": a.address, "write": int(write), "page": a.page or 0})
                    for a in accesses
                    for write in [a.page is not None]
                ],
                "table__response": [],
                "table_write__written": [],
            }
        )
        self._rng = random.Random(seed)
        self._accesses = list(accesses)
        self.words = dict(words)
        self._burst = 0
        self._beats: list[dict[str, int]] = []

    def react(self, moved: Mapping[str, int]) -> Mapping[str, int]:
        """Answer what came."""
        for name in ("table__request", "table_write__request"):
            if name in moved:
                request = unpack(port_request(1), moved[name])
                assert (request["bursts_less_one"], request["tag"]) == (0, 0)
                access = self._accesses.pop(0)
                assert request["address"] == access.address // _BURST * _BURST
                self._access, self._burst = access, request["address"]
                if name == "table__request":
                    self._answer()
        if "table_write__data" in moved:
            self._beats.append(unpack(write_data(), moved["table_write__data"]))
            if len(self._beats) == 2:
                self._write()
        return {}

    def _answer(self) -> None:
        beats = [
            {
                "data": sum(
                    self.words[self._burst + _BEAT * beat + _WORD * i] << 32 * i for i in range(4)
                ),
                "tag": 0,
                "beat": beat,
                "error": self._access.errors[beat],
            }
            for beat in range(2)
        ]
        self._rng.shuffle(beats)
        self.inputs["table__response"] += [pack(read_response(1), beat) for beat in beats]

    def _write(self) -> None:
        error = self._access.errors[0]
        for beat, item in enumerate(self._beats):
            for byte in range(_BEAT if not error else 0):
                if item["enable"] >> byte & 1:
                    place = self._burst + _BEAT * beat + byte
                    shift = 8 * (place % _WORD)
                    new = item["data"] >> 8 * byte & 255
                    word = self.words[place // _WORD * _WORD]
                    self.words[place // _WORD * _WORD] = word & ~(255 << shift) | new << shift
        self._beats = []
        end = pack(write_end(1), {"tag": 0, "error": error})
        self.inputs["table_write__written"].append(end)


@cache
def unit() -> TableEntry:
    """One for all runs."""
    return TableEntry(CONFIG)


def random_words(rng: random.Random) -> dict[int, int]:
    """Two bursts far apart: entries of all kinds."""
    entries = [None, 0, 1, CONFIG.pages - 1, 31, 32, (1 << 20) - 1]
    words = {}
    for base in (0, 0xFFFF_FFE0):
        for i in range(8):
            entry = pack_entry(rng.choice(entries))
            if rng.random() < 0.3:
                # A reserved bit, or no valid bit.
                entry ^= 1 << rng.choice((*range(20, 31), ENTRY_VALID_BIT))
            words[base + _WORD * i] = rng.choice((entry, entry, rng.getrandbits(32)))
    return words


def random_accesses(rng: random.Random, words: dict[int, int], count: int) -> list[Access]:
    """Each entry is read; then reads and writes as they come, some refused."""
    accesses = [Access(address, None) for address in words]
    for _ in range(count):
        page = rng.choice((None, 0, CONFIG.pages - 1, rng.randrange(CONFIG.pages)))
        errors = rng.choice(((0, 0), (0, 0), (0, 1), (1, 0)))
        accesses.append(Access(rng.choice(list(words)), page, errors))
    return accesses


def check(entry: Any, seed: int, count: int = 24, **options: Any) -> Steps:
    """Compare results with a plain table, and the table with what was written."""
    rng = random.Random(seed)
    words = random_words(rng)
    accesses = random_accesses(rng, words, count)
    made: list[Table] = []

    def neighbours() -> Table:
        made.append(Table(accesses, words, seed))
        return made[-1]

    writes = sum(access.page is not None for access in accesses)
    outputs = {
        "result": len(accesses),
        "table__request": len(accesses) - writes,
        "table_write__request": writes,
        "table_write__data": 2 * writes,
    }
    steps = play(entry, neighbours, outputs, seed=seed, **options)
    results = [unpack(entry_result(CONFIG), item) for item in steps.items["result"]]
    plain = dict(words)
    for access, result in zip(accesses, results, strict=True):
        if access.page is not None:
            assert result["error"] == access.errors[0]
            if not access.errors[0]:
                plain[access.address] = pack_entry(access.page)
            continue
        assert result["error"] == max(access.errors)
        page = unpack_entry(plain[access.address])
        known = page is not None and page < 1 << CONFIG.page_bits
        assert result["valid"] == known
        if known:
            assert result["page"] == page
    assert made[-1].words == plain
    return steps


@pytest.mark.parametrize(
    "stall",
    [0.0, 0.5, {"table__response": 0.9}, {"table_write__data": 0.8, "table_write__written": 0.8}],
)
def test_random_accesses(stall: Any, seed: int) -> None:
    check(unit(), seed, stall=stall)


@pytest.mark.parametrize("cycle", [2, 3, 5, 90, 93])
def test_reset_in_flight(cycle: int) -> None:
    """Whatever was under way is forgotten; its count of beats begins anew."""
    check(unit(), 5, count=8, stall=0.3, reset_at=cycle)


def test_latency() -> None:
    """Three cycles, beside the two beats that a memory without latency takes."""
    steps = check(unit(), 2, count=0)
    sent, came = steps.cycles_of["request"], steps.cycles_of["result"]
    assert {end - start for start, end in zip(sent, came, strict=True)} == {4}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("BURST_BEATS - beat,", "1 + beat,"),
        ("answer.payload.beat == beat", "left == BURST_BEATS - beat"),
        ("error | answer.payload.error", "answer.payload.error"),
        ("error.eq(written.payload.error)", "error.eq(0)"),
        ("(lane << _ENTRY_SHIFT)", "0"),
    ],
)
def test_faults_are_found(old: str, new: str) -> None:
    """Negative control."""
    with pytest.raises(AssertionError):
        check(mutant(TableEntry, old, new)(CONFIG), 1)
