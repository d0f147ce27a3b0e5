"""What a run means: utilisation, traffic, what bound it; as JSON and as a summary to read."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from golden.memory_image.bundle import Arrays
from hw.config import BEAT_BYTES, DIGITS, AttentionConfig
from hw.formats import KVFormat, Mode, Status
from tb.attention.catalogue import Scenario
from tb.attention.runner import AttentionRun
from tb.harness.files import REPOSITORY
from tb.memory.dram.energy import per_bit

REPORTS = REPOSITORY / "build" / "reports"


def selected_groups(config: AttentionConfig, data: Arrays) -> list[int]:
    """Per job of golden data, the value groups with a selected chunk."""
    ends = data["selected"].cumsum().tolist()
    layout = KVFormat(config)
    return [
        layout.selected_groups(data["selection"][start:end].tolist())
        for start, end in pairwise([0, *ends])
    ]


def required_bytes(
    config: AttentionConfig, context: int, mode: Mode = Mode.KVO, groups: int | None = None
) -> float:
    """Bytes of the cache that one job must read by the method's formula: no padding, no blocks.

    ``groups`` is the number of value groups with a selected chunk; a dense cache has none.

    Raises
    ------
    ValueError
        ``groups`` is missing.
    """
    if mode != Mode.KVO:
        return 2 * config.head_dim * mode.code_bytes * context
    if groups is None:
        raise ValueError("groups must be given for a compressed cache")
    layout = KVFormat(config)
    closed = config.closed_tokens(context)
    chunks = closed // config.chunk
    selected = min(chunks, config.top_chunks)
    pair = 4
    key = config.head_dim * config.key_bits / 8 + config.groups * pair
    delta = layout.delta_elements * layout.delta_element_bits / 8
    if config.mask_scope == "chunk":
        delta += config.head_dim / 8
    value = config.head_dim * layout.value_channel_bits / 8
    tail_value = config.head_dim * config.tail_value_bits / 8 + 2
    chosen = selected * (delta + value) + groups * config.head_dim * pair
    return chunks * key + chosen + (context - closed) * (key + tail_value)


def useful_digits(
    config: AttentionConfig, counters: dict[str, int], mode: Mode = Mode.KVO
) -> float:
    """Digits of two bits that met an operand they had to meet, over the whole run."""
    kept_per_chunk = config.value_keep * config.chunk / config.value_group
    # Of long chunks a step holds two channels, of large groups half; always one digit of a code
    # and two of a base.
    value_digits = 4 / max(1, config.chunk // 8) * (2 + kept_per_chunk)
    # Groups of 16 channels leave half a step of 4-bit codes empty.
    key_digits = (
        DIGITS if config.key_bits == 8 or mode != Mode.KVO else 2 * min(config.group, DIGITS // 2)
    )
    # Those of a group are spread over its steps.
    delta_digits = config.key_keep / max(1, config.group // 32)
    return (
        counters["operands.key_steps"] * key_digits
        + counters["operands.tail_value_steps"] * DIGITS
        + counters["operands.delta_steps"] * delta_digits
        + counters["operands.value_steps"] * value_digits
    )


def make_report(
    scenario: Scenario,
    config: AttentionConfig,
    data: Arrays,
    run: AttentionRun,
    golden: Path,
    mode: Mode = Mode.KVO,
) -> dict[str, Any]:
    """Every figure of a run, labelled: measured (a counter), derived (arithmetic on one), modelled.

    Shares of the time are those of a core and its memory, on average over the slices.
    """
    counters, cycles = run.counters, run.cycles
    core_cycles = cycles * run.slices
    jobs = [
        (int(context), Mode(mode), groups)
        for context, mode, status, groups in zip(
            data["context"],
            data["mode"],
            data["status"],
            selected_groups(config, data),
            strict=True,
        )
        if status == Status.OK
    ]
    required = sum(required_bytes(config, *job) for job in jobs)
    dense = sum(required_bytes(config, context, Mode.DENSE16) for context, *_ in jobs)
    # Cycles that the beats, and those that the digits alone would take.
    rooflines = {
        "memory port": required / BEAT_BYTES,
        "PE array": useful_digits(config, counters, mode) / DIGITS,
    }
    binding = max(rooflines, key=lambda side: rooflines[side])
    moved = run.memory["beats"] * BEAT_BYTES
    losses = {
        "the memory had no beat ready": counters["unpacker.unpacker_starved"],
        "the datapath held the beats back": counters["unpacker.unpacker_blocked"],
        "the selection was awaited": counters["sequencer.selection_wait"],
        "no job was there": counters["sequencer.sequencer_idle"],
    }
    port = run.memory["beats"] / core_cycles
    bound = "memory port" if port >= 0.9 else max(losses, key=lambda reason: losses[reason])
    comparison = run.comparison
    return {
        "test": scenario.name,
        "mode": scenario.mode_label(mode),
        "description": scenario.description,
        "passed": not comparison.differences and comparison.jobs == len(data["job"]),
        "tensors": scenario.source(config),
        "preset": config.name,
        "config_hash": f"{config.config_hash:#010x}",
        "config": config.describe(),
        "seed": run.seed,
        "golden": str(golden.relative_to(REPOSITORY)),
        "stall": scenario.stall,
        "memory": run.memory_name,
        "counted_at": run.counted_at,
        "slices": run.slices,
        "simulation": {
            "driver": run.driver,
            "cycles": run.speed.cycles,
            "seconds": run.speed.seconds,
            "cpu_seconds": run.speed.cpu_seconds,
            "cycles_per_second": run.speed.cycles_per_second,
            "cycles_per_cpu_second": run.speed.cycles_per_cpu_second,
        },
        "compared": {
            "jobs": comparison.jobs,
            "planned_jobs": len(data["job"]),
            "words": comparison.words,
            "chunks": comparison.chunks,
            "differences": comparison.differences,
        },
        "measured": {
            "cycles": cycles,
            "memory_bytes": moved,
            "memory_requests": run.memory["requests"],
            "counters": counters,
            **run.measured,
        },
        "derived": {
            "memory_utilisation": port,
            "useful_memory_utilisation": rooflines["memory port"] / core_cycles,
            "pe_utilisation": rooflines["PE array"] / core_cycles,
            "roofline_ratio": rooflines[binding] / core_cycles,
            "roofline_side": binding,
            "required_bytes": required,
            "dense16_bytes": dense,
            "traffic_at_the_port": moved / dense if dense else None,
            "bound": bound,
            "lost_cycles": losses,
        },
        "modelled": run.modelled,
    }


def write_report(report: dict[str, Any]) -> Path:
    """Write the report as JSON under ``build/reports`` and return its path."""
    REPORTS.mkdir(parents=True, exist_ok=True)
    names = ("test", "mode", "preset", "memory", "slices", "seed")
    path = REPORTS / f"{'-'.join(str(report[name]) for name in names)}.json"
    path.write_text(json.dumps(report, indent=2) + "\n")
    return path


def print_summary(report: dict[str, Any], path: Path, console: Console) -> None:
    """Show what a person wants to know of the run."""
    compared, measured, derived = report["compared"], report["measured"], report["derived"]
    simulation = report["simulation"]
    verdict = "[bold green]PASSED[/]" if report["passed"] else "[bold red]FAILED[/]"
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    # A long path goes on in the next line rather than losing its end.
    table.add_column(overflow="fold")
    table.add_row("verdict", f"{verdict}  {report['test']}: {report['description']}")
    table.add_row("tensors", report["tensors"])
    table.add_row(
        "compared",
        f"{compared['jobs']} of {compared['planned_jobs']} jobs, {compared['words']} words, "
        f"{compared['chunks']} selected chunks: {len(compared['differences'])} differences",
    )
    table.add_row(
        "design",
        f"preset {report['preset']}, mode {report['mode']}, config hash {report['config_hash']}",
    )
    table.add_row("seed", str(report["seed"]))
    table.add_row("cycles", f"{measured['cycles']:,} (measured)")
    table.add_row(
        "simulation",
        f"driver {simulation['driver']}, {simulation['cycles_per_second'] / 1e3:,.0f} k cycles/s "
        f"({simulation['cycles_per_cpu_second'] / 1e3:,.0f} k per CPU second, measured)",
    )
    table.add_row("memory", f"{report['memory']}, {report['slices']} slice(s)")
    table.add_row(
        "memory port",
        f"{derived['memory_utilisation']:.1%} busy, {derived['useful_memory_utilisation']:.1%} "
        f"required bytes (derived)",
    )
    table.add_row("PE array", f"{derived['pe_utilisation']:.1%} useful digits (derived)")
    table.add_row(
        "roofline",
        f"{derived['roofline_ratio']:.1%} of what the {derived['roofline_side']} allows (derived)",
    )
    if derived["traffic_at_the_port"] is not None:
        table.add_row(
            "traffic",
            f"{measured['memory_bytes']:,} bytes at the {report['counted_at']}, "
            f"{derived['traffic_at_the_port']:.1%} of dense 16-bit K and V",
        )
    if "dram_energy_pj" in report["modelled"]:
        energy = report["modelled"]["dram_energy_pj"]
        table.add_row(
            "DRAM energy",
            f"{sum(energy.values()) / 1e6:,.1f} uJ, "
            f"{per_bit(energy, derived['required_bytes']):.2f} pJ per required bit (modelled)",
        )
    table.add_row("bound by", derived["bound"])
    table.add_row("report", str(path.relative_to(REPOSITORY)))
    console.print(table)
    for difference in compared["differences"][:8]:
        console.print(f"  [red]{difference}[/]")
