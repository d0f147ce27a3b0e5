"""The test ``rce``: caches of constant size far beyond their size, and what must hold of them."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

import torch

from golden.captured import captured_tensors, check_model
from golden.generation import Generation, Step, generate
from golden.model.capture import capture
from golden.reference import quantise_query
from golden.reference.quantiser import symmetric_codes
from golden.step_traffic import saliency_bytes, token_bytes
from golden.tensors import CASES, Tensors
from golden.twin.slot_cache import ConstantCache
from hw.accelerator_config import system_core
from hw.config import AttentionConfig, ConfigError
from hw.cores.job_finish import finished_layout
from hw.formats import KVFormat, Mode
from tb.accelerator.runner import system_config
from tb.attention.catalogue import has_model_shape
from tb.generation.runner import GenerationRun, Mismatch
from tb.generation.scenario import LAYER
from tb.generation.system import SystemGeneration
from tb.harness import unpack

#: Steps if no number is given, and the fewest, in cache sizes.
USUAL, FEWEST = 5, 4


def with_slots(config: AttentionConfig) -> AttentionConfig:
    """``config``, with slots for an eighth of its longest context if it has none.

    Raises
    ------
    ConfigError
        It has slots for more than half of its longest context.
    """
    if config.slots > config.max_context // 2:
        raise ConfigError(
            f"slots must be at most half of max_context, {config.max_context // 2}, for rce, "
            f"not {config.slots}"
        )
    if config.slots:
        return config
    slots = max(2 * config.window, config.max_context // 8)
    few = slots // 8
    return replace(
        config,
        name=f"{config.name}-slots",
        slots=slots,
        slot_sinks=min(config.slot_sinks, few),
        slot_recent=min(config.slot_recent, few),
    )


def spans(config: AttentionConfig, steps: int, longest: int | None) -> list[tuple[int, int]]:
    """Prompt and last position of each cache.

    One that is filled and evicts nothing, one that begins with a prompt, and such as take the other
    steps, at most ``longest`` each.

    Raises
    ------
    ConfigError
        The steps are too few, or the caches too many for ``slot_caches``.
    """
    slots = config.slots
    if steps < FEWEST * slots:
        raise ConfigError(f"steps must be at least {FEWEST * slots} for {slots} slots, not {steps}")
    rest = steps - 2 * slots
    number = 1 if longest is None else -(-rest // longest)
    if number + 2 > config.slot_caches:
        raise ConfigError(f"slot_caches must be at least {number + 2}, not {config.slot_caches}")
    ends = [rest * (i + 1) // number for i in range(number)]
    lengths = [end - start for start, end in zip([0, *ends], ends, strict=False)]
    return [(0, slots), (slots // 2, slots // 2 + slots), *((0, length) for length in lengths)]


@dataclass(frozen=True)
class Scenario:
    """Golden steps, and the tensors of the first cache that evicts."""

    golden: Generation
    tensors: Tensors
    source: str


def make_rce(config: AttentionConfig, steps: int, seed: int) -> Scenario:
    """``steps`` steps of caches in random order; ``config`` has slots.

    Raises
    ------
    ConfigError
        See `spans`; or ``config`` has more context than the trained model in its shape.
    """
    captured = None
    if has_model_shape(config):
        captured = capture("mixed")
        check_model(captured, config)
    caches = spans(config, steps, captured.key.shape[2] if captured else None)
    tensors = []
    for i, (_, last) in enumerate(caches):
        if captured:
            layer = (LAYER + i // config.kv_heads) % config.layers
            head = i % config.kv_heads
            made = captured_tensors(captured, config, layer=layer, kv_head=head, context=last)
        else:
            made = CASES[("random", "sink", "outlier_channels")[i % 3]](config, last, seed + i)
        tensors.append(made)
    order = [i for i, (prompt, last) in enumerate(caches) for _ in range(last - prompt)]
    random.Random(seed).shuffle(order)
    prompts = [prompt for prompt, _ in caches]
    modes = [Mode.SLOTS] * len(caches)
    source = "captured from the trained model" if captured else "synthetic"
    golden = generate(tensors, prompts, order, config, modes=modes)
    return Scenario(golden, tensors[2], source)


def step_bytes(config: AttentionConfig, slot: int, live: int) -> tuple[int, int]:
    """Bytes that a step reads and writes: it appends to ``slot`` and attends to ``live`` tokens."""
    layout, blocks = KVFormat(config), -(-live // config.chunk)
    written = token_bytes(slot % config.chunk, layout) + blocks * saliency_bytes(layout)
    return blocks * layout.tail_block_bytes, written


@dataclass(frozen=True)
class Trace:
    """What became of the tokens, as the hardware told it."""

    evictions: int
    #: Evictions in which another slot had the victim's score, or votes, and might have left, too.
    ties: int
    #: Slots that were taken again.
    victims: int
    #: Steps from a victim's coming to its going.
    ages: list[int]
    #: Bytes read and written in a step of a full cache, each amount that there was.
    full: set[tuple[int, int]]
    #: Steps of the first cache that evicts before it differs from one that evicts nothing.
    lossless: int


def in_system(config: AttentionConfig) -> AttentionConfig:
    """``config`` as that of a core behind an MMU, which numbers the caches by their places."""
    core = system_core(config)
    return replace(core, slot_caches=max(core.slot_caches, system_config(core).mmu.caches))


def check(scenario: Scenario, found: GenerationRun | SystemGeneration) -> Trace:
    """What holds of caches of constant size whatever the twin says.

    A cache of t tokens has ``min(t, slots)`` live ones; a slot is known a step before it is taken;
    all bytes that moved are those of `step_bytes`, and none of a page table; and while nothing has
    been evicted, outputs are those of a cache with room for more, afterwards they are not.

    Raises
    ------
    Mismatch
        It does not hold.
    """
    golden = scenario.golden
    config = golden.config
    held: list[dict[int, int]] = [{} for _ in golden.placements]
    for step in golden.steps:
        assert step.placed is not None
        if not held[step.cache]:
            # A prompt lies in its order.
            held[step.cache] = {slot: slot for slot in range(step.placed["position"])}
    wanted: dict[int, int] = {}
    read = written = ties = 0
    ages, again, full = [], set(), set()
    for number, (step, item) in enumerate(
        zip(golden.steps, found.run.outputs["completion"], strict=True)
    ):
        done = unpack(finished_layout(config), item)
        position, slot, live = done["position"], done["slot"], held[step.cache]
        if wanted.get(step.cache, slot) != slot:
            raise Mismatch(f"step {number}: slot must be {wanted[step.cache]}, not {slot}")
        wanted[step.cache] = done["next_slot"]
        if position >= config.slots:
            ages.append(position - live[slot])
            again.add(slot)
        live[slot] = position
        if len(live) != min(position + 1, config.slots):
            raise Mismatch(f"step {number}: {len(live)} live tokens after {position + 1}")
        moved = step_bytes(config, slot, len(live))
        read, written = read + moved[0], written + moved[1]
        if len(live) == config.slots:
            full.add(moved)
            ties += _ties(step, live, config)
    amounts, counts = {"read": read, "written": written}, found.cache_bytes
    if isinstance(found, SystemGeneration):
        kinds = found.bytes_by_kind
        amounts |= {"tables_read": 0, "tables_written": 0}
        counts |= {kind: kinds[kind] for kind in ("tables_read", "tables_written")}
    for way, amount in amounts.items():
        counted = counts[way]
        if counted != amount:
            raise Mismatch(f"bytes {way} must be {amount}, not {counted}")
    return Trace(len(ages), ties, len(again), ages, full, _lossless(scenario))


def _ties(step: Step, live: dict[int, int], config: AttentionConfig) -> bool:
    """Whether more than one slot that may leave has the victim's score."""
    assert step.placed is not None
    words = step.after.tail.saliency.tolist()
    oldest = step.placed["position"] - config.slot_recent
    free = [words[s] for s, at in live.items() if config.slot_sinks <= at <= oldest]
    return free.count(words[step.placed["next_slot"]]) > 1


def _lossless(scenario: Scenario) -> int:
    """Steps of the first cache that evicts until it differs from one with twice the slots."""
    config = scenario.golden.config
    whole = ConstantCache(replace(config, slots=2 * config.slots))
    steps = [step for step in scenario.golden.steps if step.cache == 2]
    keys = scenario.tensors.keys.half().double()
    codes, scale = symmetric_codes(scenario.tensors.values, config.tail_value_bits)
    for t, step in enumerate(steps[: 2 * config.slots]):
        whole.append(keys[t], codes[t], scale[t])
        result = whole.attend(*quantise_query(scenario.tensors.queries[:, t]))
        if not torch.equal(result.output, step.result.output):
            if t < config.slots:
                raise Mismatch(f"step {t} of cache 2 must be as if nothing were ever evicted")
            return t
    raise Mismatch("a cache that evicts must differ from one that does not")
