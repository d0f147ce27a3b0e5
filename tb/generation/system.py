"""Run an accelerator that writes its caches on golden steps, every byte at the pins counted."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

from golden.generation import Generation
from golden.memory_image.pages import pack_system_job
from hw.accelerator_config import AcceleratorConfig
from hw.config import BURST_BYTES
from hw.formats import KVFormat, Status
from tb.accelerator.bench import IMPORT_COUNTS
from tb.accelerator.placing import unpack_job
from tb.accelerator.runner import (
    DEVICE_SOURCES,
    accelerator_bench,
    system_config,
    write_images,
)
from tb.generation.host import Host, after
from tb.generation.runner import differences, require_none
from tb.harness import Driver, Run, Stall, simulate
from tb.harness.files import BUILD_ROOT
from tb.memory.dram.device import COUNTERS

_run_numbers = itertools.count()


@dataclass(frozen=True)
class SystemGeneration:
    """One simulation; all counts are from the first step to the last completion."""

    run: Run
    config: AcceleratorConfig
    golden: Generation
    #: Of the devices, all together.
    dram: dict[str, int]
    #: Registers by ``owner.name``, summed over the slices.
    counters: dict[str, int]
    #: `IMPORT_COUNTS` of the bench: 0 unless there are two prompts or more.
    imports: dict[str, int]
    #: Pages that came back when each sequence ended.
    returned: dict[int, int]

    @property
    def cycles(self) -> int:
        """Cycles of the steps."""
        return self.run.observed["cycles"]

    @property
    def compared(self) -> int:
        """Steps whose outputs were compared with the twin."""
        return sum(step.status == Status.OK for step in self.golden.steps)

    @property
    def cache_bytes(self) -> dict[str, int]:
        """Bytes of caches that were read and written."""
        kinds = self.bytes_by_kind
        return {"read": kinds["cache_read"], "written": kinds["cache_written"]}

    @property
    def bytes_by_kind(self) -> dict[str, int]:
        """What moved at the pins: asked for by whom, and moved beyond that."""
        bursts = {
            "cache_read": "cache",
            "cache_written": "cache_write",
            "tables_read": "table",
            "tables_written": "table_write",
            "prompts_read": "staging",
        }
        found = {
            kind: BURST_BYTES * self.counters[f"arbiter.{client}_bursts"]
            for kind, client in bursts.items()
        }
        return found | {"over_fetch": self.dram["bytes_moved"] - sum(found.values())}


def generation_system(
    golden: Generation, *, slices: int = 1, standard: str = "hbm2-2000"
) -> AcceleratorConfig:
    """An accelerator for these caches, with a staging area of at least 1 MiB for the prompts."""
    records = KVFormat(golden.config).prompt_record_bytes
    needed = sum(prompt.tokens for prompt in golden.prompts) * records
    staging = 1 << 20
    while staging < needed:
        staging *= 2
    return system_config(golden.config, slices=slices, standard=standard, staging_bytes=staging)


def run_in_system(
    golden: Generation,
    config: AcceleratorConfig,
    *,
    host: Host | None = None,
    seed: int = 1,
    stall: Stall = 0.0,
    reset_at: int | None = None,
    waves: bool = False,
    driver: Driver = "native",
) -> SystemGeneration:
    """Simulate host and steps; compare statuses, outputs, selections and statistics.

    Parameters
    ----------
    golden
        Its ``config`` is that of the cores.
    config
        The accelerator, see `generation_system`.
    host
        What comes before and after the steps; `Host` with its defaults unless given.

    Raises
    ------
    Mismatch
        Something differs from the twin.
    SimulationError
        It hangs, or the DRAM device sees a rule broken.
    """
    core, slices = config.mmu.attention, config.slices
    host = host or Host(golden, config)
    jobs = []
    for step in golden.steps:
        home = host.homes[step.cache]
        descriptor = replace(
            unpack_job(golden.config, step.job), layer=home.layer, kv_head=home.kv_head
        )
        jobs.append(pack_system_job(descriptor, home.sequence, config.mmu))
    ran = [step for step in golden.steps if not step.status.refused]
    bench = accelerator_bench(config)
    registers = bench.registers
    folder = BUILD_ROOT / "runs" / f"generation-{os.getpid()}-{next(_run_numbers)}"
    images = write_images(folder, config, host.contents)
    inputs: dict[str, Sequence[int]] = {
        "job": jobs,
        "job_after": [host.jobs_after] * len(jobs),
        "query": [beat for step in golden.steps for beat in step.query],
        "token": [beat for step in golden.steps for beat in step.token],
    }
    outputs = {
        "selection": sum(len(step.result.selection) for step in ran),
        "output": len(ran) * core.rows * core.head_dim // 4,
        "completion": len(jobs),
        "register": len(registers) * slices,
    }
    for i in range(slices):
        inputs[f"command__{i}"] = [command.pack() for command, _ in host.commands[i]]
        inputs[f"command_after__{i}"] = [gate for _, gate in host.commands[i]]
        inputs[f"prompt__{i}"] = host.prompts[i]
        inputs[f"prompt_after__{i}"] = [after(replied=len(host.homes))] * len(host.prompts[i])
        outputs[f"reply__{i}"] = len(host.commands[i])
        outputs[f"imported__{i}"] = len(host.prompts[i])
    run = simulate(
        bench,
        name=f"generation_{core.name}_{config.standard}_{slices}".replace("-", "_").lower(),
        inputs=inputs,
        outputs=outputs,
        settings={"jobs": len(jobs), "commands": 0},
        observe=["cycles", *COUNTERS, *IMPORT_COUNTS],
        stall=stall,
        seed=seed,
        reset_at=reset_at,
        waves=waves,
        max_cycles=20_000 * len(jobs) + 1_000 * sum(prompt.tokens for prompt in golden.prompts),
        sources=DEVICE_SOURCES,
        plusargs=images,
        arguments=["--unroll-count", "2"],
        driver=driver,
    )
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    wrong, returned = host.check(run)
    require_none(wrong + differences(golden, run))
    words = run.outputs["register"]
    counters = {
        name: sum(words[place + len(registers) * i] for i in range(slices))
        for place, name in enumerate(registers)
    }
    return SystemGeneration(
        run,
        config,
        golden,
        {name: run.observed[name] for name in COUNTERS},
        counters,
        {name: run.observed[name] for name in IMPORT_COUNTS},
        returned,
    )
