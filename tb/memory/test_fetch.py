"""Fetch against the ideal memory, and the ideal memory by itself."""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TypeAlias

import pytest
from amaranth.hdl import ClockSignal, Instance, Module, ResetSignal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.config import BEAT_BITS, BEAT_BYTES, BURST_BYTES, FORMAT_VERSION, AttentionConfig, preset
from hw.cores.attention_core import AttentionCore
from hw.cores.payloads import BEAT
from hw.counters import CounterBank
from hw.memory.fetch import SEGMENT_LAYOUT, Fetch
from hw.memory.port import memory_port, request_layout, response_layout, tag_bits
from tb.harness import SimulationError, build, elaborate, pack, run, simulate, unpack
from tb.harness.files import BUILD_ROOT, REPOSITORY
from tb.harness.wrapper import (
    OBSERVED_PREFIX,
    SETTING_PREFIX,
    wrapper_name,
    wrapper_ports,
    wrapper_text,
)

MODELS = REPOSITORY / "tb" / "models"
TINY = replace(preset("tiny"), memory_bytes=1 << 16)
SMALL = replace(TINY, memory_tags=2, reorder_beats=64)
Options: TypeAlias = dict[str, int | str]
"""Plusargs of the memory model, without their prefix."""

#: Data of a beat with an error.
ALL_ONES = (1 << BEAT_BITS) - 1
FILLER = bytes.fromhex("efbeadde" * 4)
_run_numbers = itertools.count()


def _memory(port: wiring.FlippedInterface, config: AttentionConfig, **outputs: object) -> Instance:
    """The model at ``port``, the requester's side of a memory port seen from the memory."""
    return Instance(
        "ideal_memory",
        p_BYTES=config.memory_bytes,
        p_TAG_BITS=tag_bits(config),
        i_clk=ClockSignal(),
        i_rst=ResetSignal(),
        i_request__valid=port.request.valid,
        i_request__payload=port.request.payload,
        o_request__ready=port.request.ready,
        o_response__valid=port.response.valid,
        o_response__payload=port.response.payload,
        i_response__ready=port.response.ready,
        **outputs,
    )


