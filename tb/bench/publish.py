"""Keep a benchmark's figures: ``python -m tb.bench.publish`` after ``make bench``.

Copies ``build/bench/bench.json`` to ``results/`` and writes docs/performance.md and its picture
from it, so that no figure of the document is typed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from hw.config import preset
from tb.bench.picture import draw
from tb.bench.table import markdown_table
from tb.harness.files import REPOSITORY

RESULTS = REPOSITORY / "results" / "bench.json"
DOCUMENT = REPOSITORY / "docs" / "performance.md"
PICTURE = REPOSITORY / "docs" / "performance.svg"

_TEXT = """# Performance

Made by `make bench` and `python -m tb.bench.publish` from `results/bench.json`; do not edit.
{jobs} jobs per point through one core and an ideal memory of 16 bytes per cycle and {latency}
cycles latency; every word is compared with the twin. `docs/attention_dram.md` has the figures at
the DRAM pins.

{table}
*Measured*: {measured}. *Derived*: {derived}.
Traffic: bytes at the memory port as a share of dense 16-bit K and V. Roofline: {roofline}.
Speed-up: over `dense16` at the same preset and context; its bound: {bound}.
The baseline's own roofline ratio is in its row.

![Cycles per job by what crossed the memory port in them](performance.svg)

Seeds and config hashes: {identity}.
"""


def document(facts: dict[str, Any]) -> str:
    """The text of docs/performance.md for the content of a bench.json."""
    points, labels = facts["points"], facts["labels"]
    designs = sorted({(p["preset"], p["config_hash"], p["seed"], p["tensors"]) for p in points})
    identity = "; ".join(
        f"`{name}` {config_hash}, seed {seed}, tensors {tensors}"
        for name, config_hash, seed, tensors in designs
    )
    return _TEXT.format(
        jobs=facts["jobs"],
        latency=facts["memory_latency"],
        table=markdown_table(points),
        measured=labels["measured"],
        derived=labels["derived"],
        roofline=labels["roofline_ratio"],
        bound=labels["bound_of_speedup"],
        identity=identity,
    )


def stale(facts: dict[str, Any]) -> list[str]:
    """Presets whose figures were measured with another configuration than today's."""
    return sorted(
        {
            p["preset"]
            for p in facts["points"]
            if p["config_hash"] != f"{preset(p['preset']).config_hash:#010x}"
        }
    )


@click.command()
@click.argument(
    "source", type=click.Path(path_type=Path), default=REPOSITORY / "build" / "bench" / "bench.json"
)
def main(source: Path) -> None:
    """Publish the figures of SOURCE, by default those of the latest ``make bench``."""
    text = source.read_text()
    facts = json.loads(text)
    RESULTS.write_text(text)
    DOCUMENT.write_text(document(facts))
    draw(facts["points"], PICTURE)
    click.echo(f"{RESULTS}, {DOCUMENT}, {PICTURE}")


if __name__ == "__main__":
    main()
