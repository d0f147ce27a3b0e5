"""Measures whole decode steps at the DRAM pins: reads, writes, tables, everything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from golden.fitted import fitted
from golden.generation import Generation, generate
from hw.accelerator_config import system_core
from hw.config import preset
from hw.formats import KVFormat, Mode
from tb.generation.system import SystemGeneration, generation_system, run_in_system


@dataclass(frozen=True)
class PinPoint:
    """Sequences whose prompts are imported, and which take steps in turn."""

    preset: str
    prompt: int
    steps: int = 64
    sequences: int = 2
    standard: str = "hbm2-2000"


#: What is measured: 64 steps have one window of each sequence that closes.
POINTS = (PinPoint("lm", 1024), PinPoint("paper", 2048), PinPoint("paper", 4096))


def dense_bytes(golden: Generation) -> int:
    """Bytes of the same steps with dense 16-bit K and V: all tokens read, the newest written."""
    layout, one = KVFormat(golden.config), 2 * golden.config.head_dim * Mode.DENSE16.code_bytes
    return sum(
        sum(layout.region_bytes(step.context, Mode.DENSE16).values()) + one for step in golden.steps
    )


def figures(found: SystemGeneration) -> dict[str, Any]:
    """Measured at the device, and derived from it."""
    moved, golden = found.dram["bytes_moved"], found.golden
    kinds, dense = found.bytes_by_kind, dense_bytes(golden)
    return {
        "measured": {
            "steps": len(golden.steps),
            "windows": sum(step.closes for step in golden.steps),
            "cycles": found.cycles,
            "dram": found.dram,
            "bytes": kinds,
            "pages_grown": found.counters["mmu_grower.pages_grown"],
            "pages_returned": sum(found.returned.values()),
        },
        "derived": {
            "dense16_bytes": dense,
            "traffic": moved / dense,
            "cut": 1 - moved / dense,
            "written_share": kinds["cache_written"] / moved,
            "bytes_per_step": moved / len(golden.steps),
            "cycles_per_step": found.cycles / len(golden.steps),
        },
    }


def measure_pins(point: PinPoint, seed: int) -> dict[str, Any]:
    """Simulate a point; every output is compared with the twin's."""
    config = system_core(preset(point.preset))
    total = point.prompt + point.steps
    tensors = [fitted(config, total, seed + i) for i in range(point.sequences)]
    caches = range(point.sequences)
    golden = generate(
        tensors,
        [point.prompt] * point.sequences,
        [*caches] * point.steps,
        config,
        imported=caches,
    )
    system = generation_system(golden, standard=point.standard)
    found = run_in_system(golden, system, seed=seed)
    return {
        "preset": point.preset,
        "config_hash": f"0x{config.config_hash:08x}",
        "system": system.describe(),
        "seed": seed,
        "prompt": point.prompt,
        "sequences": point.sequences,
        **figures(found),
    }
