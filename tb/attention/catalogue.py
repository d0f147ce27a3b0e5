"""The integration tests by name: which jobs, which memory, how much back-pressure."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from golden.captured import captured_cases
from golden.fitted import fitted
from golden.tensors import CASES
from golden.user_tensors import UserTensors, user_cases
from golden.workload import JobCase, case_from_tensors
from hw.config import BURST_BYTES, AttentionConfig, preset
from hw.formats import FP16_BITS, PAIR_BITS, KVFormat, Mode, Status, job_fields

#: Contexts up to here are short: random tensors will do. Tests go no further than the long one.
SHORT_CONTEXT = 1000
LONG_CONTEXT = 4096


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One integration test."""

    name: str
    description: str
    #: Jobs of a configuration, a seed and a mode.
    cases: Callable[[AttentionConfig, int, Mode], list[JobCase]]
    #: Where the tensors come from, for the report; the model's only at its own shape.
    source: Callable[[AttentionConfig], str]
    #: Probability of a stall per cycle on every stream of the core.
    stall: float = 0.0
    #: Whether it runs in the mode asked for; otherwise it has a choice of its own.
    modal: bool = True
    #: Options of the memory model.
    memory: dict[str, int | str] = field(default_factory=lambda: {"latency_min": 60})

    def mode_label(self, mode: Mode) -> str:
        """``kvo``, ``dense8``, ``dense16``, or ``mixed`` for a scenario with its own choice."""
        return mode.name.lower() if self.modal else "mixed"


def boundary_contexts(config: AttentionConfig) -> list[int]:
    """Contexts around every boundary: shortest, chunk, windows, budget, longest."""
    chunk, window, longest = config.chunk, config.window, config.max_context
    around = [chunk, window, 2 * window, 3 * window, config.budget + 2 * window]
    contexts = {1, 2, longest - 1, longest}
    for boundary in around:
        contexts |= {boundary - 1, boundary, boundary + 1}
    return sorted(c for c in contexts if 1 <= c <= longest)


