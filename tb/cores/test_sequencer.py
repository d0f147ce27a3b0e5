"""The sequencer against its twin: every segment and header, in order."""

import random
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from golden.twin.sequence import PlannedJob, Segment, estimates, formal_pass, sequence
from hw.config import BURST_BYTES, AttentionConfig, preset
from hw.cores.payloads import SegmentKind, planned_job, segment_header
from hw.cores.sequencer import Sequencer
from hw.formats import KVFormat, Mode
from tb.harness import pack, payload_widths, simulate, unpack
from tb.harness.slow import slow_among

CONFIGS = {
    "tiny": preset("tiny"),
    "lm": preset("lm"),
    # The largest segments, and addresses up to the end of their field.
    "widest": replace(preset("lm"), head_dim=256, chunk=16, memory_bytes=1 << 32),
    "narrowest": replace(preset("tiny"), chunk=4),
    # A group for each chunk.
    "alone": replace(preset("tiny"), chunk=16, budget=48),
}
DEVICES = ("tiny", "lm", "widest", "narrowest", "alone")
Job = tuple[PlannedJob, list[int]]


@cache
def device(name: str) -> Sequencer:
    """One component per configuration, so that all runs share its elaboration and build."""
    return Sequencer(CONFIGS[name])


def make_job(
    config: AttentionConfig,
    context: int,
    slot: int,
    generator: random.Random,
    mode: Mode = Mode.KVO,
) -> Job:
    """A job with regions anywhere and a selection of as many chunks as the selector keeps."""
    sizes = KVFormat(config).region_bytes(context, mode)
    base, chunk, tail = (
        generator.randrange(0, config.memory_bytes - size + 1, BURST_BYTES)
        for size in (sizes["base"], sizes["chunk"], sizes["tail"])
    )
    job = PlannedJob.at(context, config, slot=slot, addresses=(base, chunk, tail), mode=mode)
    kept = min(job.chunks, config.top_chunks)
    # Few groups, so that their chunks meet, now and then apart.
    chunks = generator.sample(range(job.chunks), kept)
    if generator.random() < 0.7:
        chunks.sort()
    return job, chunks


def make_jobs(config: AttentionConfig, seed: int, contexts: list[int]) -> list[Job]:
    """Jobs at the contexts in random order; short ones also in the dense modes, among them."""
    print(f"sequencer jobs of seed {seed}")
    generator = random.Random(seed)
    short = [context for context in set(contexts) if context <= 2 * config.window + 1]
    order = [(context, Mode.KVO) for context in contexts]
    order += [(context, mode) for context in short for mode in (Mode.DENSE8, Mode.DENSE16)]
    generator.shuffle(order)
    return [
        make_job(config, context, index % config.jobs_in_flight, generator, mode)
        for index, (context, mode) in enumerate(order)
    ]


def boundaries(config: AttentionConfig) -> list[int]:
    """Contexts without chunks, with one tail token, with the fewest and the most of everything."""
    c, w = config.chunk, config.window
    contexts = [1, 1, c - 1, c, c + 1, w + 1, 2 * w, 2 * w, 2 * w + 1, 2 * w + 1, 3 * w, 3 * w + 1]
    return [*contexts, config.max_context - 1, config.max_context]


def play(name: str, jobs: list[Job], wanted: int, **options: Any) -> tuple[list[Segment], Any]:
    """Run the jobs; the segments with their headers, and the run."""
    config = CONFIGS[name]
    ports = device(name).signature.members
    layouts = {x: ports[x].signature.members["payload"].shape for x in ("segments", "selected")}
    selected = [
        pack(layouts["selected"], {"chunk": chunk, "last": int(i == len(selection) - 1)})
        for _, selection in jobs
        for i, chunk in enumerate(selection)
    ]
    run = simulate(
        device(name),
        name=f"sequencer_{name}",
        inputs={
            "planned": [pack(planned_job(config), vars(job)) for job, _ in jobs],
            "selected": selected,
        },
        outputs={"segments": wanted, "header": wanted},
        **options,
    )
    found = []
    for segment_bits, header_bits in zip(
        run.outputs["segments"], run.outputs["header"], strict=True
    ):
        header = unpack(segment_header(config), header_bits)
        header["kind"] = SegmentKind(header["kind"]).name
        found.append(Segment(**unpack(layouts["segments"], segment_bits), **header))
    return found, run


