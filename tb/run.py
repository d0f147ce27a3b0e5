"""Run one integration test on the Verilated design: ``python -m tb.run attention_fused``."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape

from golden.memory_image.bundle import GoldenDataError
from golden.memory_image.image import MemoryImageError
from golden.memory_image.pages import PagesError
from golden.user_tensors import DEFAULT_JOBS, UserTensorsError, load_tensors
from hw.accelerator_config import AXI4, system_core
from hw.config import AttentionConfig, ConfigError
from hw.config_file import DEFAULT_PRESET, choose_config
from hw.formats import Mode, modes
from hw.memory.dram import standard_names
from hw.placement import SLICES
from tb.accelerator.runner import run_accelerator, system_config
from tb.attention.catalogue import SCENARIOS, Scenario, user_scenario
from tb.attention.golden_data import golden_data
from tb.attention.report import make_report, print_summary, write_report
from tb.attention.runner import run_attention
from tb.generation import rce, rce_report, system_report
from tb.generation import report as generation_report
from tb.generation.runner import GenerationRun, run_generation
from tb.generation.scenario import make_generation
from tb.generation.system import SystemGeneration, generation_system, run_in_system
from tb.harness import DRIVERS, Driver, DriverError, HarnessError, Run
from tb.harness.driver import check_driver

_LARGEST_SEED = 2**31 - 1
#: A job id has 16 bits.
_MOST_JOBS = 2**16 - 1
#: The test whose caches the hardware writes, by itself or as a part of an accelerator.
GENERATE = "generate_kv"
#: That of caches of constant size, by itself or as a part of an accelerator.
RCE = "rce"
#: The test that runs on tensors of the user's choice.
_OPEN_TEST = "attention_fused"
#: The memory that answers at once, and the DRAM that is simulated unless another is asked for.
IDEAL = "ideal"
DEFAULT_DRAM = "hbm2-2000"


class Refused(ValueError):
    """Options that do not go together."""


_REFUSALS = (ConfigError, UserTensorsError, MemoryImageError, PagesError, DriverError, Refused)


@click.command()
@click.argument("test", metavar="TEST", type=click.Choice([*SCENARIOS, GENERATE, RCE]))
@click.option("--preset", metavar="NAME", help=f"Named configuration, else {DEFAULT_PRESET}.")
@click.option(
    "--config", "config_file", type=click.Path(path_type=Path), help="Configuration in TOML."
)
@click.option(
    "--kv",
    type=click.Path(path_type=Path),
    help=f"Tensors key, value and query for {_OPEN_TEST}, in safetensors.",
)
@click.option(
    "--jobs",
    type=click.IntRange(1, _MOST_JOBS),
    help=f"Most KV heads to take from the tensors, else {DEFAULT_JOBS}.",
)
@click.option(
    "--mode",
    type=click.Choice([mode.name.lower() for mode in Mode]),
    help="What the cache holds, else kvo; the mixed and the fault test have a choice of their own.",
)
@click.option(
    "--memory",
    type=click.Choice([IDEAL, *standard_names(), AXI4]),
    help=f"What answers the core: an ideal memory, a DRAM (else {DEFAULT_DRAM} for {_OPEN_TEST}), "
    f"or with {AXI4} a memory behind AXI4 masters.",
)
@click.option(
    "--slices",
    type=click.Choice([str(number) for number in SLICES]),
    default="1",
    show_default=True,
    help=f"Cores and channels; not with {IDEAL}.",
)
@click.option(
    "--steps",
    type=click.IntRange(1),
    help=f"Steps of {RCE}, else {rce.USUAL} times the slots.",
)
@click.option("--seed", type=click.IntRange(0, _LARGEST_SEED), default=1, show_default=True)
@click.option("--waves", is_flag=True, help="Record a waveform and print how to view it.")
@click.option(
    "--driver",
    type=click.Choice(DRIVERS),
    default=DRIVERS[0],
    show_default=True,
    help="Who toggles the clock: cocotb, or a C++ program for long runs, which records no waves.",
)
def main(
    test: str,
    preset: str | None,
    config_file: Path | None,
    kv: Path | None,
    jobs: int | None,
    mode: str | None,
    memory: str | None,
    slices: str,
    steps: int | None,
    seed: int,
    waves: bool,
    driver: Driver,
) -> None:
    """Run TEST, compare it with the golden twin, write a report and show a summary."""
    console = Console(highlight=False)
    try:
        check_driver(driver, waves=waves)
        config = choose_config(preset, config_file)
        if test != RCE and steps is not None:
            raise Refused(f"a number of steps goes with {RCE} only, not with {test}")
        if test in (GENERATE, RCE):
            alone: dict[str, object] = {"kv": kv, "jobs": jobs, "mode": mode}
            in_system = memory not in (None, IDEAL)
            if memory == AXI4:
                raise Refused(f"memory must be {IDEAL} or a DRAM standard with {test}, not {AXI4}")
            if not in_system:
                alone["slices"] = None if slices == "1" else slices
            _refuse_with_generation(test, alone)
            if test == RCE:
                system_memory = memory if in_system else None
                _constant_size(
                    config, steps, system_memory, int(slices), seed, waves, driver, console
                )
            elif memory is not None and in_system:
                _generate_in_system(config, memory, int(slices), seed, waves, driver, console)
            else:
                _generate(config, seed, waves, driver, console)
            return
        scenario = _scenario(test, config, kv, jobs)
        if mode is not None and not scenario.modal:
            raise Refused(f"a mode goes with other tests than {test}, which has its own choice")
        chosen = Mode[(mode or Mode.KVO.name).upper()]
        if chosen not in modes(config):
            raise Refused(f"slots must be above 0 for mode {mode}, not {config.slots}")
        memory = memory or (DEFAULT_DRAM if test == _OPEN_TEST else IDEAL)
        if memory == IDEAL:
            if slices != "1":
                raise Refused(f"slices must be 1 with the {IDEAL} memory, not {slices}")
            path, data = golden_data(scenario, config, seed, chosen)
            run = run_attention(
                config,
                data,
                seed=seed,
                stall=scenario.stall,
                memory=scenario.memory,
                waves=waves,
                driver=driver,
            )
        else:
            system = system_config(config, slices=int(slices), standard=memory)
            config = system.mmu.attention
            path, data = golden_data(scenario, config, seed, chosen)
            run = run_accelerator(
                system, data, seed=seed, stall=scenario.stall, waves=waves, driver=driver
            )
    except _REFUSALS as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
    except (GoldenDataError, HarnessError) as error:
        console.print(f"[bold red]FAILED[/]  {test}: {escape(str(error))}")
        sys.exit(1)
    report = make_report(scenario, config, data, run, path, chosen)
    print_summary(report, write_report(report), console)
    if waves and run.directory is not None:
        console.print(f"waves: gtkwave {run.directory / 'dump.fst'}")
    sys.exit(0 if report["passed"] else 1)


def _refuse_with_generation(test: str, options: Mapping[str, object]) -> None:
    for name, value in options.items():
        if value is not None:
            raise Refused(f"{name} goes with other tests than {test}")


def _generate(
    config: AttentionConfig, seed: int, waves: bool, driver: Driver, console: Console
) -> None:
    golden, source = make_generation(config, seed)
    found = run_generation(golden, seed=seed, waves=waves, driver=driver)
    report = generation_report.make_report(golden, found, source, seed)
    generation_report.print_summary(report, generation_report.write_report(report), console)
    _tell_waves(found.run, waves, console)


def _generate_in_system(
    config: AttentionConfig,
    memory: str,
    slices: int,
    seed: int,
    waves: bool,
    driver: Driver,
    console: Console,
) -> None:
    golden, source = make_generation(system_core(config), seed, imported=True)
    system = generation_system(golden, slices=slices, standard=memory)
    found = run_in_system(golden, system, seed=seed, waves=waves, driver=driver)
    report = system_report.make_report(found, source, seed)
    system_report.print_summary(report, generation_report.write_report(report), console)
    _tell_waves(found.run, waves, console)


def _constant_size(
    config: AttentionConfig,
    steps: int | None,
    memory: str | None,
    slices: int,
    seed: int,
    waves: bool,
    driver: Driver,
    console: Console,
) -> None:
    config = rce.with_slots(config)
    if memory is not None:
        config = rce.in_system(config)
    scenario = rce.make_rce(config, steps or rce.USUAL * config.slots, seed)
    golden = scenario.golden
    found: GenerationRun | SystemGeneration
    if memory is None:
        found = run_generation(golden, seed=seed, waves=waves, driver=driver)
    else:
        system = generation_system(golden, slices=slices, standard=memory)
        found = run_in_system(golden, system, seed=seed, waves=waves, driver=driver)
    report = rce_report.make_report(scenario, found, rce.check(scenario, found), seed)
    rce_report.print_summary(report, generation_report.write_report(report), console)
    _tell_waves(found.run, waves, console)


def _tell_waves(run: Run, waves: bool, console: Console) -> None:
    if waves and run.directory is not None:
        console.print(f"waves: gtkwave {run.directory / 'dump.fst'}")


def _scenario(test: str, config: AttentionConfig, kv: Path | None, jobs: int | None) -> Scenario:
    if kv is None:
        if jobs is not None:
            raise Refused("a number of jobs goes with a file of tensors only")
        return SCENARIOS[test]
    if test != _OPEN_TEST:
        raise Refused(f"a file of tensors goes with {_OPEN_TEST} only, not with {test}")
    return user_scenario(load_tensors(kv, config), jobs or DEFAULT_JOBS)


if __name__ == "__main__":
    main()
