"""KvMmu against the twin: random commands, jobs and accesses, and everything that can go wrong."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest

from golden.twin.kv_mmu import Command, Reply
from hw.config import preset
from hw.formats import Mode, Status
from hw.memory.kv_mmu.config import MmuConfig
from hw.memory.kv_mmu.formats import CommandStatus, Opcode, Region, pack_entry
from hw.memory.kv_mmu.kv_mmu import KvMmu
from tb.memory.kv_mmu.bench import Host, System

TINY = MmuConfig(attention=preset("tiny"), sequences=3, page_bytes=1024, pages=24)
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
        return rng.choice((1, core.window, core.window + 1, 2 * core.window, 2 * core.window + 1))

    def commander(self) -> Host:
        """Send random commands; keep off the sequence whose pages are being walked."""
        system, rng, core = self.system, self.system.rng, self.config.attention
        self.busy_with = None
        for _ in range(self.commands):
            sequence = self._sequence()
            layer, head = self._cache()
            kind = rng.random()
            if 0.09 < kind < 0.11 and system.running:
                sequence = system.running[-1].grant.sequence
            while system.walking == sequence or (kind > 0.93 and system.walking is not None):
                yield
            if kind > 0.985:
                self._corrupt(sequence, layer, head)
                continue
            self.busy_with = sequence if kind <= 0.93 else -1
            if kind < 0.08:
                command = Command(opcode=Opcode.CREATE, sequence=sequence)
                reply = yield from system.command(command)
                if reply.status == CommandStatus.OK:
                    yield from map_cache(system, sequence, layer, head, 2 * core.window)
            elif kind < 0.11:
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
                ends = (0, core.layers - 1, layer, layer, core.layers)
                command = Command(opcode=Opcode.SET_LAYER, layer=rng.choice(ends))
                yield from system.command(replace(command, index=rng.choice(ends)))
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

    def _able(self) -> list[tuple[int, int, int, int]]:
        """Return jobs whose pages are mapped."""
        twin, window = self.system.twin, self.config.attention.window
        tails = {(p.sequence, p.layer, p.kv_head) for p in twin.places if p.region == Region.TAIL}
        return [
            (*cache, context)
            for cache in sorted(tails)
            for context in (1, window, 2 * window)
            if twin.could_run(*cache, context)
        ]

    def jobber(self) -> Host:
        """Send random jobs, not of the sequence that a command is about."""
        system, rng = self.system, self.system.rng
        for _ in range(self.jobs):
            sequence = rng.choice((self._sequence(), self._sequence(), 255))
            while self.busy_with in (sequence, -1):
                yield
            layer, head = self._cache()
            context = self._context()
            # A job that can run, more often than not.
            able = self._able()
            if able and rng.random() < 0.7:
                sequence, layer, head, context = rng.choice(able)
                while self.busy_with in (sequence, -1):
                    yield
            spoil = rng.choice(SPOILS) if rng.random() < 0.1 else Status.OK
            yield from system.job(sequence, layer, head, context, spoil=spoil)
            for _ in range(rng.choice((0, 0, 50, 400))):
                yield
        yield from system.drain()


def check_tables(system: System) -> None:
    """Compare the tables in the memory with the twin's."""
    assert system.table.words == system.twin.table


@pytest.mark.parametrize("run", range(3))
def test_random_commands_jobs_and_accesses(run: int) -> None:
    system = System(mmu(TINY), seed=run, busy=(0.0, 0.3, 0.6)[run])
    system.run(*Soup(system, 3, commands=200, jobs=60).hosts())
    print(system.now, system.counts, system.statuses)
    check_tables(system)
    assert system.counts["jobs"] == 60
    assert system.counts["granted"] > 30


def test_random_runs_reach_every_status() -> None:
    system = System(mmu(TINY), seed=5, busy=0.2)
    system.run(*Soup(system, 3, commands=500, jobs=200).hosts())
    print(system.now, system.counts, system.statuses)
    check_tables(system)
    expected = {status.name for status in CommandStatus} - {"TABLE_ERROR"}
    expected |= {status.name for status in (*SPOILS, Status.NO_SEQUENCE, Status.PAGE_FAULT)}
    assert expected <= set(system.statuses)
    assert min(system.counts.values()) > 60


@pytest.mark.slow
@pytest.mark.parametrize("run", range(3))
def test_full_size(run: int) -> None:
    """64 sequences, 3000 pages of 4 KiB, a model of four layers and contexts to 2048."""
    system = System(mmu(LM), seed=run, busy=(0.1, 0.3, 0.5)[run])
    system.run(*Soup(system, 63, commands=500, jobs=150).hosts())
    print(system.now, system.counts, system.statuses)
    check_tables(system)
    assert system.counts["granted"] > 100


@pytest.mark.parametrize("reset_at", [3, 40, 900, 2100, 3333])
def test_reset_in_flight(reset_at: int) -> None:
    """After a reset everything is free again, and the old tables in the memory mean nothing."""
    system = System(mmu(TINY), seed=reset_at)
    system.run(*Soup(system, 3, commands=80, jobs=25).hosts(), reset_at=reset_at)
    check_tables(system)