def check(name: str, jobs: list[Job], **options: Any) -> Any:
    """Run jobs that follow each other without a pause and compare every segment."""
    wanted = sequence(jobs, CONFIGS[name])
    found, run = play(name, jobs, len(wanted), **options)
    assert found == wanted
    return run


@pytest.mark.parametrize("name", CONFIGS)
def test_derived_widths(name: str) -> None:
    config = CONFIGS[name]
    slot, chunk = 2, (config.max_chunks - 1).bit_length()
    assert payload_widths(device(name)) == {
        "planned": slot
        + config.max_chunks.bit_length()
        + config.max_context.bit_length()
        + 3 * 32
        + 2,
        "selected": chunk + 1,
        "segments": 32 + 9,
        "header": 3 + slot + {4: 2, 8: 3, 16: 4}[config.chunk] + 2 + 2,
    }
    layout = KVFormat(config)
    largest = max(layout.base_block_bytes, *(max(layout.block_bytes(mode)) for mode in Mode))
    others = (layout.delta_bytes, layout.value_bytes, layout.value_scale_bytes)
    assert max(largest, *others) // BURST_BYTES < 1 << 9


@pytest.mark.parametrize("name", slow_among(DEVICES, ("lm", "narrowest")))
def test_every_boundary(name: str) -> None:
    config = CONFIGS[name]
    jobs = make_jobs(config, 1, boundaries(config))
    run = check(name, jobs)
    # A segment every 2 cycles, but for the cycles in which jobs change places.
    assert run.cycles <= 2 * len(sequence(jobs, config)) + 6 * len(jobs)


@pytest.mark.parametrize(
    "stall",
    [0.5, {"segments": 0.9}, {"header": 0.9}, {"selected": 0.95}],
    ids=str,
)
def test_stalls(stall: Any) -> None:
    """Slow readers of either output and a slow selection leave the order as it is."""
    if stall == 0.5:
        stall = {"segments": 0.5, "header": 0.5, "selected": 0.5}
    config = CONFIGS["tiny"]
    check("tiny", make_jobs(config, 2, boundaries(config)), stall=stall, seed=19)


def allowed(found: list[Segment], jobs: list[Job], config: AttentionConfig) -> bool:
    """Whether passes are whole and in order, estimates at most one job ahead of the formal pass."""
    done_estimates = done_formal = place = 0
    while place < len(found) or done_formal < len(jobs):
        if done_estimates < len(jobs) and done_estimates <= done_formal + 1:
            expected = estimates(jobs[done_estimates][0], config)
            if found[place : place + len(expected)] == expected:
                done_estimates, place = done_estimates + 1, place + len(expected)
                continue
        if done_formal == done_estimates:
            return False
        expected = formal_pass(*jobs[done_formal], config)
        if found[place : place + len(expected)] != expected:
            return False
        done_formal, place = done_formal + 1, place + len(expected)
    return True


def test_jobs_that_come_late() -> None:
    """A job goes on alone when no other is there to be estimated meanwhile."""
    config = CONFIGS["tiny"]
    jobs = make_jobs(config, 3, boundaries(config))
    wanted = sequence(jobs, config)
    found, _ = play("tiny", jobs, len(wanted), stall={"planned": 0.98}, seed=23)
    assert allowed(found, jobs, config)
    assert not allowed(found[1:], jobs, config)


@pytest.mark.parametrize("cycle", [2, 17, 50])
def test_reset_in_flight(cycle: int) -> None:
    config = CONFIGS["tiny"]
    stall = {"segments": 0.3, "header": 0.3, "selected": 0.3}
    check("tiny", make_jobs(config, 4, boundaries(config)), stall=stall, seed=5, reset_at=cycle)


def test_pace_of_a_lone_job() -> None:
    """Taken in cycle 1, its first segment in cycle 3, then one every 2 cycles in each pass."""
    config = CONFIGS["tiny"]
    job = make_job(config, config.max_context, 0, random.Random(5))
    run = check("tiny", [job])
    assert run.first_output_cycle == {"segments": 3, "header": 3}
    blocks, units = len(estimates(job[0], config)), len(formal_pass(*job, config))
    assert run.cycles == 2 * (blocks + units) + 5


