"""Run a decode core on golden steps and compare every word and every byte."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from golden.generation import Generation
from hw.config import BEAT_BYTES, AttentionConfig
from hw.cores.job_finish import finished_layout
from hw.cores.payloads import chunk_bits
from hw.cores.prompt_import import IMPORTED, PROMPT
from hw.formats import Status
from tb.generation.bench import GenerationBench
from tb.harness import Driver, HarnessError, Run, Stall, pack, simulate, unpack
from tb.harness.files import BUILD_ROOT, REPOSITORY

MEMORY_MODEL = REPOSITORY / "tb" / "models" / "ideal_memory.sv"
_LISTED = 8


class Mismatch(HarnessError, AssertionError):
    """The core did not give what the twin gives; the message lists the first differences."""


@dataclass(frozen=True)
class GenerationRun:
    """One simulation."""

    run: Run
    #: Counts of the core's events and of the memory model.
    counts: dict[str, int]
    #: Steps whose caches were compared with the memory.
    compared: int

    @property
    def cycles(self) -> int:
        """Cycles of the run."""
        return self.run.cycles

    @property
    def cache_bytes(self) -> dict[str, int]:
        """Bytes that were read and written."""
        return {way: BEAT_BYTES * self.counts[f"beats_{way}"] for way in ("read", "written")}


@cache
def bench(config: AttentionConfig) -> GenerationBench:
    """One component per configuration, so that all runs share its elaboration and build."""
    return GenerationBench(config)


def run_generation(
    golden: Generation,
    *,
    seed: int = 1,
    stall: Stall = 0.0,
    waits: bool = True,
    shared: bool = False,
    broken: Collection[int] = (),
    memory: Mapping[str, int | str] | None = None,
    reset_at: int | None = None,
    waves: bool = False,
    driver: Driver = "cocotb",
) -> GenerationRun:
    """Simulate the steps; compare outputs, selections, statistics, and the caches after each.

    Parameters
    ----------
    stall
        Probability of a stall per cycle on every stream of the core.
    waits
        Whether the jobs begin when all prompts are imported, or at once.
    shared
        Whether reads and writes share one port of the memory.
    broken
        Caches whose import ends with `MEMORY_ERROR`; what they hold is not looked at.
    memory
        Options of the memory model without their prefix.

    Raises
    ------
    Mismatch
        Something differs from the twin, or was written where nothing may be.
    SimulationError
        The core hangs, sends too much, or breaks a stream's rule.
    """
    config = golden.config
    directory = BUILD_ROOT / "generation"
    directory.mkdir(parents=True, exist_ok=True)
    image, log = directory / f"{seed}-{id(golden)}.bin", directory / f"{seed}-{id(golden)}.log"
    image.write_bytes(golden.image)
    component = bench(config)
    events = [counter.name for counter in component.events]
    steps = golden.steps
    ran = [step for step in steps if not step.status.refused]
    run = simulate(
        component,
        name=f"generation_{config.name}".replace("-", "_"),
        inputs={
            "job": [step.job for step in steps],
            "query": [beat for step in steps for beat in step.query],
            "token": [beat for step in steps for beat in step.token],
            "prompt": [
                pack(PROMPT, {k: v for k, v in vars(prompt).items() if k != "cache"})
                for prompt in golden.prompts
            ],
        },
        outputs={
            "selection": sum(len(step.result.selection) for step in ran),
            "output": len(ran) * config.rows * config.head_dim // 4,
            "completion": len(steps),
            "imported": len(golden.prompts),
        },
        settings={"prompts": len(golden.prompts) if waits else 0, "shared": int(shared)},
        observe=["beats_read", "beats_written", *events],
        stall=stall,
        seed=seed,
        reset_at=reset_at,
        max_cycles=20_000 * len(steps) + 1_000 * sum(prompt.tokens for prompt in golden.prompts),
        waves=waves,
        # Long contexts run long enough to be worth compiling for speed.
        fast=config.max_context > 1000,
        driver=driver,
        sources=[MEMORY_MODEL],
        plusargs=[
            f"+memory_image={image}",
            "+memory_reload=1",
            f"+memory_log={log}",
            *(f"+memory_{name}={value}" for name, value in (memory or {}).items()),
        ],
    )
    wrong = differences(golden, run)
    wrong += _written(golden, log, broken)
    for prompt, item in zip(golden.prompts, run.outputs["imported"], strict=True):
        imported = unpack(IMPORTED, item)
        status = Status.MEMORY_ERROR if prompt.cache in broken else Status.OK
        if imported != {"status": int(status), "tokens": prompt.tokens}:
            wrong.append(f"prompt of cache {prompt.cache}: {imported}")
    image.unlink()
    log.unlink()
    require_none(wrong)
    return GenerationRun(run, dict(run.observed), sum(s.status == Status.OK for s in steps))


def require_none(wrong: list[str]) -> None:
    """Raise `Mismatch` unless nothing differs."""
    if wrong:
        shown = "\n".join(wrong[:_LISTED])
        raise Mismatch(f"{len(wrong)} differences from the twin:\n{shown}")


def differences(golden: Generation, run: Run) -> list[str]:
    """What came out, against the steps."""
    config, wrong = golden.config, []
    outputs, chosen = iter(run.outputs["output"]), iter(run.outputs["selection"])
    low = (1 << chunk_bits(config)) - 1
    for number, (step, item) in enumerate(
        zip(golden.steps, run.outputs["completion"], strict=True)
    ):
        found: dict[str, Any] = unpack(finished_layout(config), item)
        where = f"step {number} (cache {step.cache}, context {step.context})"
        if found["job_id"] != step.job & 0xFFFF or found["status"] != step.status:
            wrong.append(f"{where}: status must be {step.status!r}, not {found['status']}")
        if step.status.refused:
            continue
        beats = config.rows * config.head_dim // 4
        words: list[int] = []
        for _ in range(beats):
            beat = next(outputs)
            words += [((beat >> 32 * i & 0xFFFFFFFF) ^ 1 << 31) - (1 << 31) for i in range(4)]
        found["output"] = words
        found["selection"] = [next(chosen) & low for _ in step.result.selection]
        if step.status != Status.OK:
            continue
        wanted = {
            "maximum": step.result.maximum.tolist(),
            "sum": step.result.sum.tolist(),
            "selection": step.result.selection.tolist(),
            "output": step.result.output.flatten().tolist(),
            **(step.placed or {}),
        }
        wrong += [
            f"{where}: {name} must be {value}, not {found[name]}"
            for name, value in wanted.items()
            if found[name] != value
        ]
    return wrong


def _written(golden: Generation, log: Path, broken: Collection[int]) -> list[str]:
    """The memory after each step, from the log of what was written."""
    memory, wrong = bytearray(golden.image), []
    # What a cache holds after a last step that failed is not said.
    last = {step.cache: step.status for step in golden.steps}
    spoilt = {number for number, status in last.items() if status != Status.OK} | {*broken}
    lines = iter(log.read_text().splitlines())
    line = next(lines, None)
    for number, step in enumerate(golden.steps):
        while line is not None and int(line.split()[0], 16) <= number:
            _write(memory, line)
            line = next(lines, None)
        where = f"step {number} (cache {step.cache}, context {step.context})"
        if step.status != Status.OK:
            continue
        found = golden.differences(bytes(memory), step.cache, step.after)
        wrong += [f"{where}: {text}" for text in found]
        if wrong:
            return wrong
    while line is not None:
        _write(memory, line)
        line = next(lines, None)
    # A cache that takes no step has what its prompt left.
    final = dict(enumerate(golden.final)) | {step.cache: step.after for step in golden.steps}
    for number, cache_ in final.items():
        if number in spoilt:
            continue
        found = golden.differences(bytes(memory), number, cache_)
        wrong += [f"cache {number} in the end: {text}" for text in found]
    return wrong


def _write(memory: bytearray, line: str) -> None:
    _, word, data, enable = (int(field, 16) for field in line.split())
    for byte in range(BEAT_BYTES):
        if enable >> byte & 1:
            memory[word * BEAT_BYTES + byte] = data >> 8 * byte & 255
