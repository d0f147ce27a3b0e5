"""Run the accelerator on golden data, compare every word, and read the devices' counters."""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from golden.memory_image.bundle import Arrays
from golden.twin.kv_mmu import Reply
from hw.accelerator_config import AXI4, AcceleratorConfig, system_core
from hw.config import BEAT_BYTES, BURST_BYTES, AttentionConfig
from hw.formats import Status
from hw.memory.dram import load_standard
from hw.memory.kv_mmu.config import MmuConfig
from tb.accelerator.bench import AcceleratorBench
from tb.accelerator.placing import of_system, place_jobs
from tb.attention.runner import AttentionRun, compare
from tb.harness import Driver, DriverError, Stall, simulate
from tb.harness.files import BUILD_ROOT
from tb.memory.dram.device import COUNTERS, SOURCES
from tb.memory.dram.energy import modelled_energy
from tb.memory.dram.image import arrange

DEVICE_SOURCES = [source for source in SOURCES if source.stem != "dram_player"]
_run_numbers = itertools.count()


def system_config(
    config: AttentionConfig,
    *,
    slices: int = 1,
    standard: str = "hbm2-2000",
    staging_bytes: int | None = None,
) -> AcceleratorConfig:
    """An accelerator with cores of ``config`` and room for the tests' caches in each channel.

    Parameters
    ----------
    config
        A preset; its ``memory_bytes`` do not matter.
    slices, standard
        See `AcceleratorConfig`.
    staging_bytes
        Of a system that writes its caches; None for one that does not.
    """
    small = config.max_context <= 1024
    size = 1 << 30 if standard == AXI4 else min(1 << 32, load_standard(standard).bytes)
    page_bytes, pages = (1024, 2048) if small else (4096, 8192)
    mmu = MmuConfig(
        attention=system_core(config),
        sequences=64,
        page_bytes=page_bytes,
        pages=pages,
        page_address=0,
        table_address=pages * page_bytes,
        # Of a small one the same for all, so that its slice is the same module on all of them.
        channel_bytes=1 << 28 if small else size,
        writes=staging_bytes is not None,
        staging_bytes=staging_bytes or 0,
    )
    return AcceleratorConfig(mmu=mmu, slices=slices, standard=standard)


@dataclass(frozen=True, kw_only=True)
class SystemRun(AttentionRun):
    """One simulation of the accelerator.

    ``cycles`` go from the first job to the last completion; ``counters`` are summed over the
    slices; ``memory`` counts at the DRAM pins: beats, and read and write commands as requests.
    """

    #: Of the accelerator.
    config: AcceleratorConfig
    #: What the devices counted in these cycles, all together; nothing with AXI4 masters.
    dram: dict[str, int]

    @property
    def slices(self) -> int:
        """Slices of the accelerator."""
        return self.config.slices

    @property
    def memory_name(self) -> str:
        """The DRAM standard, or ``axi4``."""
        return self.config.standard

    @property
    def counted_at(self) -> str:
        """Where the bytes were counted."""
        return "AXI4 ports" if self.config.has_axi else "DRAM pins"

    @property
    def measured(self) -> dict[str, Any]:
        """What the devices counted, and what the bytes beyond the formula are."""
        tables = BURST_BYTES * self.counters["arbiter.table_bursts"]
        if self.config.has_axi:
            return {"table_bytes": tables}
        burst = load_standard(self.config.standard).burst_bytes
        asked = BURST_BYTES * (
            self.counters["arbiter.cache_bursts"]
            + self.counters["arbiter.table_bursts"]
            + self.counters["arbiter.table_write_bursts"]
            + self.counters["arbiter.cache_write_bursts"]
        )
        return {
            "dram": self.dram | {"burst_bytes": burst},
            "table_bytes": tables,
            "over_fetch_bytes": self.dram["bytes_moved"] - asked,
        }

    @property
    def modelled(self) -> dict[str, Any]:
        """The energy of the DRAM, where there is a table."""
        energy = modelled_energy(
            self.config.standard, self.dram, clocks=self.cycles, channels=self.slices
        )
        return {} if energy is None else {"dram_energy_pj": energy}


@cache
def accelerator_bench(config: AcceleratorConfig) -> AcceleratorBench:
    """One component per configuration, so that all runs share its elaboration and build."""
    return AcceleratorBench(config)


