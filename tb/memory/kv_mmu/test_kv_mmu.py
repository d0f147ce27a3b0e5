"""KvMmu against the twin: random commands, jobs and accesses, and everything that can go wrong."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import cache
from itertools import count

import pytest

from golden.twin.kv_mmu import Command, Reply
from hw.config import preset
from hw.formats import Mode, Status
from hw.memory.kv_mmu.config import MmuConfig
from hw.memory.kv_mmu.formats import CommandStatus, Opcode, Region, pack_entry
from hw.memory.kv_mmu.kv_mmu import KvMmu
from tb.memory.kv_mmu.bench import Host, System

TINY = MmuConfig(attention=preset("tiny"), sequences=3, page_bytes=1024, pages=40)
LM = MmuConfig(attention=preset("lm"), sequences=64, page_bytes=4096, pages=3000)
#: The faults of a job that the core finds by itself.
SPOILS = (
    Status.CONFIG_MISMATCH,
    Status.MODE_RANGE,
    Status.CONTEXT_RANGE,
    Status.LAYER_RANGE,
    Status.HEAD_RANGE,
)


@cache
def mmu(config: MmuConfig) -> KvMmu:
    """One component per configuration."""
    return KvMmu(config)


def map_cache(
    system: System, sequence: int, layer: int, kv_head: int, context: int, mode: Mode = Mode.KVO
) -> Host:
    """Allocate the pages of a cache."""
    for region, number in system.config.pages_of(context, mode).items():
        for index in range(number):
            yield from system.command(allocate(sequence, layer, kv_head, region, index))


def allocate(sequence: int, layer: int, kv_head: int, region: int, index: int) -> Command:
    """Return the command that asks for a page."""
    return Command(
        opcode=Opcode.ALLOCATE,
        sequence=sequence,
        layer=layer,
        kv_head=kv_head,
        region=region,
        index=index,
    )


class Soup:
    """Random commands beside random jobs, on a few caches of every sequence."""

    def __init__(self, system: System, sequences: int, commands: int, jobs: int) -> None:
        self.system = system
        self.config = system.config
        self.sequences, self.commands, self.jobs = sequences, commands, jobs
        self.busy_with: int | None = None

    def hosts(self) -> tuple[object, object]:
        """Return the two hosts of a run."""
        return self.commander, self.jobber

    def _sequence(self) -> int:
        rng = self.system.rng
        few = rng.randrange(self.sequences)
        return rng.choice((few, few, few, self.config.sequences - 1))

    def _cache(self) -> tuple[int, int]:
        """Return a layer and a head, mostly one of two pairs."""
        rng, core = self.system.rng, self.config.attention
        return rng.choice(((0, 0), (core.layers - 1, core.kv_heads - 1)))

    def _context(self) -> int:
        rng, core = self.system.rng, self.config.attention
        return rng.choice((1, 2 * core.window, 3 * core.window, 2 * core.window + 1))

    def commander(self) -> Host:
        """Send random commands; keep off the sequence whose pages are being walked."""
        system, rng, core = self.system, self.system.rng, self.config.attention
        self.busy_with = None
        for _ in range(self.commands):
            sequence = self._sequence()
            layer, head = self._cache()
            kind = rng.random()
            while system.walking == sequence or (kind > 0.93 and system.walking is not None):
                yield
            if kind > 0.97:
                self._corrupt(sequence, layer, head)
                continue
            self.busy_with = sequence if kind <= 0.93 else -1
            if kind < 0.08:
                yield from system.command(Command(opcode=Opcode.CREATE, sequence=sequence))
            elif kind < 0.12:
                yield from system.hold(sequence)
                yield from system.command(Command(opcode=Opcode.FREE, sequence=sequence))
                system.held = None
            elif kind < 0.20:
                yield from system.command(self._random_command(sequence))
            elif kind <= 0.93:
                pages = self.config.pages_of(self._context())
                region = rng.choice([r for r in Region if pages[r]])
                command = allocate(sequence, layer, head, region, rng.randrange(pages[region]))
                if rng.random() < 0.2:
                    command = replace(command, opcode=Opcode.LOOKUP)
                yield from system.command(command)
            else:
                index = rng.randrange(core.layers + 1)
                command = Command(opcode=Opcode.SET_LAYER, layer=rng.randrange(core.layers + 1))
                yield from system.command(replace(command, index=index))
            self.busy_with = None
            if rng.random() < 0.3:
                for _ in range(rng.randrange(60)):
                    yield
        yield from system.drain()

    def _random_command(self, sequence: int) -> Command:
        """Return a command with anything in some of its fields."""
        rng = self.system.rng
        command = allocate(sequence, rng.randrange(4), rng.randrange(2), rng.randrange(3), 0)
        # A sequence that is named by accident may be walked just now.
        fields = {
            "opcode": rng.choice((Opcode.ALLOCATE, Opcode.LOOKUP, rng.randrange(5, 256))),
            "layer": rng.randrange(256),
            "kv_head": rng.randrange(256),
            "region": rng.randrange(256),
            "index": rng.randrange(1 << 16),
            "sequence": rng.randrange(self.config.sequences, 256),
        }
        name = rng.choice(list(fields))
        return replace(command, **{name: fields[name]})

    def _corrupt(self, sequence: int, layer: int, head: int) -> None:
        """Change a word of the tables, in the memory and in the twin's."""
        rng, system = self.system.rng, self.system
        region = rng.choice(list(Region))
        index = rng.randrange(4)
        address = self.config.entry_address(sequence, layer, head, region, index)
        words = system.table.words
        others = list(words.values()) or [0]
        any_page = pack_entry(rng.randrange(self.config.pages))
        word = rng.choice((0, rng.getrandbits(32), rng.choice(others), any_page, any_page))
        words[address] = system.twin.table[address] = word

    def jobber(self) -> Host:
        """Send random jobs, not of the sequence that a command is about."""
        system, rng = self.system, self.system.rng
        for _ in range(self.jobs):
            sequence = rng.choice((self._sequence(), self._sequence(), 255))
            while self.busy_with in (sequence, -1):
                yield
            layer, head = self._cache()
            spoil = rng.choice(SPOILS) if rng.random() < 0.1 else Status.OK
            context = self._context()
            yield from system.job(sequence, layer, head, context, spoil=spoil)
            for _ in range(rng.choice((0, 0, 50, 400))):
                yield
        yield from system.drain()


def check_tables(system: System) -> None:
    """Compare the tables in the memory with the twin's."""
    assert system.table.words == system.twin.table


@pytest.mark.parametrize("run", range(4))
def test_random_commands_jobs_and_accesses(run: int) -> None:
    system = System(mmu(TINY), seed=run, busy=(0.0, 0.3, 0.6, 0.3)[run])
    cycles = system.run(*Soup(system, 3, commands=300, jobs=80).hosts())
    print(cycles, system.counts, system.statuses)
    check_tables(system)
    assert system.counts["jobs"] == 80


def test_random_runs_reach_every_status() -> None:
    system = System(mmu(TINY), seed=77, busy=0.2)
    print(system.run(*Soup(system, 3, commands=900, jobs=150).hosts()))
    print(system.counts, system.statuses)
    check_tables(system)
    expected = {status.name for status in CommandStatus} - {"TABLE_ERROR"}
    expected |= {status.name for status in (*SPOILS, Status.NO_SEQUENCE, Status.PAGE_FAULT)}
    assert expected <= set(system.statuses)
    assert min(system.counts.values()) > 20
