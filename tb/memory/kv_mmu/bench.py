"""The KV-MMU between a host, a model of a core and a model of the memory, cycle by cycle.

Everything that can be random is: stalls on every stream, the order and the delay of every beat,
what the core asks for. Every answer is compared with the twin.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any

from amaranth.sim import Simulator

from golden.twin.kv_mmu import Command, Grant, KvMmuTwin, Reply
from hw.config import BURST_BYTES
from hw.cores.prompt_import import IMPORTED, PROMPT
from hw.formats import KVFormat, Mode, Status, modes
from hw.memory.kv_mmu.config import MmuConfig
from hw.memory.kv_mmu.formats import (
    OFFSET_BITS,
    REGION_BITS,
    SLOT_BITS,
    CommandStatus,
    Region,
    Violation,
    system_job_fields,
    virtual_address,
)
from hw.memory.kv_mmu.kv_mmu import KvMmu
from hw.memory.kv_mmu.ports import SYSTEM_PROMPT, WRITE_TAG_BITS, system_job_layout
from hw.memory.port import port_request
from tb.harness import pack, unpack
from tb.memory.kv_mmu.memory_model import (
    BEAT_BYTES,
    BURST_BEATS,
    ReadModel,
    Request,
    TableModel,
    page_contents,
    written_contents,
)
from tb.memory.kv_mmu.pins import Pins

Host = Generator[None, None, None]
#: The streams of the MMU that may have to wait.
OUTPUTS = (
    "reply",
    "core_job",
    "completion",
    "memory__request",
    "table__request",
    "table_write__request",
    "table_write__data",
    "memory_write__request",
    "memory_write__data",
)
#: Of a core that writes, too.
PROMPT_OUTPUTS = ("core_prompt", "imported")


@dataclass
class Running:
    """A job in the core, or a prompt, whose ``job_id`` is the number of its tokens."""

    job_id: int
    grant: Grant
    status: Status
    core_status: Status
    #: Accesses that it has still to make, and that are on their way.
    accesses: int
    outstanding: int = 0
    failed: bool = False
    ending: bool = False
    #: Of a core that writes: the cache, unless it was refused.
    cache: tuple[int, int, int] | None = None


@dataclass
class Asked:
    """A request of the core: what each of its beats must be, and those that have come."""

    job: Running
    beats: list[tuple[int, int]]
    come: set[int] = field(default_factory=set)


class System:
    """Runs an MMU with its surroundings.

    Parameters
    ----------
    mmu
    seed
        Of everything random.
    """

    def __init__(self, mmu: KvMmu, *, seed: int, busy: float = 0.3) -> None:
        self.config: MmuConfig = mmu.config
        self.mmu = mmu
        self.rng = random.Random(seed)
        self.busy = busy
        self.table = TableModel(self.rng, tag_bits=1, busy=busy)
        self.page_writes = TableModel(self.rng, tag_bits=WRITE_TAG_BITS + 1, busy=busy)
        self.written: dict[int, int] = {}
        self.now = 0
        #: Share of the core's accesses that are not legal.
        self.attacks = 0.3
        self.accesses = (0, 12)
        #: Most bursts of an access, and the share of accesses that write.
        self.bursts, self.writes = 16, 0.3
        #: Called in every cycle, once the pins are known.
        self.on_cycle: Callable[[], None] = lambda: None
        #: The sequence whose job is on its way to the core, and the one whose jobs may not end.
        self.walking: int | None = None
        self.held: int | None = None
        self.counts = dict.fromkeys(
            ("jobs", "granted", "refused", "split", "commands", "writes"), 0
        )
        self.statuses: dict[str, int] = {}
        self._reset_models()
        self.twin = KvMmuTwin(self.config)

    def _reset_models(self) -> None:
        self.pages = ReadModel(self.rng, page_contents, self.busy)
        self.table_reads = ReadModel(self.rng, self.table.contents, self.busy)
        self.table.forget()
        self._commands: deque[int] = deque()
        self._replies: deque[int] = deque()
        self._jobs: deque[int] = deque()
        self._core_jobs: deque[int] = deque()
        self._completions: deque[int] = deque()
        self._done: deque[int] = deque()
        self.running: deque[Running] = deque()
        self._prompts: deque[int] = deque()
        self._core_prompts: deque[int] = deque()
        self._imported: deque[int] = deque()
        self._done_prompts: deque[int] = deque()
        self.prompt: Running | None = None
        self._slots: dict[int, Running] = {}
        self._asked: dict[int, Asked] = {}
        self._writes: dict[int, tuple[Running, bool]] = {}
        self._write_requests: deque[int] = deque()
        self._write_data: deque[int] = deque()
        self.page_writes.forget()
        self._request: tuple[int, int, int] | None = None
        self._newest = 0
        self.first_violations: dict[bool, tuple[Violation, int, int | None]] = {}
        self._offered: dict[str, int] = {}
        self._waiting: dict[str, int] = {}
        self.walking, self.held = None, None
        self._job_id = 0
        self._started = self.now

    # --- the host -------------------------------------------------------------------------------

    def command(self, command: Command, *, refused: bool = False) -> Generator[None, None, Reply]:
        """Send a command, wait for its reply, and compare it with the twin's.

        ``refused`` says that the memory refuses the access to the table, which changes nothing.
        """
        self._commands.append(command.pack())
        while not self._replies:
            yield
        got = Reply.unpack(self._replies.popleft())
        expected = Reply(CommandStatus.TABLE_ERROR) if refused else self.twin.command(command)
        assert got == expected, (command, got, expected)
        self.counts["commands"] += 1
        self.statuses[got.status.name] = self.statuses.get(got.status.name, 0) + 1
        if self.now - self._started > self.config.pages + 2:
            assert self.pins.get("free_pages") == self.twin.free_pages
        return got

    def job(
        self,
        sequence: int,
        layer: int,
        kv_head: int,
        context: int,
        mode: Mode = Mode.KVO,
        *,
        spoil: Status = Status.OK,
        unreadable: bool = False,
    ) -> Generator[None, None, Running]:
        """Send a job and wait until the core gets it, checked; it runs on by itself.

        ``spoil`` makes the core refuse it; ``unreadable`` says that the memory refuses the table.
        """
        self._job_id = (self._job_id + 1) % (1 << 16)
        core = self.config.attention
        longest = core.slots if mode == Mode.SLOTS else core.max_context
        numbers = dict.fromkeys(system_job_fields(core), 0) | {
            "job_id": self._job_id,
            "config_hash": core.config_hash ^ (spoil == Status.CONFIG_MISMATCH),
            "layer": core.layers if spoil == Status.LAYER_RANGE else layer,
            "kv_head": core.kv_heads if spoil == Status.HEAD_RANGE else kv_head,
            "mode": max(modes(core)) + 1 if spoil == Status.MODE_RANGE else mode,
            "context": longest + 1 if spoil == Status.CONTEXT_RANGE else context,
            "sequence": sequence,
            "value_scale": self.rng.getrandbits(16),
            "query_scale": self.rng.getrandbits(16 * core.rows),
        }
        self.walking = sequence
        self._jobs.append(pack(system_job_layout(self.config), numbers))
        while not self._core_jobs:
            yield
        nothing = Grant(sequence, dict.fromkeys(Region, ()))
        if spoil != Status.OK:
            # The core refuses it, so it gets no pages.
            self.twin.begin(sequence)
            status, grant = Status.OK, nothing
        else:
            status, grant = self.twin.start_job(sequence, layer, kv_head, context, mode)
        if unreadable:
            status, grant = Status.PAGE_FAULT, nothing
        got = unpack(self.mmu.core_job.payload.shape(), self._core_jobs.popleft())
        runs = status == Status.OK == spoil
        slot = self._newest
        self._newest = (slot + 1) % core.jobs_in_flight
        expected = {k: v for k, v in numbers.items() if k != "sequence"}
        for name, region in zip(("base", "chunk", "tail"), Region, strict=True):
            expected[f"{name}_address"] = virtual_address(slot, region) if runs else 1
        if runs and mode == Mode.SLOTS:
            number = self.config.cache_number(sequence, self.twin.layer(layer), kv_head)
            expected["chunk_address"] = number
        assert got == expected, (got, expected, status)
        core_status = spoil
        if spoil == Status.OK and not runs:
            core_status = Status.ADDRESS_RANGE
        final = status if spoil == Status.OK else spoil
        running = Running(
            self._job_id,
            grant,
            final,
            core_status,
            self.rng.randint(*self.accesses) if runs else 0,
        )
        if runs and self.config.writes:
            self._share(running, sequence, layer, kv_head)
        self.running.append(running)
        self._slots[slot] = running
        self.statuses[final.name] = self.statuses.get(final.name, 0) + 1
        self.walking = None
        return running

    def import_prompt(
        self,
        sequence: int,
        layer: int,
        kv_head: int,
        first: int,
        tokens: int,
        source: int = 0,
        mode: Mode = Mode.KVO,
    ) -> Generator[None, None, Running]:
        """Send a prompt and wait until the core gets it, checked; it runs on by itself."""
        config, core = self.config, self.config.attention
        fields = {
            "source_address": source,
            "sequence": sequence,
            "layer": layer,
            "kv_head": kv_head,
            "first": first,
            "tokens": tokens,
            "mode": mode,
        }
        self.walking = sequence
        self._prompts.append(pack(SYSTEM_PROMPT, fields))
        while not self._core_prompts:
            yield
        in_slots = mode == Mode.SLOTS and core.slots > 0
        unknown = mode != Mode.KVO and not in_slots
        longest = core.slots - 1 if in_slots else core.max_context
        refused = Status.MODE_RANGE if unknown else Status.OK
        if refused == Status.OK and (tokens == 0 or first + tokens > longest):
            refused = Status.CONTEXT_RANGE
        faults = {
            Status.LAYER_RANGE: layer >= core.layers,
            Status.HEAD_RANGE: kv_head >= core.kv_heads,
            Status.ADDRESS_RANGE: source + tokens * KVFormat(core).prompt_record_bytes
            > config.staging_bytes,
        }
        wrong = [status for status, applies in faults.items() if applies]
        nothing = Grant(sequence, dict.fromkeys(Region, ()))
        if refused != Status.OK or wrong:
            self.twin.begin(sequence)
            status, grant = wrong[0] if wrong else Status.OK, nothing
        else:
            status, grant = self.twin.start_prompt(sequence, layer, kv_head, first, tokens, mode)
        got = unpack(PROMPT, self._core_prompts.popleft())
        runs = status == Status.OK == refused
        slot = core.jobs_in_flight
        expected = {"first": first, "tokens": tokens, "mode": mode}
        expected["source_address"] = config.staging_address + source
        for name, region in zip(("base", "chunk", "tail"), Region, strict=True):
            expected[f"{name}_address"] = virtual_address(slot, region) if runs else 1
        assert got == expected, (got, expected, status)
        core_status = Status.OK if runs else Status.ADDRESS_RANGE
        if refused != Status.OK:
            core_status = status = refused
        accesses = self.rng.randint(*self.accesses) if runs else 0
        running = Running(tokens, grant, status, core_status, accesses)
        if runs:
            self._share(running, sequence, layer, kv_head)
        self.prompt = self._slots[slot] = running
        self.statuses[f"prompt {status.name}"] = self.statuses.get(f"prompt {status.name}", 0) + 1
        self.walking = None
        return running

    @property
    def caches(self) -> list[tuple[int, int, int]]:
        """The caches that jobs and prompts in flight write."""
        return [job.cache for job in (*self.running, self.prompt) if job and job.cache]

    def _share(self, running: Running, sequence: int, layer: int, kv_head: int) -> None:
        """Nobody else may have the cache of a job or a prompt that begins."""
        running.cache = (sequence, self.twin.layer(layer), kv_head)
        assert running.cache not in self.caches, running

    def hold(self, sequence: int) -> Host:
        """Let no job of ``sequence`` end from now on."""
        while self._done or "core_completion" in self._offered:
            yield
        self.held = sequence

    def drain(self) -> Host:
        """Wait until every job is over; the first violation must be on record then."""
        while self.running or self.prompt:
            yield
        got = self.pins.get_fields("violation")
        firsts = list(self.first_violations.values()) or [(Violation.NONE, 0, None)]
        kinds = [(kind, address) for kind, address, _ in firsts]
        assert (got["kind"], got["address"]) in kinds
        sequence = firsts[kinds.index((Violation(got["kind"]), got["address"]))][2]
        assert sequence is None or got["sequence"] == sequence

    # --- the core -------------------------------------------------------------------------------

    def _core_step(self) -> None:
        """Perhaps make a request; perhaps end the oldest job."""
        rng = self.rng
        if self._request is None and rng.random() > self.busy:
            jobs = [(s, j) for s, j in self._slots.items() if j.accesses]
            tags = [t for t in range(self.config.attention.memory_tags) if t not in self._asked]
            if jobs and tags:
                slot, job = rng.choice(jobs)
                tag = rng.choice(tags)
                address, bursts = self._address(slot, job), rng.randint(1, self.bursts)
                job.accesses -= 1
                job.outstanding += 1
                if rng.random() < self.writes and self._write(job, address, bursts):
                    return
                self._asked[tag] = Asked(job, self._expect(address, bursts))
                self._request = (address, bursts, tag)
        prompt = self.prompt
        over = prompt and not (prompt.accesses or prompt.outstanding or prompt.ending)
        if prompt and over and rng.random() < 0.02:
            prompt.ending = True
            status = Status.MEMORY_ERROR if prompt.failed else prompt.core_status
            self._done_prompts.append(pack(IMPORTED, {"status": status, "tokens": prompt.job_id}))
        ending = self._done or "core_completion" in self._offered
        if self.running and not ending and self.running[0].grant.sequence != self.held:
            oldest = self.running[0]
            if not oldest.accesses and not oldest.outstanding and rng.random() < 0.05:
                status = oldest.core_status
                if oldest.failed:
                    status = Status.MEMORY_ERROR
                self._done.append(oldest.job_id | status << 16)

    def _address(self, slot: int, job: Running) -> int:
        """A virtual address of the job, in its bounds or not."""
        rng = self.rng
        size = self.config.page_bytes
        if rng.random() >= self.attacks:
            region = rng.choice([r for r in Region if self.twin.limit(job.grant, r)])
            end = self.twin.limit(job.grant, region) * size
            # Often near the end of a page.
            place = rng.choice((rng.randrange(end), rng.randrange(end) // size * size + size - 256))
            return virtual_address(slot, region, place // BURST_BYTES * BURST_BYTES)
        # A slot that does not exist, the job's own, or one whose job is over. A free slot may get a
        # job while the request waits, so it has to be the one whose turn comes last.
        slots, jobs = self.config.attention.jobs_in_flight, len(self.running)
        others = [slot, *range(self.config.slots, 1 << SLOT_BITS)]
        if jobs <= slots - 3:
            others.append((self._newest + slots - 1 - jobs) % slots)
        region_number = rng.randrange(1 << REGION_BITS)
        offset = rng.choice((rng.getrandbits(16), rng.getrandbits(OFFSET_BITS))) & -BURST_BYTES
        slot = rng.choice(others)
        return (slot << REGION_BITS | region_number) << OFFSET_BITS | offset

    def _write(self, job: Running, address: int, bursts: int) -> bool:
        """Begin a write of ``job``, if a tag of the writer is free and nothing waits to be sent."""
        tags = [tag for tag in range(1 << WRITE_TAG_BITS) if tag not in self._writes]
        if not tags or self._write_requests or "request" in self._offered:
            return False
        tag = self.rng.choice(tags)
        fields = {"address": address, "bursts_less_one": bursts - 1, "tag": tag}
        self._write_requests.append(pack(port_request(WRITE_TAG_BITS), fields))
        failed = False
        for place in self._places(address, bursts, writes=True):
            data = 0
            if place is None:
                failed = True
            else:
                data = written_contents(place)
                for lane in range(4):
                    self.written[place + 4 * lane] = data >> 32 * lane & 0xFFFFFFFF
            self._write_data.append(data | 0xFFFF << 128)
        self._writes[tag] = (job, failed)
        self.counts["writes"] += 1
        return True

    def _written(self, tag: int, error: int) -> None:
        """Check the end of a write."""
        job, failed = self._writes.pop(tag)
        assert error == failed, (tag, error, job)
        job.outstanding -= 1

    def _expect(self, address: int, bursts: int) -> list[tuple[int, int]]:
        """Data and error of every beat; data of errors are not looked at."""
        return [
            (0, 1) if place is None else (page_contents(place), int(self.pages.refuses(place)))
            for place in self._places(address, bursts)
        ]

    def _places(self, address: int, bursts: int, *, writes: bool = False) -> list[int | None]:
        """The physical address of every beat of an access; None where it is refused."""
        size = self.config.page_bytes
        room = (size - address % size) // BURST_BYTES
        parts = [(address, min(room, bursts))]
        if bursts > room:
            parts.append(((address + size) // size * size % (1 << 32), bursts - room))
            self.counts["split"] += 1
        places: list[int | None] = []
        for start, length in parts:
            running = self._slots.get(start >> (OFFSET_BITS + REGION_BITS))
            nothing = Grant(0, dict.fromkeys(Region, ()))
            result = self.twin.access(running.grant if running else nothing, start, length)
            count = length * BURST_BEATS
            if isinstance(result, Violation):
                self.counts["refused"] += 1
                sequence = running.grant.sequence if running else None
                self._note_violation(result, start, sequence, writes)
                places += [None] * count
            else:
                self.counts["granted"] += 1
                places += [result + BEAT_BYTES * i for i in range(count)]
        return places

    def _note_violation(
        self, kind: Violation, address: int, sequence: int | None, writes: bool
    ) -> None:
        """Keep the first violation of the reads, and of the writes: either may be the first."""
        self.first_violations.setdefault(writes, (kind, address, sequence))

    def _response(self, beat: dict[str, Any]) -> None:
        """Check a beat that came to the core."""
        asked = self._asked[beat["tag"]]
        number = beat["beat"]
        assert number not in asked.come, "a beat came twice"
        data, error = asked.beats[number]
        assert beat["error"] == error, (beat, asked)
        assert error or beat["data"] == data, (beat, asked)
        asked.job.failed |= bool(error)
        asked.come.add(number)
        if len(asked.come) == len(asked.beats):
            asked.job.outstanding -= 1
            del self._asked[beat["tag"]]

    # --- a cycle --------------------------------------------------------------------------------

    def run(self, *hosts: Any, cycles: int = 200_000, reset_at: int | None = None) -> int:
        """Run hosts (functions that make generators) to their ends; the cycles that it took.

        With ``reset_at`` everything is reset in that cycle, and the hosts start again.
        """
        pins = self.pins = Pins(self.mmu)

        async def bench(context: Any) -> None:
            active = [host() for host in hosts]
            for cycle in range(cycles):
                self.now = cycle
                if cycle == reset_at:
                    context.set(pins.reset, 1)
                    await context.tick()
                    context.set(pins.reset, 0)
                    self._reset_models()
                    self.twin = KvMmuTwin(self.config)
                    # What is left in the memory from before is the twin's, too.
                    self.twin.table = dict(self.table.words)
                    active = [host() for host in hosts]
                left = []
                for host in active:
                    try:
                        next(host)
                        left.append(host)
                    except StopIteration:
                        pass
                active = left
                self._cycle(context)
                await context.tick()
                if not active:
                    self.cycles = cycle
                    return
            raise AssertionError(f"not done after {cycles} cycles")

        simulator = Simulator(pins.top)
        simulator.add_clock(1e-6)
        simulator.add_testbench(bench)
        simulator.run()
        assert reset_at is not None or self.page_writes.words == self.written
        return self.cycles

    def _cycle(self, context: Any) -> None:
        pins, rng = self.pins, self.rng
        self._core_step()
        of_prompts = (
            {"prompt": self._prompts, "core_imported": self._done_prompts}
            if self.config.writes
            else {}
        )
        offers = {
            "command": self._commands,
            "job": self._jobs,
            "core_completion": self._done,
            **of_prompts,
            "writer__request": self._write_requests,
            "writer__data": self._write_data,
        }
        for name, queue in offers.items():
            # At random, but for good.
            if name not in self._offered and queue and rng.random() >= self.busy:
                self._offered[name] = queue.popleft()
            pins.offer(name, self._offered.get(name))
        pins.set("core__request__valid", self._request is not None)
        if self._request is not None:
            address, bursts, tag = self._request
            fields = {"address": address, "bursts_less_one": bursts - 1, "tag": tag}
            pins.set_fields("core__request__payload", fields)
        takes = {
            "reply": self._replies,
            "core_job": self._core_jobs,
            "completion": self._completions,
        }
        if self.config.writes:
            takes |= {"core_prompt": self._core_prompts, "imported": self._imported}
        for name in takes:
            pins.set(f"{name}__ready", rng.random() >= self.busy)
        pins.set("core__response__ready", 1)
        pins.set("writer__written__ready", 1)
        reads = {"memory": self.pages, "table": self.table_reads}
        for name, model in reads.items():
            pins.set(f"{name}__request__ready", model.ready())
            beat = model.answer(self.now)
            pins.set(f"{name}__response__valid", beat is not None)
            if beat is not None:
                pins.set_fields(f"{name}__response__payload", vars(beat))
        stores = {"table_write": self.table, "memory_write": self.page_writes}
        for name, words in stores.items():
            pins.set(f"{name}__request__ready", words.ready())
            pins.set(f"{name}__data__ready", words.ready())
            pins.offer(f"{name}__written", words.written(self.now))
        pins.exchange(context)
        self._check_streams()
        self.on_cycle()

        # What moves in this cycle.
        for name in offers:
            if pins.moved(name) is not None:
                del self._offered[name]
        if pins.moved("core__request") is not None:
            self._request = None
        for name, queue in takes.items():
            payload = pins.moved(name)
            if payload is not None:
                queue.append(payload)
        for name, model in reads.items():
            if pins.moved(f"{name}__request") is not None:
                model.take(self._request_at(name), self.now)
            assert pins.get(f"{name}__response__ready")
        for name, words in stores.items():
            if pins.moved(f"{name}__request") is not None:
                words.take(self._request_at(name))
            payload = pins.moved(f"{name}__data")
            if payload is not None:
                words.take_beat(payload & ((1 << 128) - 1), payload >> 128, self.now)
        if pins.moved("writer__written") is not None:
            ended = pins.get_fields("writer__written__payload")
            self._written(ended["tag"], ended["error"])
        if pins.moved("core__response") is not None:
            self._response(pins.get_fields("core__response__payload"))
        while self._completions:
            self._complete(self._completions.popleft())
        if self._imported:
            self._end_prompt(self._imported.popleft())

    def _check_streams(self) -> None:
        """Check that what was offered and not taken is still offered."""
        pins = self.pins
        waiting = {}
        for name in (*OUTPUTS, *(PROMPT_OUTPUTS if self.config.writes else ())):
            offered = None
            if pins.get(f"{name}__valid"):
                offered = pins.get(f"{name}__payload")
            if name in self._waiting:
                assert offered == self._waiting[name], f"{name} did not stay"
            if offered is not None and not pins.get(f"{name}__ready"):
                waiting[name] = offered
        self._waiting = waiting

    def _request_at(self, port: str) -> Request:
        """The request that a port makes."""
        fields = self.pins.get_fields(f"{port}__request__payload")
        return Request(fields["address"], fields["bursts_less_one"] + 1, fields["tag"])

    def _end_prompt(self, payload: int) -> None:
        """Check the end of the prompt."""
        prompt = self.prompt
        assert prompt is not None
        status = Status.MEMORY_ERROR if prompt.failed else prompt.status
        assert unpack(IMPORTED, payload) == {"status": status, "tokens": prompt.job_id}
        self.twin.end_job(prompt.grant.sequence)
        self.prompt = None
        del self._slots[self.config.attention.jobs_in_flight]

    def _complete(self, payload: int) -> None:
        """Check the completion of the oldest job."""
        job = self.running.popleft()
        status = Status.MEMORY_ERROR if job.failed else job.status
        assert payload & 0xFFFF == job.job_id
        assert Status(payload >> 16 & 15) == status, (Status(payload >> 16 & 15), job)
        self.twin.end_job(job.grant.sequence)
        for slot, other in list(self._slots.items()):
            if other is job:
                del self._slots[slot]
        self.counts["jobs"] += 1
