"""Simulates the points of the bench: sequences that grow in an accelerator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from golden.fitted import fitted
from golden.generation import generate
from hw.accelerator_config import system_core
from hw.config import preset
from tb.generation.system import generation_system, run_in_system
from tb.generation.system_report import make_report


@dataclass(frozen=True)
class Point:
    """Sequences whose prompts are imported, and which take steps in turn."""

    preset: str
    prompt: int
    steps: int = 64
    sequences: int = 2
    standard: str = "hbm2-2000"


#: What is measured: 64 steps have one window of each sequence that closes.
POINTS = (Point("lm", 1024), Point("paper", 2048), Point("paper", 4096))


def measure(point: Point, seed: int) -> dict[str, Any]:
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
    return make_report(found, "fitted to captured ones", seed) | {"prompt": point.prompt}
