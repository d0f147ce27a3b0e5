"""What a generation in a system moved at the DRAM pins, as JSON and as a summary to read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from tb.generation.report import NAME, dense_bytes, print_rows
from tb.generation.system import SystemGeneration
from tb.harness.files import REPOSITORY


def figures(found: SystemGeneration) -> dict[str, Any]:
    """Of the steps alone, from the first to the last completion: measured, and derived from it."""
    moved, golden = found.dram["bytes_moved"], found.golden
    kinds, dense = found.bytes_by_kind, dense_bytes(golden)
    return {
        "measured": {
            "steps": len(golden.steps),
            "sequences": len(golden.placements),
            "windows": sum(step.closes for step in golden.steps),
            "prompt_tokens": sum(prompt.tokens for prompt in golden.prompts),
            "cycles": found.cycles,
            # Of all prompts but the first.
            "imported_tokens": sum(prompt.tokens for prompt in golden.prompts[1:]),
            **found.imports,
            "dram": found.dram,
            "bytes": kinds,
            "pages_grown": found.counters["mmu_grower.pages_grown"],
            "pages_returned": sum(found.returned.values()),
        },
        "derived": {
            "dense16_bytes": dense,
            "traffic": moved / dense,
            "cut": 1 - moved / dense,
            "written_share": kinds["cache_written"] / moved,
            "tables_share": (kinds["tables_read"] + kinds["tables_written"]) / moved,
            "bytes_per_step": moved / len(golden.steps),
            "cycles_per_step": found.cycles / len(golden.steps),
        },
    }


def make_report(found: SystemGeneration, source: str, seed: int) -> dict[str, Any]:
    """`figures` with what they are of."""
    config = found.golden.config
    return {
        "test": f"{NAME}-{found.config.standard}-{found.config.slices}",
        "preset": config.name,
        "config_hash": f"0x{config.config_hash:08x}",
        "system": found.config.describe(),
        "seed": seed,
        "tensors": source,
        **figures(found),
    }


def print_summary(report: dict[str, Any], path: Path, console: Console) -> None:
    """The verdict and the figures."""
    measured, derived, system = report["measured"], report["derived"], report["system"]
    kinds = measured["bytes"]
    rows = {
        "verdict": f"[bold green]PASSED[/]  {NAME}: sequences that live and grow in an accelerator",
        "tensors": report["tensors"],
        "compared": f"{measured['steps']} steps of {measured['sequences']} sequences, "
        f"{measured['prompt_tokens']} tokens imported before: 0 differences",
        "design": f"preset {report['preset']}, config hash {report['config_hash']}",
        "memory": f"{system['standard']}, {system['slices']} channels, pages of "
        f"{system['page_bytes']} bytes, {measured['pages_grown']} taken by the steps, "
        f"{measured['pages_returned']} returned in the end",
        "seed": str(report["seed"]),
        "cycles": f"{measured['cycles']:,} (measured), {derived['cycles_per_step']:,.0f} a step, "
        f"{measured['windows']} windows closed",
        "traffic": f"{measured['dram']['bytes_moved']:,} bytes at the DRAM pins, "
        f"{derived['traffic']:.1%} of dense 16-bit K and V",
        "of them": f"cache {kinds['cache_read']:,} read, {kinds['cache_written']:,} written "
        f"({derived['written_share']:.2%}); tables {kinds['tables_read']:,} read, "
        f"{kinds['tables_written']:,} written; over-fetch {kinds['over_fetch']:,}",
        "report": str(path.relative_to(REPOSITORY)),
    }
    print_rows(rows, console)
