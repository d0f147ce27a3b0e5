"""Measure caches of constant size: ``python -m tb.bench.rce``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import track

from hw.config import PRESETS, AttentionConfig, preset
from hw.constants import DECAY_FRACTION
from hw.tools.area import AreaError
from tb.bench.generation.measure import LATENCY
from tb.bench.generation.table import markdown_table
from tb.bench.keep import keep
from tb.bench.options import failing, publish_option, run_options
from tb.bench.rce.energy import PUBLISHED_SHARE, SOURCES, shares, step_energy
from tb.bench.rce.measure import (
    BATCHES,
    FULL_STEPS,
    RATIOS,
    measure_area,
    measure_batch,
    measure_length,
)
from tb.bench.rce.table import batch_rows, document, length_rows
from tb.generation.rce import with_slots
from tb.harness import HarnessError
from tb.harness.files import REPOSITORY

RESULT = REPOSITORY / "results" / "rce.json"
DOCUMENT = REPOSITORY / "docs" / "rce.md"
LABELS = {
    "measured": "counted in simulation",
    "derived": "arithmetic on counts and record sizes",
    "energy": "modelled: events times energies from tables",
    "area": "synthesised, NAND2 equivalents",
}


def design(config: AttentionConfig, seed: int) -> dict[str, Any]:
    """What was measured."""
    return {
        "preset": config.name,
        "config_hash": f"0x{config.config_hash:08x}",
        "slots": config.slots,
        "rule": config.slot_rule,
        "decay": config.slot_decay / (1 << DECAY_FRACTION),
        "seed": seed,
        "tensors": "tensors captured from the trained model"
        if config.name.startswith("lm")
        else "synthetic tensors",
    }


def energies(config: AttentionConfig) -> dict[str, Any]:
    """Of both rules."""
    found: dict[str, Any] = {"sources": SOURCES, "published_share": PUBLISHED_SHARE}
    for rule in ("score", "votes"):
        of_rule = replace(config, slot_rule=rule)
        found[rule] = {"parts": step_energy(of_rule), "shares": shares(of_rule)}
    return found


@click.command()
@click.option("--preset", "name", type=click.Choice(list(PRESETS)), default="lm", show_default=True)
@run_options("rce.json and .md")
@publish_option
def main(name: str, seed: int, publish: bool, output: Path) -> None:
    """Simulate sequences and batches, synthesise the units; write JSON and a page."""
    console = Console(highlight=False)
    config = with_slots(preset(name))
    with failing(console, HarnessError, AreaError):
        batches = [
            measure_batch(config, caches, seed)
            for caches in track(BATCHES, "batches", console=console)
        ]
        lengths = [
            measure_length(config, ratio, seed)
            for ratio in track(RATIOS, "lengths", console=console)
        ]
        area = measure_area(config, REPOSITORY / "build" / "area")
    facts = {
        "labels": LABELS,
        "design": design(config, seed),
        "latency": LATENCY,
        "full_steps": FULL_STEPS,
        "lengths": lengths,
        "batches": batches,
        "energy": energies(config),
        "area": area,
    }
    written = keep(facts, document, output=output, results=RESULT, docs=DOCUMENT, publish=publish)
    console.print(markdown(lengths, batches), soft_wrap=True)
    console.print(written)


def markdown(lengths: list[dict[str, Any]], batches: list[dict[str, Any]]) -> str:
    """The tables of what was simulated."""
    return "\n".join(markdown_table(rows) for rows in (length_rows(lengths), batch_rows(batches)))


if __name__ == "__main__":
    main()
