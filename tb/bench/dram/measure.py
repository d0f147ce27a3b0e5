"""One figure: traffic through the controller, contents checked, clocks counted."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hw.memory.dram.controller import ControllerConfig
from tb.bench.dram.clients import READERS, READS_PER_WRITE, WRITER
from tb.bench.dram.gaps import Stretch, measure_stretch
from tb.bench.dram.mixed import run_mixed
from tb.bench.dram.points import DramPoint, controller_facts
from tb.bench.dram.traffic import (
    BYTES,
    IMAGE_BYTES,
    Traffic,
    gather,
    make_image,
    streaming,
    writes,
)
from tb.harness.files import BUILD_ROOT
from tb.memory.dram.controller.bench import Request, Result, run_requests
from tb.memory.dram.image import arrange

#: tREFI that the figure covers; the controller pays its refreshes in lots of at most 6.
INTERVALS = 24
#: Requests under way that the bench is built for: one build for a sweep.
WINDOW = 16


def stretch_bounds(config: ControllerConfig, intervals: int) -> tuple[int, int]:
    """First and last clock of what is measured: from when the controller has to pay refreshes.

    It may owe ``refresh_debt`` of them per bank; before that it would look too fast.
    """
    interval = config.standard["tREFI"]
    begin = (config.refresh_debt + 1) * interval
    return begin, begin + intervals * interval


def measure(
    point: DramPoint, seed: int, *, intervals: int = INTERVALS, fast: bool = False
) -> dict[str, Any]:
    """Measure a point.

    Parameters
    ----------
    point
        What to measure.
    seed
        Of addresses and contents.
    intervals
        tREFI that the figure covers.
    fast
        Whether to compile the simulation for speed.

    Raises
    ------
    WrongAnswer
        A word is wrong, comes twice or not at all.
    RunTooShort
        A pseudo-channel had nothing to do before the end.
    HarnessError
        A rule of the standard is broken, or not every word has come.
    """
    config = point.config
    begin, end = stretch_bounds(config, intervals)
    clocks = end + config.standard["tREFI"] // 2
    number = clocks * config.standard.peak_bytes_per_cycle // BYTES + point.window
    run = _run_mixed if point.case == "mixed" else _run_single
    with tempfile.TemporaryDirectory(dir=_runs()) as directory:
        images = [make_image(seed + i) for i in range(config.standard.pseudo_channels)]
        paths = []
        for i, image in enumerate(images):
            paths.append(Path(directory) / f"image{i}")
            paths[-1].write_bytes(arrange(image, config.address_map))
        result, read, written = run(
            point, config, images, paths, number, seed, {"max_cycles": 8 * clocks, "fast": fast}
        )
    moved = {
        name: result.counter(f"{name}s") * config.standard.burst_bytes for name in ("read", "write")
    }
    # Every byte on the pins was asked for.
    assert moved == {"read": read, "write": written}, (moved, read, written)
    streamed = IMAGE_BYTES // (config.standard.banks * config.standard.row_bytes)
    stretch = measure_stretch(config, result.traces[-1], begin, end, streamed_rows=streamed)
    if point.case == "mixed":
        stretch.require_all_clients()
    return _facts(point, config, seed, result, stretch)


def _runs() -> Path:
    directory = BUILD_ROOT / "runs"
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def _run_single(
    point: DramPoint,
    config: ControllerConfig,
    images: list[bytes],
    paths: list[Path],
    number: int,
    seed: int,
    options: dict[str, Any],
) -> tuple[Result, int, int]:
    """One requester at each pseudo-channel; return the result, bytes read and written."""
    window = point.window
    traffic = [
        streaming(image, number, window, seed + i)
        if point.case == "streaming"
        else gather(config.standard, image, number, window, seed + i)
        for i, image in enumerate(images)
    ]
    requests = [own.requests for own in traffic]
    result = run_requests(
        config,
        requests,
        window=max(WINDOW, window),
        seed=seed,
        trace=True,
        images=paths,
        **options,
    )
    for i, own in enumerate(traffic):
        responses = result.run.outputs[f"response__{i}"]
        own.check(responses, gear=config.gear, id_bits=config.id_bits)
    return result, sum(map(len, requests)) * BYTES, 0


def _run_mixed(
    point: DramPoint,
    config: ControllerConfig,
    images: list[bytes],
    paths: list[Path],
    number: int,
    seed: int,
    options: dict[str, Any],
) -> tuple[Result, int, int]:
    """All clients at each pseudo-channel."""
    window = point.window
    # Who is faster is not known: each has some requests more than half.
    each = number * 3 // 4
    traffic: dict[str, list[Traffic]] = {
        "streaming": [streaming(image, each, window, seed + i) for i, image in enumerate(images)],
        "gather": [
            gather(config.standard, image, each, window, seed + i) for i, image in enumerate(images)
        ],
    }
    requests: dict[str, list[list[Request]]] = {
        name: [list(own.requests) for own in traffic[name]] for name in READERS
    }
    requests[WRITER] = [
        writes(2 * each // READS_PER_WRITE, config.gear, window, seed + i)
        for i in range(len(images))
    ]
    result = run_mixed(
        config, requests, window=window, seed=seed, images=[str(path) for path in paths], **options
    )
    for name in READERS:
        for i, own in enumerate(traffic[name]):
            responses = result.run.outputs[f"{name}_response__{i}"]
            own.check(responses, gear=config.gear, id_bits=(window - 1).bit_length())
    read, written = (
        sum(len(own) for name in names for own in requests[name]) * BYTES
        for names in (READERS, [WRITER])
    )
    return result, read, written


def _facts(
    point: DramPoint, config: ControllerConfig, seed: int, result: Result, stretch: Stretch
) -> dict[str, Any]:
    standard = config.standard
    peak = standard.peak_bytes_per_cycle * standard.pseudo_channels
    clocks = result.run.cycles * config.gear
    bursts = stretch.reads + stretch.writes
    span = stretch.end - stretch.begin
    fraction = bursts * standard.burst_bytes / (span * peak)
    target = point.least
    sets = 1 if not config.per_bank_refresh else standard.refresh_sets
    due = standard.pseudo_channels * sets * span // standard["tREFI"]
    return {
        "standard": point.standard,
        "case": point.case,
        "gear": point.gear,
        "refresh": "per_bank" if config.per_bank_refresh else "all_bank",
        "outstanding_bursts": point.outstanding,
        "seed": seed,
        "controller": controller_facts(config),
        "measured": {
            "run": {
                "clocks": clocks,
                "bytes": result.counter("bytes_moved"),
                **{
                    name: result.counter(name)
                    for name in (
                        *("activations", "precharges", "reads", "writes"),
                        *("all_bank_refreshes", "per_bank_refreshes"),
                    )
                },
            },
            "stretch": {
                "begin": stretch.begin,
                "clocks": span,
                "bytes": bursts * standard.burst_bytes,
                "reads": stretch.reads,
                "writes": stretch.writes,
                "activations": stretch.activations,
                "refreshes": stretch.refreshes,
            },
        },
        "derived": {
            "useful_fraction": fraction,
            "of_cap": fraction / point.cap,
            "cap": point.cap,
            "target": target,
            "target_met": None if target is None else fraction >= target,
            "whole_run_fraction": result.counter("bytes_moved") / (clocks * peak),
            "gigabytes_per_second": fraction * peak * 1000 / standard.clock_ps,
            "write_share": stretch.writes / bursts,
            **({"streaming_share": stretch.streamed / bursts} if point.case == "mixed" else {}),
            "refreshes_due": due,
            "idle_share": {
                name: idle / (span * standard.pseudo_channels)
                for name, idle in stretch.idle.items()
            },
        },
    }
