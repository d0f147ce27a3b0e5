"""Measure the area study: ``python -m hw.study``, some minutes."""

import json
from pathlib import Path

import click
from rich.console import Console
from rich.progress import track

from hw.study.points import CONFIG, points
from hw.study.report import document
from hw.tools.area import measure

REPOSITORY = Path(__file__).parents[2]
RESULTS = REPOSITORY / "results" / "study.json"
DOCUMENT = REPOSITORY / "docs" / "area_study.md"


@click.command()
def main() -> None:
    """Synthesise every point; write results/study.json and docs/area_study.md."""
    console = Console(highlight=False)
    work = REPOSITORY / "build" / "area" / "study"
    found = []
    for point in track(list(points()), "points", console=console):
        report = measure(point.make(), point.module, work)
        found.append(
            {
                "question": point.question,
                "unit": point.unit,
                "form": point.form,
                "logic": report.logic,
                "combinational": report.combinational,
                "flip_flops": report.flip_flops,
                "levels": report.levels,
                "memory_bits": report.memory_bits,
            }
        )
    facts = {
        "label": "measured: synthesis with hw/tools/gates.lib, in NAND2 equivalents",
        "preset": CONFIG.name,
        "config_hash": f"{CONFIG.config_hash:#010x}",
        "points": found,
    }
    RESULTS.write_text(json.dumps(facts, indent=1) + "\n")
    DOCUMENT.write_text(document(facts))
    console.print(f"{RESULTS}, {DOCUMENT}")


if __name__ == "__main__":
    main()
