"""Measures the writing side of the decode core in front of an ideal memory."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from golden.fitted import fitted
from golden.generation import generate
from golden.tensors import CASES
from hw.config import BEAT_BYTES, AttentionConfig, preset
from hw.formats import KVFormat
from tb.generation.report import make_report
from tb.generation.runner import run_generation
from tb.generation.scenario import make_generation

#: Presets and tokens of the prompts that are imported.
IMPORTS = (("tiny", 160), ("lm", 512), ("paper", 512))
#: Cycles from a request to its first beat, and to the end of a write.
LATENCY = 60


def measure_steps(name: str, seed: int) -> dict[str, Any]:
    """The test ``generate_kv``: decode steps of several sequences."""
    golden, source = make_generation(preset(name), seed)
    found = run_generation(golden, seed=seed, memory={"latency_min": LATENCY}, driver="native")
    return make_report(golden, found, source, seed)


def measure_import(name: str, tokens: int, seed: int) -> dict[str, Any]:
    """A prompt of ``tokens`` tokens, imported into an empty cache, and one step after it.

    Once with a port for reads and one for writes, once with one port for both.
    """
    config = _roomy(preset(name))
    make = CASES["random"] if name == "tiny" else fitted
    golden = generate([make(config, tokens + 1, seed)], [tokens], [0], config, imported=[0])
    cycles = {}
    for ports, shared in (("cycles", False), ("cycles_of_one_port", True)):
        found = run_generation(
            golden, seed=seed, shared=shared, memory={"latency_min": LATENCY}, driver="native"
        )
        cycles[ports] = found.run.first_output_cycle["imported"]
    layout = KVFormat(config)
    # What the step after the import moved is not the import's.
    step = golden.steps[0]
    groups = layout.selected_groups(step.result.selection.tolist())
    step_bytes = sum(layout.traffic_bytes(step.context, groups=groups).values())
    counts = found.counts
    read = counts["beats_read"] - step_bytes // BEAT_BYTES
    closed = counts["windows"]
    return {
        "preset": name,
        "config_hash": f"0x{config.config_hash:08x}",
        "seed": seed,
        "measured": {"tokens": tokens, **cycles, "windows": closed, **counts},
        "derived": {
            **{f"{ports}_per_token": count / tokens for ports, count in cycles.items()},
            "cycles_per_window": counts["busy"] / closed,
            "read_per_token": read / tokens,
            "written_per_token": counts["beats_written"] / tokens,
            "beats_per_token": (read + counts["beats_written"]) / tokens,
        },
    }


def _roomy(config: AttentionConfig) -> AttentionConfig:
    """``config`` with a memory that holds the case and not much more."""
    return replace(config, memory_bytes=1 << (18 if config.max_context < 1000 else 22))