def fused_cases(config: AttentionConfig, seed: int, mode: Mode) -> list[JobCase]:
    """Real KV where the configuration has the model's shape, else synthetic tensors.

    Those are fitted to real KV for long contexts; for short ones, each synthetic case.
    """
    window = config.window
    longest = min(config.max_context, LONG_CONTEXT)
    contexts = [longest, longest - window // 2 - 1]
    if has_model_shape(config):
        return captured_cases(config, contexts, mode=mode)
    if longest > SHORT_CONTEXT:
        return [case for context in contexts for case in fitted_cases(config, context, seed, mode)]
    return [
        _synthetic_case(name, context, index, config, seed, mode)
        for context in (*contexts, min(3 * window + 5, longest - 1))
        for index, name in enumerate(CASES)
    ]


def _synthetic_case(
    name: str, context: int, index: int, config: AttentionConfig, seed: int, mode: Mode
) -> JobCase:
    """A job on the synthetic tensors ``name``, with tensors and a place of its own."""
    return case_from_tensors(
        f"synthetic {name}, context {context}",
        CASES[name](config, context, seed + index),
        config,
        layer=index % config.layers,
        kv_head=index % config.kv_heads,
        mode=mode,
    )


def fitted_cases(
    config: AttentionConfig, context: int, seed: int, mode: Mode, jobs: int = 8
) -> list[JobCase]:
    """``jobs`` jobs at ``context`` tokens on synthetic tensors fitted to real KV."""
    return [
        case_from_tensors(
            f"synthetic fitted, job {number}, context {context}",
            fitted(config, context, seed + number),
            config,
            layer=number % config.layers,
            kv_head=number // config.layers % config.kv_heads,
            mode=mode,
        )
        for number in range(jobs)
    ]


def corner_cases(config: AttentionConfig, seed: int, mode: Mode) -> list[JobCase]:
    """Every synthetic case at several contexts, and random tensors at every boundary."""
    few = (1, min(2 * config.window + 1, config.max_context - 1), config.max_context)
    wanted = [(name, context) for name in CASES for context in few]
    wanted += [("random", context) for context in boundary_contexts(config)]
    return [
        _synthetic_case(name, context, index, config, seed, mode)
        for index, (name, context) in enumerate(wanted)
    ]


def mixed_cases(config: AttentionConfig, seed: int, mode: Mode) -> list[JobCase]:
    """Jobs of all modes in random order, so that each kind follows each other kind."""
    del mode
    cases = [case for each in Mode for case in corner_cases(config, seed, each)[::2]]
    random.Random(seed).shuffle(cases)
    return cases


def _without_tokens(config: AttentionConfig, context: int) -> tuple[tuple[str, int, bytes], ...]:
    """Garbage for all of the tail region that no token of a job at ``context`` fills.

    The saliency is among it: nobody reads it.
    """
    layout = KVFormat(config)
    c, tokens = config.chunk, layout.tokens(context)[1]
    order = layout.tail_order(context)
    blocks = layout.region_bytes(context)["tail"] // layout.tail_block_bytes
    present = {block: min(c, tokens - c * place) for place, block in enumerate(order)}
    value_scales = layout.saliency_bytes + layout.key_scale_bytes
    tile = c * BURST_BYTES
    #: Where sections begin and how many bytes a token has in them.
    sections = [
        (layout.saliency_bytes, config.groups * PAIR_BITS // 8),
        (value_scales, FP16_BITS // 8),
        (layout.tail_header_bytes, layout.key_code_bytes // c),
        *(
            (start, BURST_BYTES)
            for start in range(layout.tail_key_bytes, layout.tail_block_bytes, tile)
        ),
    ]
    found = []
    for block in range(blocks):
        at, held = block * layout.tail_block_bytes, present.get(block, 0)
        found.append(("tail", at, b"\xff" * layout.saliency_bytes))
        for start, size in sections:
            garbage = b"\xff" * (size * (c - held))
            found.append(("tail", at + start + size * held, garbage))
    return tuple(found)


def fault_cases(config: AttentionConfig, seed: int, mode: Mode) -> list[JobCase]:
    """Each refused descriptor, between jobs that must come out unharmed."""
    del mode
    longest = min(3 * config.window + 1, config.max_context)
    good = [
        case_from_tensors(
            f"synthetic random, context {context}", CASES["random"](config, context, seed), config
        )
        for context in (longest, 5)
    ]
    spoiled: list[tuple[str, tuple[tuple[str, int], ...], Status]] = [
        ("wrong config hash", (("config_hash", config.config_hash ^ 1),), Status.CONFIG_MISMATCH),
        ("no such mode", (("mode", max(Mode) + 1),), Status.MODE_RANGE),
        ("highest mode number", (("mode", 255), ("context", 0)), Status.MODE_RANGE),
        ("context 0", (("context", 0),), Status.CONTEXT_RANGE),
        ("context too long", (("context", config.max_context + 1),), Status.CONTEXT_RANGE),
        ("tail behind the memory", (("tail_address", 2**32 - 32),), Status.ADDRESS_RANGE),
        (
            "everything wrong",
            (("config_hash", 0), ("context", 0), ("layer", 255), ("kv_head", 255)),
            Status.CONFIG_MISMATCH,
        ),
    ]
    # A configuration that uses every code of a field leaves none to refuse.
    if config.layers < 1 << job_fields(config)["layer"]:
        spoiled.append(("layer too high", (("layer", config.layers),), Status.LAYER_RANGE))
    if config.kv_heads < 1 << job_fields(config)["kv_head"]:
        spoiled.append(("KV head too high", (("kv_head", config.kv_heads),), Status.HEAD_RANGE))
    infinity, nan = b"\x00\x7c", b"\x01\xfe"
    layout = KVFormat(config)
    # Behind the first mask and codes of the first delta record, which is behind the value scales.
    delta_scale = layout.value_scale_bytes + layout.delta_element_bits // 8 - 4
    tail_scale = layout.tail_order(longest)[0] * layout.tail_block_bytes + layout.saliency_bytes
    poisoned: list[tuple[str, tuple[str, int, bytes]]] = [
        ("infinite tail key scale", ("tail", tail_scale + 4, infinity)),
        (
            "tail value scale is not a number",
            ("tail", tail_scale + layout.key_scale_bytes, nan),
        ),
        ("infinite delta scale", ("chunk", delta_scale, infinity)),
        (
            "minimum of the last value channel is not a number",
            ("chunk", layout.value_scale_bytes - 2, nan),
        ),
    ]
    # Regions without content are neither checked nor read.
    if config.closed_tokens(longest):
        outside = (("chunk_address", config.memory_bytes - 32),)
        spoiled += [
            ("unaligned base", (("base_address", 16),), Status.ADDRESS_RANGE),
            ("chunks behind the memory", outside, Status.ADDRESS_RANGE),
        ]
        poisoned += [
            ("infinite base scale", ("base", 0, infinity)),
            ("minimum of a base key is not a number", ("base", 2, nan)),
        ]
    cases = []
    for label, fields, status in spoiled:
        cases += [replace(good[0], label=label, spoiled=fields, status=status), *good]
    # A dense cache is one region; its value scale is in the descriptor, which kvo does not look at.
    random_tensors = CASES["random"](config, longest, seed)
    dense = case_from_tensors("dense", random_tensors, config, mode=Mode.DENSE8)
    for fields, status in (
        ((("value_scale", 0x7C00),), Status.SCALE_NOT_FINITE),
        ((("tail_address", config.memory_bytes - 32),), Status.ADDRESS_RANGE),
        ((("base_address", 1), ("chunk_address", config.memory_bytes - 32)), Status.OK),
    ):
        label = f"dense with spoiled {fields[0][0]}"
        cases += [replace(dense, label=label, spoiled=fields, status=status), *good]
    unread = replace(good[0], label="value scale in kvo", spoiled=(("value_scale", 0x7C00),))
    cases.append(unread)
    for case in good:
        places = _without_tokens(config, case.cache.context)
        cases.append(replace(case, label="garbage where no token is", poison=places))
    for label, poison in poisoned:
        bad = replace(good[0], label=label, poison=(poison,), status=Status.SCALE_NOT_FINITE)
        cases += [bad, *good]
    return cases


def user_scenario(tensors: UserTensors, jobs: int) -> Scenario:
    """``attention_fused`` on a user's tensors, at most ``jobs`` jobs.

    The scenario's name names the golden data and the report, so it follows from the content.
    """
    identity = hashlib.sha256(f"{tensors.digest} {jobs}".encode()).hexdigest()[:12]
    return Scenario(
        name=f"attention_fused-kv-{identity}",
        description="fused attention on a user's tensors, one decode step per job",
        cases=lambda config, seed, mode: user_cases(tensors, jobs, mode),
        source=lambda config: tensors.describe(jobs),
    )


def has_model_shape(config: AttentionConfig) -> bool:
    """Whether the trained model's tensors fit the configuration."""
    model = preset("lm")
    return config.max_context <= model.max_context and all(
        getattr(config, field) == getattr(model, field)
        for field in ("head_dim", "rows", "layers", "kv_heads")
    )


def source_of_fused(config: AttentionConfig) -> str:
    """Where the tensors of `fused_cases` come from."""
    if has_model_shape(config):
        return "captured from the trained model"
    return "synthetic, fitted to captured KV" if config.max_context > SHORT_CONTEXT else "synthetic"


_HARSH: dict[str, int | str] = {
    "latency_min": 1,
    "latency_max": 90,
    "shuffle": 1,
    "request_stall": 100,
    "response_gap": 60,
}

SCENARIOS: dict[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        Scenario(
            name="attention_fused",
            description="fused attention, one decode step per job",
            cases=fused_cases,
            source=source_of_fused,
        ),
        Scenario(
            name="attention_corners",
            description="corner tensors and boundary contexts under back-pressure",
            cases=corner_cases,
            source=lambda config: "synthetic",
            stall=0.5,
            memory=_HARSH,
        ),
        Scenario(
            name="attention_mixed",
            description="jobs of all modes after each other, under back-pressure",
            cases=mixed_cases,
            source=lambda config: "synthetic",
            stall=0.3,
            memory=_HARSH,
            modal=False,
        ),
        Scenario(
            name="attention_faults",
            description="refused descriptors between good jobs",
            cases=fault_cases,
            source=lambda config: "synthetic",
            stall=0.2,
            memory=_HARSH,
            modal=False,
        ),
    )
}
