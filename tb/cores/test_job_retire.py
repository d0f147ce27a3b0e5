"""Job retire: completions in order, with the faults and statistics of their own job."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import AttentionConfig, preset
from hw.constants import MAXIMUM_BITS
from hw.cores.job_intake import ticket_layout
from hw.cores.job_retire import JobRetire, completion_layout
from hw.cores.lanes import LANES
from hw.cores.payloads import slot_bits
from hw.cores.softmax import statistics_layout
from hw.formats import Status
from tb.harness import pack, simulate, unpack

CONFIGS = {
    "tiny": preset("tiny"),
    "rows1": replace(preset("tiny"), rows=1, jobs_in_flight=2),
    "rows4": replace(preset("tiny"), rows=4, jobs_in_flight=8),
}
DEVICES = ("tiny", "rows1")
REFUSALS = (
    Status.CONFIG_MISMATCH,
    Status.MODE_RANGE,
    Status.CONTEXT_RANGE,
    Status.LAYER_RANGE,
    Status.HEAD_RANGE,
    Status.ADDRESS_RANGE,
)
Fields = dict[str, Any]


def event_layout(config: AttentionConfig) -> data.StructLayout:
    """What happens in one cycle of the core during ``job``: an output beat, faults."""
    slot = slot_bits(config)
    return data.StructLayout(
        {
            "job": 8,
            "output_sent": 1,
            "memory_error": 1,
            "memory_error_slot": slot,
            "scale_error": 1,
            "scale_error_slot": slot,
        }
    )


class RetireBench(wiring.Component):
    """The unit with its events as a stream; an event waits until its job can have begun."""

    def __init__(self, config: AttentionConfig) -> None:
        self._config = config
        self._retire = JobRetire(config)
        members = self._retire.signature.members
        streams = {name: members[name] for name in ("ticket", "statistics", "completion")}
        event = In(stream.Signature(event_layout(config)))
        counts = {"retired": Out(8), "completed": Out(8), "failed": Out(8)}
        super().__init__({**streams, "event": event, **counts})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.retire = retire = self._retire
        wiring.connect(m, wiring.flipped(self.ticket), retire.ticket)
        wiring.connect(m, wiring.flipped(self.statistics), retire.statistics)
        wiring.connect(m, retire.completion, wiring.flipped(self.completion))
        event = self.event.payload
        happens = self.event.valid & self.event.ready
        ahead = Signal(8)
        m.d.comb += [
            ahead.eq(event.job - self.retired),
            self.event.ready.eq(ahead < self._config.jobs_in_flight),
            retire.output_sent.eq(happens & event.output_sent),
            retire.memory_error.eq(happens & event.memory_error),
            retire.memory_error_slot.eq(event.memory_error_slot),
            retire.scale_error.eq(happens & event.scale_error),
            retire.scale_error_slot.eq(event.scale_error_slot),
        ]
        m.d.sync += [
            self.retired.eq(self.retired + retire.retired),
            self.completed.eq(self.completed + retire.completed.event),
            self.failed.eq(self.failed + retire.failed.event),
        ]
        return m


@cache
def device(name: str) -> RetireBench:
    """One component per configuration, so that all runs share its elaboration and build."""
    return RetireBench(CONFIGS[name])


@dataclass(frozen=True)
class Job:
    """What happens to one job."""

    ticket: Status
    memory_error: bool = False
    scale_error: bool = False

    @property
    def runs(self) -> bool:
        """Whether it has outputs and statistics."""
        return self.ticket not in REFUSALS

    @property
    def status(self) -> Status:
        """What its completion says: the lowest code that applies."""
        if not self.runs:
            return self.ticket
        if self.memory_error:
            return Status.MEMORY_ERROR
        bad_scale = self.scale_error or self.ticket == Status.SCALE_NOT_FINITE
        return Status.SCALE_NOT_FINITE if bad_scale else Status.OK


def random_jobs(seed: int, count: int) -> list[Job]:
    """Jobs of every kind, many of them in a row with a fault in flight."""
    print(f"job retire jobs of seed {seed}")
    generator = random.Random(seed)
    tickets = [Status.OK] * 6 + [Status.SCALE_NOT_FINITE, *REFUSALS]
    return [
        Job(generator.choice(tickets), generator.random() < 0.3, generator.random() < 0.3)
        for _ in range(count)
    ]


@dataclass(frozen=True)
class Streams:
    """Fields of all items."""

    ticket: list[Fields]
    statistics: list[Fields]
    event: list[Fields]
    completion: list[Fields]


def make_streams(config: AttentionConfig, jobs: Sequence[Job], seed: int) -> Streams:
    """Faults of a job come before its last beat, some among the beats of the job before."""
    generator = random.Random(seed)
    beats = config.rows * config.head_dim // LANES
    edge = 1 << (MAXIMUM_BITS - 1)
    quiet = dict.fromkeys(dict(event_layout(config)), 0)
    found = Streams([], [], [], [])
    before = 0
    for index, job in enumerate(jobs):
        slot, job_id = index % config.jobs_in_flight, generator.getrandbits(16)
        found.ticket.append({"job_id": job_id, "slot": slot, "status": job.ticket})
        numbers = {"maximum": [0] * config.rows, "sum": [0] * config.rows}
        if job.runs:
            top = (1 << config.sum_bits) - 1
            numbers = {
                "maximum": [generator.choice([edge - 1, -edge, -3]) for _ in range(config.rows)],
                "sum": [generator.choice([1 << 19, top, 12345678]) for _ in range(config.rows)],
            }
            found.statistics.append({**numbers, "slot": slot})
            found.event.extend(quiet | {"job": index, "output_sent": 1} for _ in range(beats))
            for fault in ("memory_error", "scale_error"):
                for _ in range(generator.randint(1, 2) if getattr(job, fault) else 0):
                    place = generator.randrange(before, len(found.event))
                    # Two faults of a kind need two cycles, and so may a beat of the job before.
                    happening = quiet | {"job": index, fault: 1, f"{fault}_slot": slot}
                    found.event.insert(place, happening)
            before = max(before, len(found.event) - beats // 2)
        found.completion.append({"job_id": job_id, "status": job.status, **numbers})
    jobs_so_far = 0
    for event in found.event:
        # The stream is in order: an event waits for all that those before it wait for.
        jobs_so_far = event["job"] = max(jobs_so_far, event["job"])
    return found


def check(name: str, jobs: Sequence[Job], **options: Any) -> Any:
    """Run the jobs and compare every completion and count; the run comes back."""
    config = CONFIGS[name]
    streams = make_streams(config, jobs, options.get("seed", 1))
    run = play(name, streams, **options)
    found = [unpack(completion_layout(config), item) for item in run.outputs["completion"]]
    assert found == streams.completion
    good = sum(job.status == Status.OK for job in jobs)
    assert run.observed == {
        "retired": len(jobs),
        "completed": good,
        "failed": sum(job.runs for job in jobs) - good,
    }
    return run


def play(name: str, streams: Streams, **options: Any) -> Any:
    """Run the streams as they are."""
    config = CONFIGS[name]
    return simulate(
        device(name),
        name=f"job_retire_{name}",
        inputs={
            "ticket": [pack(ticket_layout(config), x) for x in streams.ticket],
            "statistics": [pack(statistics_layout(config), x) for x in streams.statistics],
            "event": [pack(event_layout(config), x) for x in streams.event],
        },
        outputs={"completion": len(streams.completion)},
        observe=["retired", "completed", "failed"],
        **options,
    )


@pytest.mark.parametrize("name", CONFIGS)
def test_derived_widths(name: str) -> None:
    config = CONFIGS[name]
    ports = JobRetire(config).signature.members
    slot = {2: 1, 4: 2, 8: 3}[config.jobs_in_flight]
    per_row = config.rows * (13 + config.sum_bits)
    streams = ("ticket", "statistics", "completion")
    widths = {port: ports[port].signature.members["payload"].shape.size for port in streams}
    assert widths == {
        "ticket": 16 + slot + 4,
        "statistics": per_row + slot,
        "completion": 16 + 4 + per_row,
    }
    assert ports["memory_error_slot"].shape == ports["scale_error_slot"].shape == slot


@pytest.mark.parametrize("name", DEVICES)
def test_every_kind_of_job(name: str) -> None:
    kinds = [Job(Status.OK, memory, scale) for memory in (False, True) for scale in (False, True)]
    kinds += [Job(Status.SCALE_NOT_FINITE), Job(Status.SCALE_NOT_FINITE, memory_error=True)]
    kinds += [Job(status) for status in REFUSALS]
    # With both faults of running jobs, that is every status that a core gives.
    of_the_core = {status for status in Status if not status.of_the_mmu}
    assert {job.status for job in kinds} == of_the_core
    assert {status for status in of_the_core if status.refused} == set(REFUSALS)
    # A good job in the slot of each kind: nothing of its faults is left.
    jobs = [job for kind in kinds for job in (kind, Job(Status.OK), Job(Status.OK))]
    check(name, jobs)


@pytest.mark.parametrize(
    ("name", "stall"),
    [
        ("tiny", 0.5),
        ("tiny", {"completion": 0.95}),
        ("rows1", {"ticket": 0.9}),
        ("rows1", {"statistics": 0.9, "event": 0.2}),
    ],
    ids=str,
)
def test_stalls(name: str, stall: Any) -> None:
    check(name, random_jobs(2, 40), stall=stall, seed=17)


def test_outputs_of_all_slots_run_ahead() -> None:
    """The beats of every job in flight are counted while the oldest completion waits."""
    check("tiny", [Job(Status.OK)] * 12, stall={"completion": 0.99}, seed=3)


@pytest.mark.parametrize("cycle", [30, 100])
def test_reset_in_flight(cycle: int) -> None:
    check("tiny", random_jobs(3, 20), stall=0.3, seed=cycle, reset_at=cycle)


def test_pace() -> None:
    config = CONFIGS["tiny"]
    beats = config.rows * config.head_dim // LANES
    run = check("tiny", [Job(Status.OK)])
    # A beat a cycle from cycle 1; the completion 2 cycles after the last.
    assert run.first_output_cycle == {"completion": beats + 2}
    run = check("tiny", [Job(Status.LAYER_RANGE)] * 20)
    assert run.first_output_cycle == {"completion": 2}
    assert run.cycles == 20 + 2
    run = check("tiny", [Job(Status.OK)] * 6)
    assert run.cycles == 6 * beats + 3


def test_waiting_completion_stays_as_it_is() -> None:
    """Faults that come while a completion waits do not change it."""
    config = CONFIGS["tiny"]
    streams = make_streams(config, [Job(Status.OK)], seed=1)
    quiet = dict.fromkeys(streams.event[0], 0) | {"job": 1}
    late = quiet | {"memory_error": 1, "scale_error": 1}
    streams.event.extend([quiet] * 4 + [late] + [quiet] * 4)
    run = play("tiny", streams, stall={"completion": 0.97}, seed=2)
    # The completion waited until after the faults.
    assert run.cycles > len(streams.event) + 1
    found = [unpack(completion_layout(config), item) for item in run.outputs["completion"]]
    assert found == streams.completion
