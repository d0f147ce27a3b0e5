"""KvMmu against the twin: random commands, jobs and accesses, and everything that can go wrong."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from amaranth.back import rtlil

from golden.twin.kv_mmu import Command, KvMmuTwin, Reply
from hw.config import preset
from hw.formats import KVFormat, Mode, Status
from hw.memory.kv_mmu.command_share import CommandShare
from hw.memory.kv_mmu.command_unit import CommandUnit
from hw.memory.kv_mmu.config import MmuConfig
from hw.memory.kv_mmu.error_answers import ErrorAnswers
from hw.memory.kv_mmu.formats import CommandStatus, Opcode, Region, pack_entry
from hw.memory.kv_mmu.job_arrival import JobArrival
from hw.memory.kv_mmu.job_gate import JobGate
from hw.memory.kv_mmu.job_rights import JobRights
from hw.memory.kv_mmu.kv_mmu import KvMmu
from hw.memory.kv_mmu.layer_map import LayerMap
from hw.memory.kv_mmu.page_grower import PageGrower
from hw.memory.kv_mmu.page_splitter import PageSplitter
from hw.memory.kv_mmu.region_sizes import RegionSizes
from hw.memory.kv_mmu.table_entry import TableEntry
from hw.memory.kv_mmu.table_walker import TableWalker
from hw.memory.kv_mmu.translator import Translator
from hw.memory.kv_mmu.write_path import WritePath
from hw.tools.sram import SramPlatform
from tb.formal.cone import inputs_of_valid
from tb.formal.mutant import mutant
from tb.harness import elaborate, simulate
from tb.memory.kv_mmu.bench import Host, System

TINY = MmuConfig(attention=preset("tiny"), sequences=3, page_bytes=1024, pages=24)
LM = MmuConfig(attention=preset("lm"), sequences=64, page_bytes=4096, pages=3000)
#: With a core that writes, and so few pages that they run out.
WRITING = replace(TINY, writes=True, staging_bytes=1 << 16)
#: With caches of constant size as well, in the slot area.
SLOTTED = replace(WRITING, attention=replace(TINY.attention, slots=32, slot_caches=32))
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

    def __init__(
        self, system: System, sequences: int, commands: int, jobs: int, damage: float = 0.015
    ) -> None:
        self.system = system
        self.config = system.config
        self.sequences, self.commands, self.jobs = sequences, commands, jobs
        #: Share of the steps that damage a table.
        self.damage = damage
        self.busy_with: int | None = None
        #: Jobs and prompts that ran with a place in the slot area.
        self.placed = 0

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
            alone = self.config.writes or kind > min(0.93, 1 - self.damage)
            while system.walking == sequence or (alone and system.walking is not None):
                yield
            if kind > 1 - self.damage:
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
        region, index = rng.choice((*Region, Region.TAIL)), rng.randrange(3)
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

    def _waits_for(self, sequence: int) -> bool:
        """Return whether a command is about a sequence; with jobs that allocate, about any."""
        busy = self.busy_with
        return busy is not None if self.config.writes else busy in (sequence, -1)

    def _import(self, sequence: int, layer: int, head: int) -> Host:
        """Send a prompt, perhaps one that must be refused."""
        system, rng, core = self.system, self.system.rng, self.config.attention
        first = rng.choice((0, 0, 0, rng.randrange(core.window)))
        tokens, source = rng.choice((1, core.window, 2 * core.window, 3 * core.window)), 0
        fault = rng.random()
        if fault < 0.05:
            layer = core.layers
        elif fault < 0.1:
            head = core.kv_heads
        elif fault < 0.15:
            source = self.config.staging_bytes
        elif fault < 0.2:
            tokens = rng.choice((0, core.max_context + 1))
        mode = Mode.KVO
        if self.config.has_slot_area and fault > 0.6:
            mode = Mode.SLOTS
            tokens = rng.choice((1, core.slots - 1 - first, core.slots - first))
        elif 0.2 < fault < 0.23:
            mode = Mode.SLOTS if not core.slots else Mode.DENSE8
        where = (sequence, layer, head)
        prompt = yield from system.import_prompt(*where, first, tokens, source, mode)
        self.placed += prompt.grant.place is not None

    def jobber(self) -> Host:
        """Send random jobs, not of the sequence that a command is about."""
        system, rng = self.system, self.system.rng
        for _ in range(self.jobs):
            sequence = rng.choice((self._sequence(), self._sequence(), 255))
            while self._waits_for(sequence):
                yield
            layer, head = self._cache()
            context = self._context()
            # A job that can run, more often than not.
            able = self._able()
            if able and rng.random() < 0.7:
                sequence, layer, head, context = rng.choice(able)
                while self._waits_for(sequence):
                    yield
            if self.config.writes and system.prompt is None and rng.random() < 0.3:
                yield from self._import(sequence, layer, head)
                continue
            spoil = rng.choice(SPOILS) if rng.random() < 0.1 else Status.OK
            mode = Mode.KVO
            if self.config.has_slot_area and rng.random() < 0.4:
                mode, context = Mode.SLOTS, rng.choice((1, 7, self.config.attention.slots))
            job = yield from system.job(sequence, layer, head, context, mode, spoil=spoil)
            self.placed += job.grant.place is not None
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


@pytest.mark.parametrize(("config", "run"), [(WRITING, 0), (SLOTTED, 1)], ids=["pages", "slots"])
def test_jobs_and_prompts_that_allocate(config: MmuConfig, run: int) -> None:
    """Pages run out now and then; what one sequence cannot get harms no other."""
    system = System(mmu(config), seed=run, busy=(0.1, 0.5)[run])
    soup = Soup(system, 3, commands=150, jobs=80)
    system.run(*soup.hosts(), cycles=400_000)
    print(system.now, system.counts, system.statuses, soup.placed)
    check_tables(system)
    assert soup.placed > 15 or not config.has_slot_area
    assert {"prompt OK", "NO_SEQUENCE"} <= set(system.statuses)
    assert {"OUT_OF_PAGES", "prompt OUT_OF_PAGES"} & set(system.statuses)
    assert system.counts["granted"] > 30


def test_a_cache_grows_until_there_is_no_page() -> None:
    """Token by token; the job without a page ends so, another sequence goes on, and so can it."""
    system = System(mmu(WRITING), seed=3, busy=0.0)
    core, statuses = WRITING.attention, []

    def host() -> Host:
        for sequence in (0, 1):
            yield from system.command(Command(opcode=Opcode.CREATE, sequence=sequence))
        yield from system.job(1, 0, 0, 1)
        for context in range(1, core.max_context + 1):
            job = yield from system.job(0, 0, 0, context)
            yield from system.drain()
            statuses.append(job.status)
            if job.status != Status.OK:
                break
            if context == core.window:
                # From here on all pages but two are somebody else's.
                yield from system.import_prompt(1, 1, 0, 0, core.window)
                for index in range(system.twin.free_pages - 2):
                    yield from system.command(allocate(1, 2, index // 4, 2, index % 4))
        assert statuses[-1] == Status.OUT_OF_PAGES
        assert len(statuses) > core.window + 1
        assert system.twin.free_pages == 0
        other = yield from system.job(1, 0, 0, 2)
        assert other.status == Status.OK
        yield from system.drain()
        yield from system.command(Command(opcode=Opcode.FREE, sequence=1))
        again = yield from system.job(0, 0, 0, len(statuses))
        assert again.status == Status.OK
        yield from system.drain()

    system.run(host)
    check_tables(system)


def test_a_place_in_the_slot_area_takes_no_page() -> None:
    """Not one is free, and no table is read; three cycles from the system's job to the core's."""
    system = System(mmu(SLOTTED), seed=5, busy=0.0)
    system.accesses = (8, 8)
    core, moved = SLOTTED.attention, dict[str, list[int]](job=[], core_job=[])

    def watch() -> None:
        for name, cycles in moved.items():
            if system.pins.moved(name) is not None:
                cycles.append(system.now)

    def host() -> Host:
        for sequence in (0, 2):
            yield from system.command(Command(opcode=Opcode.CREATE, sequence=sequence))
        for index in range(SLOTTED.pages):
            yield from system.command(allocate(0, index // 8, 0, Region.TAIL, index % 8))
        assert system.twin.free_pages == 0
        entries = len(system.table_reads.requests)
        system.on_cycle = watch
        # Every place of a sequence, the last one of the next sequence, and one without a sequence.
        for layer, head in itertools.product(range(core.layers), range(core.kv_heads)):
            job = yield from system.job(2, layer, head, core.slots, Mode.SLOTS)
            assert job.status == Status.OK
        job = yield from system.job(0, core.layers - 1, 1, 1, Mode.SLOTS)
        assert job.status == Status.OK
        job = yield from system.job(1, 0, 0, 1, Mode.SLOTS)
        assert job.status == Status.NO_SEQUENCE
        job = yield from system.job(0, 0, 1, 1)
        assert job.status == Status.OUT_OF_PAGES
        # The layer map holds for places, too.
        yield from system.drain()
        yield from system.command(Command(opcode=Opcode.SET_LAYER, layer=3, index=1))
        job = yield from system.job(2, 3, 1, 9, Mode.SLOTS)
        assert job.grant.place == SLOTTED.place_address(2, 1, 1)
        assert len(system.table_reads.requests) == entries + 1
        yield from system.command(Command(opcode=Opcode.FREE, sequence=0))
        yield from system.drain()

    system.run(host)
    assert system.counts["granted"] > 40
    took = [to - at for at, to in zip(moved["job"], moved["core_job"], strict=True)]
    assert took[:8] == [3] * 8


def test_jobs_of_one_cache_follow_each_other() -> None:
    """The second job reaches the core when the first one has ended; so does one behind a prompt."""
    system = System(mmu(WRITING), seed=4, busy=0.0)
    system.accesses = (6, 12)

    def host() -> Host:
        yield from system.command(Command(opcode=Opcode.CREATE, sequence=0))
        for context in (1, 2, 3):
            yield from system.job(0, 0, 0, context)
            assert len(system.running) == 1
        # Another cache does not wait.
        yield from system.job(0, 1, 0, 1)
        assert len(system.running) == 2
        yield from system.drain()
        yield from system.import_prompt(0, 2, 0, 0, 5)
        assert len(system.caches) == 1
        yield from system.job(0, 2, 0, 6)
        # The prompt has ended by now, or the two would share a cache.
        assert len(system.caches) == 1
        yield from system.drain()

    system.run(host)


@pytest.mark.slow
def test_random_runs_reach_every_status() -> None:
    system = System(mmu(TINY), seed=1, busy=0.2)
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


def test_requests_pass_every_cycle() -> None:
    """A request per cycle, 4 cycles after it came; an answer 1 cycle after it came."""
    system = System(mmu(TINY), seed=1, busy=0.0)
    seen: dict[str, list[int]] = {"core": [], "memory": [], "answers": [], "responses": []}

    def host() -> Host:
        yield from system.command(Command(opcode=Opcode.CREATE, sequence=0))
        yield from map_cache(system, 0, 0, 0, 32)
        system.attacks, system.accesses, system.bursts = 0.0, (16, 16), 1
        system.writes = 0.0
        system.pages.latency = range(20, 21)
        system.on_cycle = watch
        yield from system.job(0, 0, 0, 32)
        yield from system.drain()

    def watch() -> None:
        ports = {
            "core": "core__request",
            "memory": "memory__request",
            "answers": "memory__response",
            "responses": "core__response",
        }
        for name, port in ports.items():
            if system.pins.moved(port) is not None:
                seen[name].append(system.now)

    system.run(host)
    assert len(seen["core"]) == 16
    assert seen["core"] == list(range(seen["core"][0], seen["core"][0] + 16))
    assert seen["memory"] == [cycle + 4 for cycle in seen["core"]]
    assert seen["responses"] == [cycle + 1 for cycle in seen["answers"]]


@pytest.mark.parametrize(
    ("config", "context"),
    [(TINY, 96), (replace(LM, page_bytes=1024), 1024)],
    ids=["tiny", "lm"],
)
def test_a_walk_hides_behind_the_data(config: MmuConfig, context: int) -> None:
    """With 100 cycles of latency, a job is ready long before the one before it is done."""
    system = System(mmu(config), seed=1, busy=0.0)
    system.attacks, system.accesses = 0.0, (0, 0)
    took = []

    def host() -> Host:
        yield from system.command(Command(opcode=Opcode.CREATE, sequence=0))
        yield from map_cache(system, 0, 0, 0, context)
        system.table_reads.latency = range(100, 101)
        before = len(system.table_reads.requests)
        start = system.now
        job = yield from system.job(0, 0, 0, context)
        assert job.status == Status.OK
        took.append(system.now - start)
        took.append(len(system.table_reads.requests) - before)
        yield from system.drain()

    system.run(host)
    pages = config.pages_of(context)
    traffic = sum(KVFormat(config.attention).traffic_bytes(context).values()) // 16
    print(f"{sum(pages.values())} pages in {took[1]} requests, {took[0]} cycles of {traffic}")
    requests = sum(-(-number // 128) for number in pages.values())
    assert took[1] == requests
    # Per request its latency, four entries a beat, one entry a cycle, and a few cycles more.
    entries = sum(pages.values())
    assert took[0] <= requests * (100 + 14) + 2 * entries + 24
    assert config is TINY or took[0] < traffic


#: What goes wrong, and the fault as a change of the source of a unit of the MMU.
FAULTS: dict[str, tuple[Any, str, str]] = {
    "every error beat is the first": (ErrorAnswers, "Mux(self.refused.ready, 0, beat + 1)", "0"),
    "the second part keeps its numbers": (PageSplitter, "kept.data, 0)", "0, 0)"),
    "the second part goes on in the first page": (PageSplitter, "shift:] + 1)", "shift:] + 0)"),
    "entries are not checked": (TableWalker, "~(claimed & self.match)", "~claimed"),
    "a fault of a page is forgotten": (TableWalker, "m.d.sync += fault.eq(1)", "pass"),
    "refused beats are written": (
        WritePath,
        "current.valid & current.payload.passes",
        "current.valid",
    ),
    "a refused half is forgotten": (
        WritePath,
        "payload.error.eq(error | failed.bit_select(tag, 1))",
        "payload.error.eq(error)",
    ),
    "the other page's entry is written": (TableEntry, "BURST_BEATS - beat,", "1 + beat,"),
    "a job of another layer": (LayerMap, "Mux(mapped.bit_select", "Mux(~mapped.bit_select"),
    "the status of the job before": (
        JobRights,
        "done_status.eq(statuses[oldest])",
        "done_status.eq(statuses[newest])",
    ),
    "a command of another head": (CommandUnit, "command.kv_head),", "~command.kv_head),"),
}


def put_in(monkeypatch: pytest.MonkeyPatch, unit: Any, faulty: Any) -> None:
    """Put a faulty unit where the MMU, or a part of it, takes it from."""
    if unit is JobRights:
        monkeypatch.setattr(JobGate, "rights", faulty)
        return
    modules = {LayerMap: "job_gate", JobArrival: "job_gate", RegionSizes: "job_pages"}
    module = (modules | {Translator: "shared_translator"}).get(unit, "kv_mmu")
    monkeypatch.setattr(f"hw.memory.kv_mmu.{module}.{unit.__name__}", faulty)


#: The same of a core that writes.
WRITING_FAULTS: dict[str, tuple[Any, str, str]] = {
    "a job that finds no page runs": (
        PageGrower,
        "self.result.payload.eq(1)",
        "self.result.payload.eq(0)",
    ),
    "one page too few": (PageGrower, "index < asked.end", "index + 1 < asked.end"),
    "jobs of one cache do not wait": (JobRights, "held & (cache == self.cache)", "0"),
    "a window closes without pages": (RegionSizes, "1 + with_next", "1"),
    "a prompt from anywhere": (JobArrival, "with m.If(wrong)", "with m.If(0)"),
    "the host gets a job's page": (CommandShare, "& ~owner", "& 1"),
}


#: The same of the slot area.
SLOT_FAULTS: dict[str, tuple[Any, str, str]] = {
    "the place of the cache of the request behind": (
        Translator,
        "caches[1], seq",
        "caches[0], seq",
    ),
    "a place with a page too many": (
        JobGate,
        "eq(config.slot_area.pages)",
        "eq(config.slot_area.pages + 1)",
    ),
    "places of the layer that is asked for": (
        JobGate,
        "Cat(asked.place.kv_head, asked.place.layer,",
        "Cat(asked.place.kv_head, job.layer[: config.layer_bits],",
    ),
    "a job that waits for its cache has none": (
        JobRights,
        "direct.eq(self.direct)",
        "direct.eq(0)",
    ),
    "all jobs have a place": (JobGate, "direct = job.mode == Mode.SLOTS", "direct = Const(1)"),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", SLOT_FAULTS)
def test_the_twin_finds_faults_of_the_slot_area(
    fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit, old, new = SLOT_FAULTS[fault]
    put_in(monkeypatch, unit, mutant(unit, old, new))
    system = System(KvMmu(SLOTTED), seed=7, busy=0.1)
    with pytest.raises((AssertionError, KeyError, IndexError)) as found:
        system.run(*Soup(system, 3, commands=250, jobs=100).hosts(), cycles=30_000)
    print(f"{fault}: {str(found.value)[:200]}")


@pytest.mark.slow
@pytest.mark.parametrize("fault", WRITING_FAULTS)
def test_the_twin_finds_faults_of_growth(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    unit, old, new = WRITING_FAULTS[fault]
    put_in(monkeypatch, unit, mutant(unit, old, new))
    system = System(KvMmu(WRITING), seed=7, busy=0.1)
    with pytest.raises((AssertionError, KeyError, IndexError)) as found:
        system.run(*Soup(system, 3, commands=250, jobs=100).hosts(), cycles=30_000)
    print(f"{fault}: {str(found.value)[:200]}")


@pytest.mark.parametrize("fault", FAULTS)
def test_the_twin_finds_faults(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: a short random run with a faulty unit does not pass."""
    unit, old, new = FAULTS[fault]
    put_in(monkeypatch, unit, mutant(unit, old, new))
    system = System(KvMmu(TINY), seed=1, busy=0.1)
    with pytest.raises((AssertionError, KeyError, IndexError)) as found:
        system.run(*Soup(system, 3, commands=250, jobs=60, damage=0.07).hosts(), cycles=20_000)
    print(f"{fault}: {str(found.value)[:200]}")