class FetchBench(wiring.Component):
    """Fetch, its counters and the memory."""

    def __init__(self, config: AttentionConfig) -> None:
        self._config = config
        self._fetch = Fetch(config)
        self._bank = CounterBank(config, counters={"fetch": self._fetch.counters})
        super().__init__(
            {
                "segments": In(stream.Signature(SEGMENT_LAYOUT)),
                "beats": Out(stream.Signature(BEAT)),
                "address": In(self._bank.address.shape()),
                "read_data": Out(32),
                "requests": Out(32),
                "beat_count": Out(32),
                "busy": Out(32),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.fetch = fetch = self._fetch
        m.submodules.bank = bank = self._bank
        m.submodules.memory = _memory(
            fetch.memory,
            self._config,
            o_requests=self.requests,
            o_beats=self.beat_count,
            o_busy=self.busy,
        )
        connect(m, flipped(self.segments), fetch.segments)
        connect(m, fetch.beats, flipped(self.beats))
        m.d.comb += [bank.address.eq(self.address), self.read_data.eq(bank.read_data)]
        return m


class MemoryBench(wiring.Component):
    """The memory alone, its port as two streams."""

    def __init__(self, config: AttentionConfig) -> None:
        self._config = config
        super().__init__(
            {
                "request": In(stream.Signature(request_layout(config))),
                "response": Out(stream.Signature(response_layout(config))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.memory = _memory(self, self._config)
        return m


@cache
def bench(kind: type[wiring.Component], config: AttentionConfig) -> wiring.Component:
    """One component per configuration, so that it is elaborated once."""
    return kind(config)


@dataclass(frozen=True)
class Outcome:
    """What came out: items, cycles, the cycle of the first item, the plain outputs."""

    items: list[int]
    cycles: int
    first: int
    observed: dict[str, int]


def play(
    component: wiring.Component,
    name: str,
    items: Sequence[int],
    expected: int,
    *,
    image: bytes = b"",
    memory: Options | None = None,
    stall: float = 0.0,
    seed: int = 1,
    reset_at: int = 0,
    address: int = 0,
    max_cycles: int = 60_000,
) -> Outcome:
    """`tb.harness.simulate` for a component that holds the memory model, one stream each way."""
    design = elaborate(component, name)
    made = build(
        design.text + wrapper_text(design),
        [MODELS / f"{file}.sv" for file in ("stream_player", "stream_recorder", "ideal_memory")],
        top=wrapper_name(design),
        name=name,
        public=wrapper_ports(design),
    )
    directory = BUILD_ROOT / "runs" / f"{name}-{os.getpid()}-{next(_run_numbers)}"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    (source,), (sink,) = design.stream_names(is_input=True), design.stream_names(is_input=False)
    files = {stream: directory / f"{stream}.hex" for stream in (source, sink)}
    files[source].write_text("".join(f"{item:x}\n" for item in items))
    (directory / "image.bin").write_bytes(image)
    options: Options = {
        "seed": seed,
        "max_cycles": max_cycles,
        "drain": 64,
        "reset_at": reset_at,
        "memory_image": str(directory / "image.bin"),
    }
    for name_, number in ((source, len(items)), (sink, expected)):
        options |= {f"{name_}_file": str(files[name_]), f"{name_}_items": number}
        options[f"{name_}_stall"] = round(256 * stall)
    options |= {f"memory_{key}": value for key, value in (memory or {}).items()}
    seen = design.signal_names(is_input=False)
    settings = {"address": address} if design.signal_names(is_input=True) else {}
    job = {
        "settings": {SETTING_PREFIX + key: value for key, value in settings.items()},
        "observe": [OBSERVED_PREFIX + signal for signal in seen],
        "result": str(directory / "status.json"),
    }
    (directory / "job.json").write_text(json.dumps(job))
    run(
        made,
        "tb.models.stream_driver",
        directory=directory,
        plusargs=[f"+{key}={value}" for key, value in options.items()],
        environment={"STREAM_JOB": str(directory / "job.json")},
        seed=seed,
    )
    status = json.loads((directory / "status.json").read_text())
    where = f"seed {seed}, files in {directory}"
    assert not status["timed_out"], f"{status['counts']} of {expected} items, {where}"
    assert status["broken"] == 0, f"stream rule broken in cycle {status['broken_at']}, {where}"
    assert reset_at == 0 or status["resets"] == 2, f"the reset came too late, {where}"
    got = [int(line, 16) for line in files[sink].read_text().split()]
    assert len(got) == expected, where
    shutil.rmtree(directory)
    observed = {signal: status[OBSERVED_PREFIX + signal] for signal in seen}
    return Outcome(got, status["busy_cycles"], status["firsts"], observed)


# --- what must come out -------------------------------------------------------------------------


def beats_of(segments: Sequence[tuple[int, int]], image: bytes, bad: range = range(0)) -> list[int]:
    """The beats of ``segments`` (address, bursts): slices of the image; ``bad`` bytes err."""
    out = []
    for address, bursts in segments:
        end = address + bursts * BURST_BYTES
        for start in range(address, end, BEAT_BYTES):
            refused = start + BEAT_BYTES > bad.start and start < bad.stop
            beat = image[start : start + BEAT_BYTES] if start < len(image) else FILLER
            out.append(
                pack(
                    BEAT,
                    {
                        "data": ALL_ONES if refused else int.from_bytes(beat, "little"),
                        "error": int(refused),
                        "last": int(start + BEAT_BYTES == end),
                    },
                )
            )
    return out


def random_segments(
    rng: random.Random, config: AttentionConfig, number: int, longest: int = 511
) -> list[tuple[int, int]]:
    """Segments of all lengths, short ones more often, and the memory's last burst."""
    total = config.memory_bytes // BURST_BYTES
    segments = [(config.memory_bytes - BURST_BYTES, 1)]
    for _ in range(number - 1):
        bursts = min(longest, rng.choice((1, 2, 15, 16, 17, 32, 33, rng.randint(1, 511))))
        segments.append((rng.randint(0, total - bursts) * BURST_BYTES, bursts))
    return segments


def fetch(
    config: AttentionConfig,
    segments: Sequence[tuple[int, int]],
    image: bytes,
    *,
    memory: Options | None = None,
    bad: range = range(0),
    stall: float = 0.0,
    seed: int = 1,
    reset_at: int = 0,
    address: int = 0,
) -> Outcome:
    """Fetch ``segments`` and check every beat; ``bad`` bytes are refused by the memory."""
    options = dict(memory or {})
    if bad:
        options |= {"error_address": f"{bad.start:x}", "error_bytes": len(bad)}
    expected = beats_of(segments, image, bad)
    outcome = play(
        bench(FetchBench, config),
        f"fetch_{config.memory_tags}_{config.reorder_beats}",
        [pack(SEGMENT_LAYOUT, {"address": a, "bursts": b}) for a, b in segments],
        len(expected),
        image=image,
        memory=options,
        stall=stall,
        seed=seed,
        reset_at=reset_at,
        address=address,
    )
    pairs = enumerate(zip(outcome.items, expected, strict=True))
    wrong = [place for place, (got, want) in pairs if got != want]
    assert not wrong, f"{len(wrong)} of {len(expected)} beats differ, first beat {wrong[0]}"
    return outcome


# --- declarations -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tiny", "lm"])
@pytest.mark.parametrize(("tags", "bits"), [(2, 1), (4, 2), (8, 3), (16, 4)])
def test_widths_follow_from_the_configuration(name: str, tags: int, bits: int) -> None:
    config = replace(preset(name), memory_tags=tags)
    assert tag_bits(config) == bits
    assert request_layout(config).size == 32 + 4 + bits
    assert response_layout(config).size == 128 + bits + 5 + 1


# --- fetch alone --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("segments", "requests"),
    [
        # As many one-burst requests as there are tags, in successive cycles.
        ([(BURST_BYTES * i, 1) for i in range(17)], [(BURST_BYTES * i, 0) for i in range(16)]),
        # Requests of 16 bursts until the buffer has no room, though tags are left.
        (
            [(0x200, 40), (0x8000, 255)],
            [(0x200, 15), (0x400, 15), (0x600, 7)] + [(0x8000 + 512 * i, 15) for i in range(5)],
        ),
        # The buffer is full to the last beat; 30 beats are left and the next request needs 32.
        ([(0, 128), (0, 1)], [(512 * i, 15) for i in range(8)]),
        ([(0, 113), (0x4000, 16)], [(512 * i, 15) for i in range(7)] + [(7 * 512, 0)]),
    ],
)
def test_requests_stop_at_the_last_tag_and_at_the_full_buffer(
    segments: list[tuple[int, int]], requests: list[tuple[int, int]]
) -> None:
    component = bench(Fetch, TINY)
    outcome = simulate(
        component,
        name="fetch",
        inputs={
            "segments": [pack(SEGMENT_LAYOUT, {"address": a, "bursts": b}) for a, b in segments],
            "memory__response": [],
        },
        outputs={"memory__request": len(requests), "beats": 0},
        allow_extra=True,
        max_cycles=400,
    )
    assert component.memory.signature == memory_port(TINY)
    assert outcome.extra_items == {}
    got = [unpack(request_layout(TINY), item) for item in outcome.outputs["memory__request"]]
    assert [(item["address"], item["bursts_less_one"]) for item in got] == requests
    assert sorted({item["tag"] for item in got}) == list(range(len(requests)))


@pytest.mark.parametrize(
    ("page_bytes", "requests"),
    [
        (4096, [(0xF40, 5), (0x1000, 15), (0x1200, 3)]),
        (256, [(0xF40, 5), (0x1000, 7), (0x1100, 7), (0x1200, 3)]),
        (1 << 32, [(0xF40, 15), (0x1140, 9)]),
    ],
)
def test_requests_end_at_pages(page_bytes: int, requests: list[tuple[int, int]]) -> None:
    outcome = simulate(
        Fetch(TINY, page_bytes),
        name=f"fetch_pages_{page_bytes}",
        inputs={
            "segments": [pack(SEGMENT_LAYOUT, {"address": 0xF40, "bursts": 26})],
            "memory__response": [],
        },
        outputs={"memory__request": len(requests), "beats": 0},
    )
    got = [unpack(request_layout(TINY), item) for item in outcome.outputs["memory__request"]]
    assert [(item["address"], item["bursts_less_one"]) for item in got] == requests


@pytest.mark.parametrize("page_bytes", [0, 16, 48, 4097, -4096, 1 << 33, 4096.0, "4096"])
def test_a_page_is_a_power_of_two(page_bytes: object) -> None:
    for make in (Fetch, AttentionCore):
        with pytest.raises(ValueError, match=r"page_bytes must be None or a power of two from 32"):
            make(TINY, page_bytes)  # type: ignore[arg-type]


# --- the whole path -----------------------------------------------------------------------------

LONG = [(0x40, 255), (0x3000, 256), (0x60, 98)]
UNEVEN = [(BURST_BYTES * 17 * i, 17) for i in range(40)]
# 16 tags of one burst cover a round trip of 32 cycles, no more.
ONE_BURST = [(BURST_BYTES * i, 1) for i in range(200)]

LATENCIES: dict[str, Options] = {
    "ordered": {"latency_min": 8},
    "random": {"latency_min": 1, "latency_max": 90},
    "shuffled": {"latency_min": 4, "latency_max": 60, "shuffle": 1},
}


@pytest.mark.parametrize(
    ("latency", "stall", "seed"),
    [(*case, seed) for seed, case in enumerate(itertools.product(LATENCIES, (0.0, 0.5, 0.9)), 1)],
)
def test_beats_come_in_the_order_of_the_segments(latency: str, stall: float, seed: int) -> None:
    rng = random.Random(seed)
    image = rng.randbytes(TINY.memory_bytes - 3 * BURST_BYTES - 5)
    step = round(256 * stall)
    memory = LATENCIES[latency] | {"request_stall": step, "response_gap": step // 2}
    fetch(TINY, random_segments(rng, TINY, 12), image, memory=memory, stall=stall, seed=seed)


@pytest.mark.parametrize(("stall", "seed"), [(0.0, 21), (0.5, 22)])
def test_the_smallest_buffer(stall: float, seed: int) -> None:
    rng = random.Random(seed)
    image = rng.randbytes(SMALL.memory_bytes)
    memory = LATENCIES["shuffled"]
    fetch(SMALL, random_segments(rng, SMALL, 10), image, memory=memory, stall=stall, seed=seed)


@pytest.mark.parametrize("reset_at", [1, 40, 150, 300])
def test_reset_in_flight(reset_at: int) -> None:
    rng = random.Random(reset_at)
    image = rng.randbytes(TINY.memory_bytes)
    # Long enough to go round the buffer: what is left in it from before the reset is then wrong.
    segments = [(BURST_BYTES * rng.randrange(1700), rng.randint(100, 255)) for _ in range(4)]
    memory = LATENCIES["shuffled"]
    fetch(TINY, segments, image, memory=memory, stall=0.3, seed=reset_at, reset_at=reset_at)


def test_reset_gives_the_tags_back() -> None:
    image = random.Random(5).randbytes(TINY.memory_bytes)
    fetch(TINY, ONE_BURST, image, memory={"latency_min": 100}, reset_at=50)


@pytest.mark.parametrize("bad", [range(1 << 16), range(0x1018, 0x1019), range(0x2000, 0x2421)])
def test_errors_stay_with_their_beats(bad: range) -> None:
    image = random.Random(bad.start).randbytes(TINY.memory_bytes)
    segments = [(0xFE0, 4), (0x1F00, 255), (0, 1)]
    fetch(TINY, segments, image, memory=LATENCIES["shuffled"], bad=bad, stall=0.2, seed=3)


@pytest.mark.parametrize(
    ("segments", "latency"),
    [(LONG, 1), (LONG, 100), (UNEVEN, 8), (UNEVEN, 100), (ONE_BURST, 1), (ONE_BURST, 20)],
    ids=["long 1", "long 100", "uneven 8", "uneven 100", "one burst 1", "one burst 20"],
)
def test_a_beat_in_every_cycle(segments: list[tuple[int, int]], latency: int) -> None:
    image = random.Random(latency).randbytes(TINY.memory_bytes)
    outcome = fetch(TINY, segments, image, memory={"latency_min": latency})
    beats = sum(2 * bursts for _, bursts in segments)
    # One cycle until the player is valid, 2 to the request, the latency, 2 to the beat.
    assert outcome.first == 1 + 2 + latency + 2
    assert outcome.cycles == outcome.first + beats
    assert outcome.observed["beat_count"] == beats
    assert outcome.observed["requests"] == sum(-(-bursts // 16) for _, bursts in segments)


def test_counters() -> None:
    segments = [(0x400, 33), (0, 1)]
    image = bytes(range(256)) * 256
    expected = [TINY.config_hash, FORMAT_VERSION, 4, 68, 10 + 2]
    for address, value in enumerate(expected):
        outcome = fetch(TINY, segments, image, memory={"latency_min": 10}, address=address)
        assert outcome.observed["read_data"] == value, address


# --- the memory alone ---------------------------------------------------------------------------


def ask(
    requests: Sequence[tuple[int, int, int]],
    *,
    memory: Options | None = None,
    stall: float = 0.0,
    image: bytes = b"",
) -> tuple[list[dict[str, int]], Outcome]:
    """Send ``requests`` (address, bursts, tag) to the memory and return its beats."""
    layout = request_layout(TINY)
    outcome = play(
        bench(MemoryBench, TINY),
        "ideal_memory_bench",
        [pack(layout, {"address": a, "bursts_less_one": b - 1, "tag": t}) for a, b, t in requests],
        sum(2 * bursts for _, bursts, _ in requests),
        image=image,
        memory=memory,
        stall=stall,
    )
    return [unpack(response_layout(TINY), item) for item in outcome.items], outcome


TWO_TO_A_TAG = [(0x100 * tag, 1 + tag, tag) for tag in range(16)]


def test_memory_answers_in_order_without_shuffle() -> None:
    image = random.Random(1).randbytes(5000)
    beats, outcome = ask(TWO_TO_A_TAG, memory={"latency_min": 20}, image=image)
    wanted = beats_of([(address, bursts) for address, bursts, _ in TWO_TO_A_TAG], image + bytes(8))
    assert [beat["data"] for beat in beats] == [unpack(BEAT, beat)["data"] for beat in wanted]
    places = [(tag, place) for _, bursts, tag in TWO_TO_A_TAG for place in range(2 * bursts)]
    assert [(beat["tag"], beat["beat"]) for beat in beats] == places
    assert outcome.first == 1 + 20
    assert outcome.cycles == outcome.first + len(beats)


def test_memory_mixes_tags_and_the_beats_of_each() -> None:
    image = random.Random(2).randbytes(TINY.memory_bytes)
    memory: Options = {"latency_min": 5, "latency_max": 40, "shuffle": 1, "response_gap": 99}
    beats, _ = ask(TWO_TO_A_TAG, memory=memory, image=image)
    tags = [beat["tag"] for beat in beats]
    assert sum(a != b for a, b in itertools.pairwise(tags)) > len(tags) // 2
    in_order = 0
    for address, bursts, tag in TWO_TO_A_TAG:
        wanted = [unpack(BEAT, beat)["data"] for beat in beats_of([(address, bursts)], image)]
        its = [(beat["beat"], beat["data"]) for beat in beats if beat["tag"] == tag]
        assert sorted(its) == list(enumerate(wanted))
        places = [place for place, _ in its]
        in_order += sum(b == a + 1 for a, b in itertools.pairwise(places))
    assert in_order < len(beats) // 4


def test_memory_leaves_gaps_and_stalls_requests() -> None:
    _, quick = ask(TWO_TO_A_TAG)
    _, gaps = ask(TWO_TO_A_TAG, memory={"response_gap": 128})
    assert 1.6 < (gaps.cycles - gaps.first) / (quick.cycles - quick.first) < 2.5
    one_burst = [(0, 1, tag) for tag in range(16)]
    _, slow = ask(one_burst, memory={"request_stall": 240})
    assert slow.cycles > 100


@pytest.mark.parametrize(
    ("requests", "options", "stall", "message"),
    [
        ([(0, 16, 3), (512, 1, 4), (1024, 1, 3)], {}, 0, "tag 3, which is under way"),
        ([(0x30, 1, 0)], {}, 0, "unaligned address 0x30"),
        ([(0xFFE0, 1, 1), (0xFFE0, 2, 0)], {}, 0, "2 bursts at 0xffe0 ends behind the memory"),
        ([(0x10000, 1, 0)], {}, 0, "1 bursts at 0x10000 ends behind the memory of 0x10000"),
        ([(0, 16, 0)], {}, 0.5, "response.ready is low"),
        ([(0, 1, 0)], {"latency_min": 5, "latency_max": 4}, 0, "latency from 5 to 4"),
        ([(0, 1, 0)], {"latency_min": 0}, 0, "latency from 0 to 0"),
        ([(0, 1, 0)], {"image": "nowhere.bin"}, 0, "cannot read nowhere.bin"),
    ],
)
def test_memory_refuses(
    requests: list[tuple[int, int, int]], options: Options, stall: float, message: str
) -> None:
    with pytest.raises(SimulationError, match=message):
        ask(requests, memory=options, stall=stall)
