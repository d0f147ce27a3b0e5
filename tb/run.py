"""Run one integration test on the Verilated design: ``python -m tb.run attention_fused``."""

from __future__ import annotations

import sys

import click
from rich.console import Console

from golden.memory_image.bundle import GoldenDataError
from hw.config import PRESETS, preset
from tb.attention.catalogue import SCENARIOS
from tb.attention.golden_data import golden_data
from tb.attention.report import make_report, print_summary, write_report
from tb.attention.runner import run_attention
from tb.harness import HarnessError

_LARGEST_SEED = 2**31 - 1


@click.command()
@click.argument("test", type=click.Choice(list(SCENARIOS)))
@click.option("--preset", "preset_name", type=click.Choice(list(PRESETS)), default="lm")
@click.option("--seed", type=click.IntRange(0, _LARGEST_SEED), default=1, show_default=True)
@click.option("--waves", is_flag=True, help="Record a waveform and print how to view it.")
def main(test: str, preset_name: str, seed: int, waves: bool) -> None:
    """Run TEST, compare it with the golden twin, write a report and show a summary."""
    console = Console(highlight=False)
    scenario, config = SCENARIOS[test], preset(preset_name)
    try:
        path, data = golden_data(scenario, config, seed)
        run = run_attention(
            config, data, seed=seed, stall=scenario.stall, memory=scenario.memory, waves=waves
        )
    except (GoldenDataError, HarnessError) as error:
        console.print(f"[bold red]FAILED[/]  {test}: {error}", markup=True)
        sys.exit(1)
    report = make_report(scenario, config, data, run, path)
    print_summary(report, write_report(report), console)
    if waves and run.directory is not None:
        console.print(f"waves: gtkwave {run.directory / 'dump.fst'}")
    sys.exit(0 if report["passed"] else 1)


if __name__ == "__main__":
    main()