def test_emitted_memories_have_wrappers() -> None:
    """Every memory has one write and one read port, and nothing in it at the start."""
    text = rtlil.convert(KvMmu(TINY), platform=SramPlatform(64), emit_src=False)
    assert text.count("kvforge_sram_1r1w") >= 4


@pytest.mark.slow
def test_emitted_verilog() -> None:
    """The same, in Verilog: commands that need no memory, with stalls and a reset."""
    commands = [Command(opcode=Opcode.CREATE, sequence=s) for s in (0, 2, 2, 3)]
    commands += [Command(opcode=Opcode.FREE, sequence=s) for s in (1, 2, 2)]
    commands += [Command(opcode=9), allocate(0, 9, 0, 0, 0), allocate(1, 0, 0, 0, 0)]
    twin = KvMmuTwin(TINY)
    expected = [twin.command(command) for command in commands]
    component = mmu(TINY)
    design = elaborate(component, "kv_mmu")
    names = design.stream_names(is_input=True)
    sources: dict[str, list[int]] = {name: [] for name in names}
    outputs = dict.fromkeys(design.stream_names(is_input=False), 0)
    run = simulate(
        component,
        name="kv_mmu",
        inputs=sources | {"command": [command.pack() for command in commands]},
        outputs=outputs | {"reply": len(expected)},
        stall=0.3,
        reset_at=60,
    )
    assert [Reply.unpack(reply) for reply in run.outputs["reply"]] == expected


