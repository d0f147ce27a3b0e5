"""One benchmark point: jobs of one preset, mode and context through the simulated core."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from golden.captured import captured_cases
from golden.workload import JobCase
from hw.config import BEAT_BYTES, AttentionConfig
from hw.formats import KVFormat, Mode
from tb.attention.catalogue import Scenario, fitted_cases, has_model_shape, source_of_fused
from tb.attention.golden_data import golden_data
from tb.attention.report import make_report, selected_groups
from tb.attention.runner import require_equal, run_attention

#: Jobs of a point: enough to keep the core's slots full most of the time.
JOBS = 8
#: Of the ideal memory, in cycles.
LATENCY = 60


@dataclass(frozen=True)
class Point:
    """What to measure."""

    config: AttentionConfig
    mode: Mode
    context: int

    @property
    def label(self) -> str:
        """A line for a person."""
        return f"{self.config.name} {self.mode.name.lower()} {self.context}"


def scenario_of(point: Point) -> Scenario:
    """The jobs of the point."""

    def cases(config: AttentionConfig, seed: int, mode: Mode) -> list[JobCase]:
        if has_model_shape(config):
            return captured_cases(config, [point.context], mode=mode)[:JOBS]
        return fitted_cases(config, point.context, seed, mode, JOBS)

    return Scenario(
        name=f"bench-{point.context}",
        description=f"{JOBS} jobs at {point.context} tokens",
        cases=cases,
        source=source_of_fused,
        memory={"latency_min": LATENCY},
    )


def phases(point: Point, cycles: int, groups: list[int]) -> dict[str, int]:
    """Cycles by what crossed the memory port in them; the port was idle in the rest.

    ``groups`` are the value groups with a selected chunk of each job. A beat takes a cycle, so what
    a job reads of each kind is derived from the layout and the sum is checked against the measured
    beats by `measure`.
    """
    layout = KVFormat(point.config)
    jobs = len(groups)
    traffic = layout.traffic_bytes(point.context, point.mode, groups=0)
    _, tail = layout.tokens(point.context, point.mode)
    blocks = -(-tail // point.config.chunk)
    key_bytes, value_bytes = (blocks * size for size in layout.block_bytes(point.mode))
    chunks = traffic["chunk"] // layout.chunk_bytes
    found = {
        "base keys": traffic["base"],
        "deltas": chunks * layout.delta_bytes,
        "values": chunks * layout.value_bytes,
        "tail keys": key_bytes,
        "tail values": value_bytes,
    }
    beats = {name: jobs * size // BEAT_BYTES for name, size in found.items()}
    beats["values"] += sum(groups) * layout.value_scale_bytes // BEAT_BYTES
    return beats | {"port idle": cycles - sum(beats.values())}


def measure(point: Point, seed: int) -> dict[str, Any]:
    """Simulate the point, compare it with the twin, and return its figures.

    Raises
    ------
    Mismatch
        The core did not give what the twin gives.
    """
    scenario = scenario_of(point)
    path, data = golden_data(scenario, point.config, seed, point.mode)
    run = run_attention(point.config, data, seed=seed, memory=scenario.memory)
    require_equal(run.comparison)
    report = make_report(scenario, point.config, data, run, path, point.mode)
    derived, jobs = report["derived"], run.comparison.jobs
    cycles = phases(point, run.cycles, selected_groups(point.config, data))
    if run.memory["beats"] != run.cycles - cycles["port idle"]:
        raise AssertionError(f"{point.label}: the port moved other beats than the layout says")
    return {
        "preset": point.config.name,
        "config_hash": report["config_hash"],
        "mode": report["mode"],
        "context": point.context,
        "seed": seed,
        "tensors": report["tensors"],
        "jobs": jobs,
        "measured": {
            "cycles": run.cycles,
            "memory_bytes": report["measured"]["memory_bytes"],
            "lost_cycles": derived["lost_cycles"],
        },
        "derived": {
            "roofline_ratio": derived["roofline_ratio"],
            "roofline_side": derived["roofline_side"],
            "memory_utilisation": derived["memory_utilisation"],
            "pe_utilisation": derived["pe_utilisation"],
            "traffic_of_dense16": derived["traffic_at_the_port"],
            "required_bytes": derived["required_bytes"],
            "cycles_by_phase": cycles,
        },
    }


def with_speedup(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add to each point how much faster it is than ``dense16``, and how much its bytes allow."""
    baselines = {(p["preset"], p["context"]): p for p in points if p["mode"] == "dense16"}
    for p in points:
        baseline = baselines.get((p["preset"], p["context"]))
        if baseline is not None:
            p["derived"]["speedup_over_dense16"] = (
                baseline["measured"]["cycles"] / p["measured"]["cycles"]
            )
            p["derived"]["bound_of_speedup"] = (
                baseline["derived"]["required_bytes"] / p["derived"]["required_bytes"]
            )
    return points
