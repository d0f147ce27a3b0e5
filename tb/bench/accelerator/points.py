"""One point: jobs of one preset, mode and context through slices on DRAM."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from golden.workload import JobCase
from hw.accelerator_config import system_core
from hw.config import AttentionConfig, preset
from hw.formats import KVFormat, Mode
from tb.accelerator.runner import run_accelerator, system_config
from tb.attention.catalogue import Scenario, fitted_cases
from tb.attention.golden_data import golden_data
from tb.attention.report import make_report, required_bytes, selected_groups
from tb.attention.runner import require_equal

#: Layers of the published model that it leaves uncompressed, and all of them.
DENSE_LAYERS, LAYERS = 2, 32
#: The context of the projection, and those that it starts from.
FAR_CONTEXT, NEAR_CONTEXTS = 32768, (4096, 8192)


@dataclass(frozen=True)
class Point:
    """What to measure."""

    preset: str
    mode: Mode
    context: int
    slices: int = 1
    standard: str = "hbm2-2000"
    #: Jobs of each core.
    jobs: int = 8

    @property
    def label(self) -> str:
        """A line for a person."""
        shape = f"{self.slices} x {self.standard}"
        return f"{self.preset} {self.mode.name.lower()} {self.context} on {shape}"


def scenario_of(point: Point) -> Scenario:
    """The jobs of the point, on synthetic tensors that are fitted to real KV."""
    jobs = point.jobs * point.slices

    def cases(config: AttentionConfig, seed: int, mode: Mode) -> list[JobCase]:
        return fitted_cases(config, point.context, seed, mode, jobs)

    return Scenario(
        name=f"bench-dram-{point.context}-{jobs}",
        description=f"{jobs} jobs at {point.context} tokens",
        cases=cases,
        source=lambda config: "synthetic, fitted to captured KV",
    )


def measure(point: Point, seed: int) -> dict[str, Any]:
    """Simulate the point, compare it with the twin, and return its figures.

    Raises
    ------
    Mismatch
        The accelerator did not give what the twin gives.
    """
    config = system_config(preset(point.preset), slices=point.slices, standard=point.standard)
    core = config.mmu.attention
    scenario = scenario_of(point)
    path, data = golden_data(scenario, core, seed, point.mode)
    run = run_accelerator(config, data, seed=seed, driver="native")
    require_equal(run.comparison)
    report = make_report(scenario, core, data, run, path, point.mode)
    measured, derived = report["measured"], report["derived"]
    jobs, counters = run.comparison.jobs, run.counters
    moved, busy = run.dram["bytes_moved"], run.dram["busy"]
    core_cycles = run.cycles * point.slices
    layout, groups = KVFormat(core), selected_groups(core, data)
    required = sum(required_bytes(core, point.context, point.mode, each) for each in groups)
    records = sum(
        sum(layout.traffic_bytes(point.context, point.mode, each).values()) for each in groups
    )
    tables, over_fetch = measured["table_bytes"], measured["over_fetch_bytes"]
    idle, no_job = core_cycles - busy, counters["sequencer.sequencer_idle"]
    blocked = counters["unpacker.unpacker_blocked"]
    return {
        "preset": point.preset,
        "config_hash": report["config_hash"],
        "mode": report["mode"],
        "context": point.context,
        "standard": point.standard,
        "slices": point.slices,
        "jobs": jobs,
        "seed": seed,
        "tensors": report["tensors"],
        "measured": {
            "cycles": run.cycles,
            "pin_bytes": moved,
            "dram": run.dram,
            "bytes_beyond_records": {"page tables": tables, "over-fetch": over_fetch},
        },
        "derived": {
            "useful_utilisation": derived["useful_memory_utilisation"],
            "pin_utilisation": busy / core_cycles,
            "pin_bytes_per_job": moved / jobs,
            "share_of_dense16": moved / derived["dense16_bytes"],
            "required_bytes": required,
            "padding_bytes": records - required,
            # What is not accounted for must be nothing.
            "unexplained_bytes": moved - records - tables - over_fetch,
            "idle_cycles": {
                "no job was there": no_job,
                "the datapath held the beats back": blocked,
                "memory latency, refresh, rows, selection": idle - no_job - blocked,
            },
        },
    }


def find_point(point: Point, seed: int, known: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The figures of ``known`` for this point, None if there are none of today's configuration."""
    core = system_core(preset(point.preset))
    wanted = {
        "preset": point.preset,
        "config_hash": f"{core.config_hash:#010x}",
        "mode": point.mode.name.lower(),
        "context": point.context,
        "standard": point.standard,
        "slices": point.slices,
        "jobs": point.jobs * point.slices,
        "seed": seed,
    }
    return next((p for p in known if wanted.items() <= p.items()), None)


def with_projections(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Compare each compressed point with the dense one at its context; project far.

    The traffic of a job grows linearly with the context once the budget is full, so two measured
    contexts give every other.
    """
    found = [dict(point) for point in points]
    dense = {
        (p["preset"], p["standard"], p["context"]): p
        for p in found
        if p["mode"] == "dense16" and p["slices"] == 1
    }
    for p in found:
        key = (p["preset"], p["standard"], p["context"])
        if p["mode"] == "kvo" and key in dense:
            share, baseline = p["derived"]["share_of_dense16"], dense[key]
            rest = DENSE_LAYERS * baseline["derived"]["share_of_dense16"]
            # Of one slice with as many jobs as each of these slices has.
            pace = baseline["measured"]["cycles"] / baseline["jobs"] / p["slices"]
            p["derived"] = p["derived"] | {
                "share_with_two_dense_layers": (rest + (LAYERS - DENSE_LAYERS) * share) / LAYERS,
                "speedup_over_dense16": pace * p["jobs"] / p["measured"]["cycles"],
                "bound_of_speedup": (baseline["derived"]["required_bytes"] / baseline["jobs"])
                / (p["derived"]["required_bytes"] / p["jobs"]),
            }
    near = {
        p["context"]: p["derived"]["pin_bytes_per_job"]
        for p in found
        if p["mode"] == "kvo" and p["slices"] == 1 and p["preset"] == "paper"
    }
    low, high = NEAR_CONTEXTS
    if low in near and high in near:
        slope = (near[high] - near[low]) / (high - low)
        far = near[high] + slope * (FAR_CONTEXT - high)
        core = replace(preset("paper"), max_context=FAR_CONTEXT)
        share = far / required_bytes(core, FAR_CONTEXT, Mode.DENSE16)
        # A dense layer counts as it is stored, without its page tables (0.1 %).
        mixed = (DENSE_LAYERS + (LAYERS - DENSE_LAYERS) * share) / LAYERS
        projected = {
            "context": FAR_CONTEXT,
            "pin_bytes_per_job": far,
            "share_of_dense16": share,
            "share_with_two_dense_layers": mixed,
        }
        for p in found:
            if p["context"] == high and p["mode"] == "kvo":
                p["projected"] = projected
    return found
