"""Run the emitted core on golden data and compare every word."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from golden.memory_image.bundle import Arrays
from hw.config import BEAT_BYTES, AttentionConfig
from hw.cores.job_retire import completion_layout
from hw.cores.payloads import chunk_bits
from hw.formats import KVFormat, Mode, Status
from tb.attention.bench import AttentionBench
from tb.attention.emission import emission
from tb.harness import Driver, Run, Speed, Stall, simulate, unpack
from tb.harness.files import BUILD_ROOT, REPOSITORY

_MEMORY_MODEL = REPOSITORY / "tb" / "models" / "ideal_memory.sv"
_LISTED = 8
#: Cycles that a beat may take: nine in ten are stalls in the slowest test.
_HOLD_UPS = 30


class Mismatch(AssertionError):
    """The core did not give what the twin gives; the message lists the first differences."""


@dataclass
class Comparison:
    """What was compared with the twin, and what differed."""

    jobs: int = 0
    words: int = 0
    chunks: int = 0
    #: One line per difference.
    differences: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class AttentionRun:
    """One simulation of the core on golden data."""

    comparison: Comparison
    #: Cycles from the end of reset to the last item.
    cycles: int
    #: Registers of the counter bank by ``owner.name``.
    counters: dict[str, int]
    #: Counts of the memory model.
    memory: dict[str, int]
    seed: int
    directory: Path | None
    driver: Driver
    speed: Speed

    @property
    def slices(self) -> int:
        """Cores that shared the jobs."""
        return 1

    @property
    def memory_name(self) -> str:
        """What answered the core."""
        return "ideal"

    @property
    def counted_at(self) -> str:
        """Where the bytes were counted."""
        return "memory port"

    @property
    def measured(self) -> dict[str, Any]:
        """Further counts for the report."""
        return {}

    @property
    def modelled(self) -> dict[str, Any]:
        """Figures that a model makes of the counts."""
        return {}


@cache
def _bench(config: AttentionConfig, registers: int) -> AttentionBench:
    return AttentionBench(config, registers=registers)


def run_attention(
    config: AttentionConfig,
    data: Arrays,
    *,
    seed: int,
    stall: Stall = 0.0,
    memory: Mapping[str, int | str] | None = None,
    reset_at: int | None = None,
    waves: bool = False,
    verilog: Path | None = None,
    max_cycles: int | None = None,
    driver: Driver = "cocotb",
) -> AttentionRun:
    """Simulate the emitted Verilog on ``data`` and compare outputs, selections and statistics.

    Parameters
    ----------
    data
        Golden arrays of ``config``, see ``golden.workload``.
    stall
        Probability of a stall per cycle on every stream of the core, 0 to 0.99.
    memory
        Options of the memory model without their prefix, see ``tb/models/ideal_memory.sv``.
    reset_at
        Cycle of a reset in flight; the jobs then start again.
    verilog
        Verilog to simulate instead of the emitted file: a mutant.
    max_cycles
        Limit of the run; by default far beyond what the jobs can take.

    Raises
    ------
    SimulationError
        The core hangs, sends too much, or breaks a stream's rule.
    """
    emitted = emission(config)
    jobs = len(data["job"])
    beats = config.rows * config.head_dim // 4
    ran = np.array([not Status(status).refused for status in data["status"]], dtype=bool)
    image = BUILD_ROOT / "images" / f"{config.name}-{_checksum(data['image'])}.bin"
    if not image.exists():
        image.parent.mkdir(parents=True, exist_ok=True)
        temporary = image.with_suffix(f".{seed}.partial")
        temporary.write_bytes(data["image"].tobytes())
        temporary.replace(image)
    registers = emitted.registers
    run = simulate(
        _bench(config, len(registers)),
        name=f"attention_{config.name}".replace("-", "_").lower(),
        inputs={
            "job": [_integer(job) for job in data["job"]],
            "query": [_integer(beat) for job in data["query"] for beat in job],
        },
        outputs={
            "selection": len(data["selection"]),
            "output": int(ran.sum()) * beats,
            "completion": jobs,
            "counter": len(registers),
        },
        settings={"jobs": jobs},
        observe=["memory_beats", "memory_requests", "memory_busy"],
        stall=stall,
        seed=seed,
        reset_at=reset_at,
        max_cycles=max_cycles or _patience(config, data),
        waves=waves,
        # Long contexts run long enough to be worth compiling for speed.
        fast=config.max_context > 1000,
        sources=[verilog or emitted.verilog, _MEMORY_MODEL],
        plusargs=[
            f"+memory_image={image}",
            *(f"+memory_{name}={value}" for name, value in (memory or {}).items()),
        ],
        driver=driver,
    )
    return AttentionRun(
        comparison=compare(config, data, run, ran),
        cycles=run.cycles,
        counters=dict(zip(registers, run.outputs["counter"], strict=True)),
        memory={name.removeprefix("memory_"): n for name, n in run.observed.items()},
        seed=run.seed,
        directory=run.directory,
        driver=run.driver,
        speed=run.speed,
    )


def compare(config: AttentionConfig, data: Arrays, run: Run, ran: NDArray[np.bool_]) -> Comparison:
    """Hold what came out against the golden arrays, word by word."""
    result = Comparison()
    layout = completion_layout(config)
    outputs = _outputs(config, run)
    low = (1 << chunk_bits(config)) - 1
    chosen = [item & low for item in run.outputs["selection"]]
    place = 0
    next_output = 0
    for number, packed in enumerate(run.outputs["completion"]):
        label = str(data["label"][number])
        completion: dict[str, Any] = unpack(layout, packed)
        status = int(data["status"][number])
        # What a job with a run-time fault computed means nothing; only that it is marked so does.
        faulty = status in (Status.SCALE_NOT_FINITE, Status.MEMORY_ERROR)
        expected: dict[str, Any] = {"job_id": number, "status": status}
        if not faulty:
            expected["maximum"] = data["maximum"][number].tolist()
            expected["sum"] = data["sum"][number].tolist()
        for name, value in expected.items():
            if completion[name] != value:
                result.differences.append(
                    f"{label}: {name} must be {value}, not {completion[name]}"
                )
        result.words += len(np.hstack(list(expected.values())))
        count = int(data["selected"][number])
        wanted = data["selection"][place : place + count].tolist()
        actual = chosen[place : place + count]
        place += count
        if not faulty:
            result.chunks += count
            if actual != wanted:
                result.differences.append(f"{label}: selection must be {wanted}, not {actual}")
        if ran[number]:
            golden = data["output"][number]
            wrong = np.argwhere(outputs[next_output] != golden)
            if len(wrong) and not faulty:
                row, channel = wrong[0]
                result.differences.append(
                    f"{label}: {len(wrong)} outputs differ, first at row {row}, channel {channel}: "
                    f"must be {golden[row, channel]}, not {outputs[next_output][row, channel]}"
                )
            result.words += 0 if faulty else golden.size
            next_output += 1
        result.jobs += 1
    return result


def require_equal(comparison: Comparison) -> None:
    """Raise `Mismatch` with the first differences, if there are any, or if nothing was compared."""
    if not comparison.jobs or not comparison.words:
        raise Mismatch("nothing was compared")
    if comparison.differences:
        shown = "\n".join(comparison.differences[:_LISTED])
        raise Mismatch(f"{len(comparison.differences)} differences from the twin:\n{shown}")


def _patience(config: AttentionConfig, data: Arrays) -> int:
    """Cycles that no run needs: every beat may be held up many times."""
    layout = KVFormat(config)
    beats = len(data["job"]) * config.rows * config.head_dim
    for context, mode, status in zip(data["context"], data["mode"], data["status"], strict=True):
        if not Status(int(status)).refused:
            traffic = layout.traffic_bytes(int(context), Mode(int(mode)))
            beats += sum(traffic.values()) // BEAT_BYTES
    return _HOLD_UPS * beats + 100_000


def _outputs(config: AttentionConfig, run: Run) -> NDArray[np.int64]:
    beats = np.array(
        [[beat >> 32 * i & 0xFFFFFFFF for i in range(4)] for beat in run.outputs["output"]],
        dtype=np.int64,
    )
    signed = np.where(beats >= 1 << 31, beats - (1 << 32), beats)
    return signed.reshape(-1, config.rows, config.head_dim)


def _integer(row: NDArray[np.uint8]) -> int:
    return int.from_bytes(row.tobytes(), "little")


def _checksum(image: NDArray[np.uint8]) -> str:
    return hashlib.sha256(image.tobytes()).hexdigest()[:16]
