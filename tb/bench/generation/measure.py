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
#: Presets whose steps are measured, and the layer of the trained model; None for synthetic tensors.
STEPS: tuple[tuple[str, int | None], ...] = (
    ("tiny", None),
    *(("lm", layer) for layer in range(preset("lm").layers)),
)
#: Counts of an import that grow with its tokens.
_OF_TOKENS = ("cycles", "cycles_of_one_port", "read", "written")
#: Contexts from which on tensors are fitted to captured ones.
_LONG = 1000
#: Cycles from a request to its first beat, and to the end of a write.
LATENCY = 60


def measure_steps(name: str, layer: int | None, seed: int) -> dict[str, Any]:
    """Decode steps as in the test ``generate_kv``; of a layer, with every KV head."""
    golden, source = make_generation(preset(name), seed, layer)
    found = run_generation(golden, seed=seed, memory={"latency_min": LATENCY}, driver="native")
    return make_report(golden, found, source, seed)


def measure_import(name: str, tokens: int, seed: int) -> dict[str, Any]:
    """A prompt of ``tokens`` tokens, imported into an empty cache, and one of half of them.

    Each once with a port for reads and one for writes, once with one port for both. What the second
    half adds is free of begin and end: the steady state.
    """
    config = _roomy(preset(name))
    whole, half = (_import(config, count, seed) for count in (tokens, tokens // 2))
    measured = {"tokens": tokens, **whole, "half": half}
    steady = {key: (whole[key] - half[key]) / (tokens - tokens // 2) for key in _OF_TOKENS}
    beats = steady["read"] + steady["written"]
    return {
        "preset": name,
        "config_hash": f"0x{config.config_hash:08x}",
        "seed": seed,
        "measured": measured,
        "derived": {
            "cycles_per_token": whole["cycles"] / tokens,
            "cycles_of_one_port_per_token": whole["cycles_of_one_port"] / tokens,
            "beats_per_token": (whole["read"] + whole["written"]) / tokens,
            "cycles_per_window": whole["busy"] / whole["windows"],
            "steady": {
                **{f"{key}_per_token": figure for key, figure in steady.items()},
                "beats_per_token": beats,
                "over_beats": steady["cycles_of_one_port"] / beats - 1,
            },
        },
    }


def _import(config: AttentionConfig, tokens: int, seed: int) -> dict[str, int]:
    """Cycles until an import is answered, and what it moved, with a step after it."""
    make = CASES["random"] if config.max_context < _LONG else fitted
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
    return {**cycles, **counts, "read": read, "written": counts["beats_written"]}


def _roomy(config: AttentionConfig) -> AttentionConfig:
    """``config`` with a memory that holds the case and not much more."""
    return replace(config, memory_bytes=1 << (18 if config.max_context < _LONG else 22))
