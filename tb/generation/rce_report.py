"""What caches of constant size did in the test ``rce``, as JSON and as a summary to read."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console

from hw.constants import DECAY_FRACTION
from tb.generation.rce import Scenario, Trace
from tb.generation.report import print_rows
from tb.generation.runner import GenerationRun
from tb.generation.system import SystemGeneration
from tb.harness.files import REPOSITORY

NAME = "rce"


def make_report(
    scenario: Scenario, found: GenerationRun | SystemGeneration, trace: Trace, seed: int
) -> dict[str, Any]:
    """Figures of a run: measured (a counter) or derived (arithmetic on golden data)."""
    golden = scenario.golden
    config = golden.config
    longest = max(step.placed["position"] + 1 for step in golden.steps if step.placed)
    ((read, written),) = trace.full if len(trace.full) == 1 else ((0, 0),)
    test, system, of_pins = NAME, {}, {}
    if isinstance(found, SystemGeneration):
        test += f"-{found.config.standard}-{found.config.slices}"
        system = {"system": found.config.describe(), "slot_area": found.config.mmu.slot_area.bytes}
        of_pins = {"dram": found.dram, "bytes": found.bytes_by_kind}
    return {
        "test": test,
        "preset": config.name,
        "config_hash": f"0x{config.config_hash:08x}",
        "seed": seed,
        "tensors": scenario.source,
        **system,
        "cache": {
            "slots": config.slots,
            "sinks": config.slot_sinks,
            "recent": config.slot_recent,
            "rule": config.slot_rule,
            "decay": config.slot_decay / (1 << DECAY_FRACTION),
        },
        "measured": {
            "steps": found.compared,
            "caches": len(golden.placements),
            "cycles": found.cycles,
            "bytes_read": found.cache_bytes["read"],
            "bytes_written": found.cache_bytes["written"],
            **of_pins,
            "evictions": trace.evictions,
            "victims": trace.victims,
            "longest": longest,
        },
        "derived": {
            "ties": trace.ties,
            "ages": {
                "least": min(trace.ages),
                "median": median(trace.ages),
                "most": max(trace.ages),
            },
            "full_step": {"read": read, "written": written},
            "size_ratio": longest / config.slots,
            "lossless_steps": trace.lossless,
        },
    }


def print_summary(report: dict[str, Any], path: Path, console: Console) -> None:
    """The verdict and the figures."""
    measured, derived, cache = report["measured"], report["derived"], report["cache"]
    ages, full = derived["ages"], derived["full_step"]
    compared = "slots, victims, outputs and memory after each"
    of_system = {}
    if "system" in report:
        system, kinds = report["system"], measured["bytes"]
        compared = "slots, victims and outputs of each"
        of_system = {
            "memory": f"{system['standard']}, {system['slices']} channels, each with "
            f"{report['slot_area']:,} bytes of slots",
            "pins": f"{measured['dram']['bytes_moved']:,} bytes at the DRAM pins (measured): page "
            f"tables {kinds['tables_read'] + kinds['tables_written']:,}, over-fetch "
            f"{kinds['over_fetch']:,}",
        }
    rows = {
        "verdict": f"[bold green]PASSED[/]  {NAME}: caches of constant size",
        "tensors": report["tensors"],
        "compared": f"{measured['steps']} steps of {measured['caches']} caches; {compared}: 0 "
        "differences",
        "design": f"preset {report['preset']}, config hash {report['config_hash']}",
        **of_system,
        "seed": str(report["seed"]),
        "caches": f"{cache['slots']} slots, {cache['sinks']} first and {cache['recent']} newest "
        f"tokens stay, rule {cache['rule']}, lambda {cache['decay']:.4g}",
        "cycles": f"{measured['cycles']:,} (measured), "
        f"{measured['cycles'] / measured['steps']:,.0f} a step",
        "victims": f"{measured['evictions']} tokens left {measured['victims']} slots, after "
        f"{ages['least']} to {ages['most']} steps (median {ages['median']:.0f}); "
        f"ties in {derived['ties']} choices",
        "live": f"min(t, {cache['slots']}) tokens after each step, t up to {measured['longest']}: "
        f"{derived['size_ratio']:.1f} times the slots",
        "traffic": f"{measured['bytes_read']:,} bytes read and {measured['bytes_written']:,} "
        "written (measured), all of them accounted for",
        "full cache": f"a step reads {full['read']:,} and writes {full['written']:,} bytes, "
        "whatever its position",
        "no eviction": f"{derived['lossless_steps']} steps as of a cache that keeps all, "
        "then not (control)",
        "report": str(path.relative_to(REPOSITORY)),
    }
    print_rows(rows, console)