def test_twin_of_a_hand_worked_job() -> None:
    """Tiny at 33 tokens: two closed chunks in one block, both selected, a tail of 17 tokens."""
    config = CONFIGS["tiny"]
    job = PlannedJob.at(33, config, slot=3, addresses=(0x1000, 0x2000, 0x3000))
    found = sequence([(job, [1, 0])], config)
    layout = KVFormat(config)
    # Base block: 8 keys of 2 groups (64 B) and 32 codes each (256 B). Tail keys: 32 B of saliency
    # and 16 B of scales more, padded; tail values: 8 tokens of 32 channels of 2 B. Token 16 is the
    # first of block 2 of four. The group: 128 B of value scales, then chunk by
    # chunk 14 elements of deltas with 56 bits (98 B), and value codes (100 B), padded.
    sizes = (layout.base_block_bytes, layout.tail_key_bytes, layout.tail_value_bytes)
    assert sizes == (320, 384, 512)
    assert (layout.value_scale_bytes, layout.delta_bytes, layout.value_bytes) == (128, 128, 128)
    lines = [(s.kind, s.address, s.bursts, s.present_less_one, s.first, s.last) for s in found]
    assert lines == [
        ("BASE_KEYS", 0x1000, 10, 1, True, True),
        ("TAIL_KEYS", 0x3000 + 2 * 896, 12, 7, True, False),
        ("TAIL_KEYS", 0x3000 + 3 * 896, 12, 7, False, False),
        ("TAIL_VALUES", 0x3000 + 2 * 896 + 384, 16, 7, False, False),
        ("TAIL_KEYS", 0x3000, 12, 0, False, False),
        ("TAIL_VALUES", 0x3000 + 3 * 896 + 384, 16, 7, False, False),
        ("DELTAS", 0x2000 + 128 + 256, 4, 7, False, False),
        ("TAIL_VALUES", 0x3000 + 384, 16, 7, False, False),
        ("DELTAS", 0x2000 + 128, 4, 7, False, True),
        ("VALUE_SCALES", 0x2000, 4, 7, False, False),
        ("VALUES", 0x2000 + 128 + 256 + 128, 4, 7, False, False),
        ("VALUES", 0x2000 + 128 + 128, 4, 7, False, False),
    ]
    assert {s.slot for s in found} == {3}


def test_twin_of_groups() -> None:
    """Scales come with each run of chunks of a group, and with the first chunk of a job."""
    config = CONFIGS["tiny"]
    job = PlannedJob.at(65, config, slot=0, addresses=(0, 0x8000, 0))
    found = [
        (s.kind, (s.address - 0x8000) // 128)
        for s in sequence([(job, [1, 0, 5, 2]), (job, [2])], config)
        if s.kind in ("DELTAS", "VALUE_SCALES", "VALUES")
    ]
    # A group is five pieces of 128 B: scales, deltas and values of one chunk, of the other.
    assert found == [
        ("DELTAS", 3),
        ("DELTAS", 1),
        *(("VALUE_SCALES", 0), ("VALUES", 4)),
        ("DELTAS", 13),
        ("VALUES", 2),
        ("DELTAS", 6),
        *(("VALUE_SCALES", 10), ("VALUES", 14)),
        *(("VALUE_SCALES", 5), ("VALUES", 7)),
        ("DELTAS", 6),
        *(("VALUE_SCALES", 5), ("VALUES", 7)),
    ]


@pytest.mark.parametrize(("mode", "size"), [(Mode.DENSE8, 256), (Mode.DENSE16, 512)])
def test_twin_of_a_hand_worked_dense_job(mode: Mode, size: int) -> None:
    """Tiny at 33 tokens: five blocks of 8 tokens with 32 channels each, keys a block ahead."""
    config = CONFIGS["tiny"]
    job = PlannedJob.at(33, config, slot=1, addresses=(5, 6, 0x3000), mode=mode)
    found = sequence([(job, [])], config)
    keys = [("TAIL_KEYS", 0x3000 + 2 * size * i) for i in range(5)]
    values = [("TAIL_VALUES", 0x3000 + 2 * size * i + size) for i in range(5)]
    order = [keys[0], keys[1], values[0], keys[2], values[1], keys[3], values[2], keys[4]]
    assert [(s.kind, s.address) for s in found] == [*order, values[3], values[4]]
    assert {s.bursts for s in found} == {size // BURST_BYTES}
    assert {s.wide for s in found} == {mode == Mode.DENSE16}
    heads = [s for s in found if s.kind == "TAIL_KEYS"]
    assert all(s.dense for s in heads)
    assert [(s.present_less_one, s.first, s.last) for s in heads] == [
        (7, True, False),
        (7, False, False),
        (7, False, False),
        (7, False, False),
        (0, False, True),
    ]