def run_accelerator(
    config: AcceleratorConfig,
    data: Arrays,
    *,
    seed: int,
    stall: Stall = 0.0,
    reset_at: int | None = None,
    waves: bool = False,
    max_cycles: int = 20_000_000,
    driver: Driver = "cocotb",
    axi_pause: float = 0.0,
) -> SystemRun:
    """Simulate the accelerator on golden arrays of its core and compare what comes out.

    The parameters are those of `run_attention`, for ``config`` is the accelerator's; with AXI4
    masters, ``axi_pause`` is the share of cycles in which each channel of a memory rests.

    Raises
    ------
    DriverError
        The driver is not cocotb, in which the memories behind AXI4 masters live.
    SimulationError
        It hangs, or the DRAM device sees a rule broken.
    """
    core = config.mmu.attention
    if config.has_axi and driver != "cocotb":
        raise DriverError(f"the driver {driver!r} has no memory for {AXI4}: take 'cocotb'")
    data = of_system(data)
    placed = place_jobs(config, data)
    bench = accelerator_bench(config)
    registers = bench.registers
    jobs = len(placed.jobs)
    ran = np.array([not Status(int(status)).refused for status in data["status"]])
    commands = [[command.pack() for command in image.commands] for image in placed.channels]
    folder = BUILD_ROOT / "runs" / f"accelerator-{os.getpid()}-{next(_run_numbers)}"
    images = write_images(folder, config, [placed.contents(i) for i in range(config.slices)])
    if config.has_axi:
        images += [f"+axi_bytes={config.mmu.channel_bytes}", f"+axi_pause={axi_pause}"]
        images += [f"+axi_seed={seed}"]
    counted = () if config.has_axi else COUNTERS
    streams = {f"command__{i}": own for i, own in enumerate(commands)}
    answers = {f"reply__{i}": len(own) for i, own in enumerate(commands)}
    run = simulate(
        bench,
        name=f"accelerator_{core.name}_{config.standard}_{config.slices}".replace("-", "_").lower(),
        inputs={
            "job": placed.jobs,
            "query": [
                int.from_bytes(beat.tobytes(), "little") for job in data["query"] for beat in job
            ],
            **streams,
        },
        outputs={
            "selection": len(data["selection"]),
            "output": int(ran.sum()) * core.rows * core.head_dim // 4,
            "completion": jobs,
            "register": len(registers) * config.slices,
            **answers,
        },
        settings={"jobs": jobs, "commands": sum(map(len, commands))},
        observe=["cycles", *counted],
        stall=stall,
        seed=seed,
        reset_at=reset_at,
        max_cycles=max_cycles,
        sources=[] if config.has_axi else DEVICE_SOURCES,
        plusargs=images,
        arguments=["--unroll-count", "2"],
        waves=waves,
        driver=driver,
        driver_module="tb.accelerator.axi_driver" if config.has_axi else None,
    )
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    for i, image in enumerate(placed.channels):
        replies = [Reply.unpack(payload) for payload in run.outputs[f"reply__{i}"]]
        assert replies == image.replies, f"replies of slice {i}"
    values = np.array(run.outputs["register"], dtype=object).reshape(config.slices, -1)
    dram = {name: run.observed[name] for name in counted}
    counters = dict(zip(registers, values.sum(axis=0).tolist(), strict=True))
    if config.has_axi:
        beats = counters["axi.read_words"] + counters["axi.write_words"]
        requests = counters["axi.read_bursts"] + counters["axi.write_bursts"]
    else:
        beats = dram["bytes_moved"] // BEAT_BYTES
        requests = dram["reads"] + dram["writes"]
    return SystemRun(
        comparison=compare(core, data, run, ran),
        cycles=run.observed["cycles"],
        counters=counters,
        memory={"beats": beats, "requests": requests},
        seed=run.seed,
        directory=run.directory,
        driver=run.driver,
        speed=run.speed,
        config=config,
        dram=dram,
    )


def write_images(folder: Path, config: AcceleratorConfig, contents: list[bytes]) -> list[str]:
    """Write the contents of the channels; return the arguments that load them."""
    folder.mkdir(parents=True)
    arguments = []
    for i, content in enumerate(contents):
        path = folder / f"channel{i}.bin"
        if config.has_axi:
            path.write_bytes(content)
            arguments.append(f"+axi{i}_image={path}")
            continue
        unit, channel = divmod(i, config.channels_per_controller)
        path.write_bytes(arrange(content, config.controller(1).address_map))
        arguments.append(f"+dram{unit}_image{channel}={path}")
    return arguments