def test_no_stream_waits_for_ready() -> None:
    """What an output stream offers does not depend on any ready in the same cycle."""
    found = inputs_of_valid(KvMmu(TINY))
    assert len(found) >= 11
    waits = {
        name: sorted(signal for signal in inputs if signal.endswith("__ready"))
        for name, inputs in found.items()
    }
    assert not any(waits.values()), waits


@pytest.mark.slow
def test_a_stream_that_waits_for_ready_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    faulty = mutant(JobGate, "ended.valid.eq(done.valid)", "ended.valid.eq(done.ready)")
    monkeypatch.setattr("hw.memory.kv_mmu.kv_mmu.JobGate", faulty)
    assert "completion__ready" in inputs_of_valid(KvMmu(TINY))["completion__valid"]


def test_a_walk_of_several_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """With eight entries a request, as a region of more than 128 pages has with 128."""
    monkeypatch.setattr("hw.memory.kv_mmu.table_walker.REQUEST_ENTRIES", 8)
    system = System(KvMmu(TINY), seed=1)
    system.accesses = (20, 20)

    def host() -> Host:
        yield from system.command(Command(opcode=Opcode.CREATE, sequence=0))
        yield from map_cache(system, 0, 0, 0, 160, Mode.DENSE16)
        for context in (64, 65, 160):
            job = yield from system.job(0, 0, 0, context, Mode.DENSE16)
            assert job.status == Status.OK
        # One page short, in the last request.
        job = yield from system.job(0, 0, 0, 161, Mode.DENSE16)
        assert job.status == Status.PAGE_FAULT
        yield from system.drain()

    system.run(host)
    # A reading per command, then 8, 8 + 1, 8 + 8 + 4 and 8 + 8 + 5 entries.
    sizes = [request.bursts for request in system.table_reads.requests]
    assert len(sizes) == TINY.pages_of(160, Mode.DENSE16)[Region.TAIL] + 1 + 2 + 3 + 3
