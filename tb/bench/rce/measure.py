"""Measures caches of constant size in front of an ideal memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from golden.captured import captured_tensors
from golden.generation import generate
from golden.model.capture import capture
from golden.tensors import CASES, Tensors
from hw.config import BEAT_BYTES, AttentionConfig
from hw.cores.saliency_update import SaliencyUpdate
from hw.cores.slot_map import SlotMap
from hw.cores.slot_votes import SlotVotes
from hw.cores.victim_select import VictimSelect
from hw.formats import KVFormat, Mode
from hw.tools.area import measure
from tb.attention.catalogue import has_model_shape
from tb.bench.generation.measure import LATENCY
from tb.generation.rce import step_bytes
from tb.generation.runner import run_generation
from tb.generation.scenario import LAYER

#: Tokens of a sequence, in cache sizes.
RATIOS = (2, 4, 8)
#: Caches whose steps are interleaved, and full steps of each.
BATCHES = (1, 2, 4, 8, 16)
FULL_STEPS = 5


def _tensors(config: AttentionConfig, tokens: int, seed: int, number: int) -> Tensors:
    if not has_model_shape(config):
        return CASES["random"](config, tokens, seed + number)
    layer, head = (LAYER + number // config.kv_heads) % config.layers, number % config.kv_heads
    return captured_tensors(capture("mixed"), config, layer=layer, kv_head=head, context=tokens)


def _dense_bytes(config: AttentionConfig, tokens: int) -> int:
    """Keys and values of ``tokens`` tokens in 16 bits."""
    return sum(KVFormat(config).region_bytes(tokens, Mode.DENSE16).values())


def measure_length(config: AttentionConfig, ratio: int, seed: int) -> dict[str, Any]:
    """One sequence from nothing to ``ratio`` cache sizes; every byte that moved."""
    tokens = ratio * config.slots
    golden = generate(
        [_tensors(config, tokens, seed, 0)], [0], [0] * tokens, config, modes=[Mode.SLOTS]
    )
    found = run_generation(golden, seed=seed, memory={"latency_min": LATENCY}, driver="native")
    moved = BEAT_BYTES * (found.counts["beats_read"] + found.counts["beats_written"])
    # The same format without a limit, of which no step is simulated.
    kept = sum(sum(step_bytes(config, t, t + 1)) for t in range(tokens))
    dense = sum(_dense_bytes(config, t + 1) + _dense_bytes(config, 1) for t in range(tokens))
    block = KVFormat(config).tail_block_bytes
    size = config.slots // config.chunk * block
    return {
        "ratio": ratio,
        "measured": {"steps": found.compared, "bytes": moved, "cycles": found.run.cycles},
        "derived": {
            "size_bytes": size,
            "size_of_all": tokens // config.chunk * block / size,
            "size_of_dense16": _dense_bytes(config, tokens) / size,
            "traffic_of_all": kept / moved,
            "traffic_of_dense16": dense / moved,
            "last_step_of_all": sum(step_bytes(config, tokens - 1, tokens))
            / sum(step_bytes(config, 0, config.slots)),
        },
    }


def measure_batch(config: AttentionConfig, caches: int, seed: int) -> dict[str, Any]:
    """Steps of ``caches`` full caches in turn, and what dense 16-bit caches would need at least."""
    slots = config.slots
    tensors = [_tensors(config, slots + FULL_STEPS - 1, seed, i) for i in range(caches)]
    order = list(range(caches)) * FULL_STEPS
    golden = generate(tensors, [slots - 1] * caches, order, config, modes=[Mode.SLOTS] * caches)
    found = run_generation(golden, seed=seed, memory={"latency_min": LATENCY}, driver="native")
    cycles = found.run.cycles / found.compared
    context = min(max(RATIOS) * slots, config.max_context)
    dense = _dense_bytes(config, context) / BEAT_BYTES
    return {
        "caches": caches,
        "measured": {"steps": found.compared, "cycles": found.run.cycles},
        "derived": {
            "cycles_per_step": cycles,
            "roofline": step_bytes(config, 0, slots)[0] / BEAT_BYTES / cycles,
            "dense16_context": context,
            "dense16_cycles": dense,
            "speed_up": dense / cycles,
        },
    }


def measure_area(config: AttentionConfig, directory: Path) -> dict[str, Any]:
    """NAND2 equivalents of the units that a cache of constant size has and others have not."""
    votes = replace(config, slot_rule="votes")
    plain = replace(config, slots=0)
    units = {
        "map": SlotMap(config),
        "victim": VictimSelect(config),
        "scores": SaliencyUpdate(config),
        "saliencies": SaliencyUpdate(plain),
        "votes": SlotVotes(votes),
    }
    reports = {name: measure(unit, f"rce_{name}", directory) for name, unit in units.items()}
    return {
        name: {"logic": report.logic, "levels": report.levels, "memory_bits": report.memory_bits}
        for name, report in reports.items()
    }