def test_exhaustion_loses_nothing() -> None:
    """The last page, then OUT_OF_PAGES; all pages come back and go out again."""
    system = System(mmu(TINY), seed=9, busy=0.0)
    pages = TINY.pages

    def fill() -> Host:
        for number in range(pages):
            layer, index = divmod(number, 4)
            command = allocate(number % 2, layer % 4, layer // 4, Region.TAIL, index)
            reply = yield from system.command(command)
            assert reply.status == CommandStatus.OK
        for region in Region:
            reply = yield from system.command(allocate(0, 3, 1, region, 5))
            assert reply == Reply(CommandStatus.OUT_OF_PAGES)

    def host() -> Host:
        for sequence in (0, 1):
            yield from system.command(Command(opcode=Opcode.CREATE, sequence=sequence))
        yield from fill()
        assert [p.sequence for p in system.twin.places].count(0) == pages // 2
        for sequence in (0, 1):
            free = Command(opcode=Opcode.FREE, sequence=sequence)
            reply = yield from system.command(free)
            assert reply == Reply(CommandStatus.OK, pages // 2)
            yield from system.command(Command(opcode=Opcode.CREATE, sequence=sequence))
        yield from fill()

    system.run(host)
    check_tables(system)


def test_stale_tables_are_not_usable() -> None:
    """A sequence that was freed and created again starts without pages, as does its neighbour."""
    system = System(mmu(TINY), seed=4, busy=0.0)

    def host() -> Host:
        for sequence in (0, 1):
            yield from system.command(Command(opcode=Opcode.CREATE, sequence=sequence))
        yield from map_cache(system, 0, 1, 0, 32)
        job = yield from system.job(0, 1, 0, 32)
        assert job.status == Status.OK
        yield from system.drain()
        for opcode in (Opcode.FREE, Opcode.CREATE):
            yield from system.command(Command(opcode=opcode, sequence=0))
        # The same pages, to the other sequence, and to another layer of the same one.
        yield from map_cache(system, 1, 1, 0, 16)
        yield from map_cache(system, 0, 2, 0, 16)
        job = yield from system.job(0, 1, 0, 1)
        assert job.status == Status.PAGE_FAULT
        # Nor does a copy of the neighbour's table help.
        for index in range(2):
            theirs = TINY.entry_address(1, 1, 0, Region.TAIL, index)
            mine = TINY.entry_address(0, 1, 0, Region.TAIL, index)
            for table in (system.table.words, system.twin.table):
                table[mine] = table[theirs]
        job = yield from system.job(0, 1, 0, 1)
        assert job.status == Status.PAGE_FAULT
        job = yield from system.job(1, 1, 0, 16)
        assert job.status == Status.OK
        yield from system.drain()

    system.run(host)


def test_a_table_that_cannot_be_written_gives_the_page_back() -> None:
    system = System(mmu(TINY), seed=2)
    command = allocate(0, 0, 0, Region.BASE, 0)

    def host() -> Host:
        yield from system.command(Command(opcode=Opcode.CREATE, sequence=0))
        system.table.refuses = True
        yield from system.command(command, refused=True)
        system.table.refuses = False
        reply = yield from system.command(command)
        assert reply == Reply(CommandStatus.OK, 0)

    system.run(host)


def test_a_table_that_cannot_be_read_is_a_status() -> None:
    system = System(mmu(TINY), seed=3)

    def host() -> Host:
        yield from system.command(Command(opcode=Opcode.CREATE, sequence=0))
        yield from map_cache(system, 0, 0, 0, 32)
        system.table_reads.refuses = lambda address: address % 32 == 16
        for opcode in (Opcode.LOOKUP, Opcode.ALLOCATE):
            command = replace(allocate(0, 0, 0, Region.TAIL, 0), opcode=opcode)
            yield from system.command(command, refused=True)
        yield from system.job(0, 0, 0, 32, unreadable=True)
        system.table_reads.refuses = lambda address: False
        job = yield from system.job(0, 0, 0, 32)
        assert job.status == Status.OK
        yield from system.drain()

    system.run(host)


def test_errors_of_the_memory_pass_through() -> None:
    """The beats that the memory refuses have an error, the others their data."""
    system = System(mmu(TINY), seed=6)
    system.attacks, system.accesses = 0.0, (30, 30)

    def host() -> Host:
        system.pages.refuses = lambda address: address // 16 % 5 == 0
        yield from system.command(Command(opcode=Opcode.CREATE, sequence=0))
        yield from map_cache(system, 0, 0, 0, 32)
        yield from system.job(0, 0, 0, 32)
        yield from system.drain()

    system.run(host)
    assert system.counts["granted"] > 20


def test_a_flood_of_refused_requests_hurts_no_other_job() -> None:
    """Half of the requests are refused; all are answered, and the others get their data."""
    system = System(mmu(TINY), seed=8, busy=0.0)
    system.attacks, system.accesses = 0.5, (60, 60)

    def host() -> Host:
        for sequence in (0, 1):
            yield from system.command(Command(opcode=Opcode.CREATE, sequence=sequence))
            yield from map_cache(system, sequence, 0, 0, 32)
        for number in range(12):
            yield from system.job(number % 2, 0, 0, 32)
        yield from system.drain()

    system.run(host)
    print(system.now, system.counts)
    assert system.counts["refused"] > 300
    assert system.counts["granted"] > 300
