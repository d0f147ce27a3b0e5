"""What a generation moved, as JSON and as a summary to read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from golden.generation import Generation
from hw.config import BEAT_BYTES
from hw.formats import KVFormat, Mode
from tb.generation.runner import GenerationRun
from tb.harness.files import REPOSITORY

REPORTS = REPOSITORY / "build" / "reports"
NAME = "generate_kv"


def dense_bytes(golden: Generation) -> int:
    """Bytes of the same steps with 16-bit K and V: all tokens read, the newest one written."""
    layout, token = KVFormat(golden.config), 2 * golden.config.head_dim * Mode.DENSE16.code_bytes
    sizes = [layout.region_bytes(step.context, Mode.DENSE16) for step in golden.steps]
    return sum(sum(size.values()) + token for size in sizes)


def make_report(golden: Generation, found: GenerationRun, source: str, seed: int) -> dict[str, Any]:
    """Figures of a run: measured (a counter) or derived (arithmetic on one)."""
    config, counts = golden.config, found.counts
    dense = dense_bytes(golden)
    read, written = (BEAT_BYTES * counts[f"beats_{way}"] for way in ("read", "written"))
    cycles = found.run.cycles
    return {
        "test": NAME,
        "preset": config.name,
        "config_hash": f"0x{config.config_hash:08x}",
        "seed": seed,
        "tensors": source,
        "measured": {
            "steps": found.compared,
            "sequences": len(golden.placements),
            "cycles": cycles,
            "bytes_read": read,
            "bytes_written": written,
            **counts,
        },
        "derived": {
            "dense16_bytes": dense,
            "traffic": (read + written) / dense,
            "written_share": written / (read + written),
            "cycles_per_step": cycles / found.compared,
            "cycles_per_window": counts["busy"] / max(1, counts["windows_closed"]),
            "closing_share_of_cycles": counts["busy"] / cycles,
        },
    }


def print_rows(rows: dict[str, str], console: Console) -> None:
    """A summary: what it is about, and the text beside it."""
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, text in rows.items():
        table.add_row(name, text)
    console.print(table)


def print_summary(report: dict[str, Any], path: Path, console: Console) -> None:
    """The verdict and the figures."""
    measured, derived = report["measured"], report["derived"]
    rows = {
        "verdict": f"[bold green]PASSED[/]  {NAME}: sequences that grow, written by the hardware",
        "tensors": report["tensors"],
        "compared": f"{measured['steps']} steps of {measured['sequences']} sequences, outputs and "
        "memory after each: 0 differences",
        "design": f"preset {report['preset']}, config hash {report['config_hash']}",
        "seed": str(report["seed"]),
        "cycles": f"{measured['cycles']:,} (measured), {derived['cycles_per_step']:,.0f} a step",
        "windows": f"{measured['windows_closed']} closed, {derived['cycles_per_window']:,.0f} "
        f"cycles each, {derived['closing_share_of_cycles']:.1%} of the time beside other work",
        "traffic": f"{measured['bytes_read']:,} bytes read and {measured['bytes_written']:,} "
        f"written, {derived['traffic']:.1%} of dense 16-bit K and V",
        "writes": f"{derived['written_share']:.2%} of all bytes",
        "report": str(path.relative_to(REPOSITORY)),
    }
    print_rows(rows, console)


def write_report(report: dict[str, Any]) -> Path:
    """Write the JSON file, and return where it is."""
    path = REPORTS / f"{report['test']}-{report['preset']}-{report['seed']}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1) + "\n")
    return path
