"""Keep the DRAM figures: ``python -m tb.bench.dram --publish``, or this module after a run.

Copies them to ``results/dram.json`` and writes docs/dram_performance.md from it, so that no figure
of the document is typed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from hw.config import BURST_BYTES
from hw.memory.dram import load_standard
from tb.bench.dram.points import POINTS, DramPoint, controller_facts
from tb.bench.dram.table import idle_table, markdown_table
from tb.harness.files import REPOSITORY

RESULTS = REPOSITORY / "results" / "dram.json"
DOCUMENT = REPOSITORY / "docs" / "dram_performance.md"

_TEXT = """# DRAM performance

Made by `python -m tb.bench.dram --publish` (or `make bench`, then `python -m
tb.bench.dram.publish`) from `results/dram.json`; do not edit. The RTL controller of
`hw/memory/dram/controller` with its default parameters, refresh on, against the device model, which
stops at a broken rule; every word read is compared with the contents of the memory.

{table}
*Clocks* (DRAM clocks) to *refreshes* cover {intervals} tREFI of the command trace, from 7 tREFI on
since 6 refreshes of a bank may be put off; all pseudo-channels together, all busy; {measured}.
*Refreshes* are followed by those that came due. *Useful*: {useful_fraction}.
*Cap*: {cap}. *pJ/bit*: energy of the devices, as docs/dram.md models it, over the bits moved, all
of which were asked for, in the whole run; empty where no source of energies was found.
`results/dram.json` also has what the device's counters say of the whole run.

* `streaming`: requests of 512 B one behind the other, round and round in 1 MiB. `gather`: requests
  of 512 B from anywhere, aligned to 512 B.
* `mixed`: behind an arbiter, a client that streams, one that gathers and one that writes, each with
  a window of its own and weight 1. A request is written for every 19 that the readers send; of the
  bursts counted, {share}. What is written is not
  read back here; the controller's own tests do that.
* *Outstanding*: bursts of 32 B under way at most, per pseudo-channel and client.
{missed}
## Where the bus idled

Share of the clocks in which a data bus moved nothing, by the burst that ended the gap: *turn*, it
went the other way; *all-bank refresh*, all banks were refreshed since the burst before it;
*refreshed bank*, its row was opened right after a refresh of its bank; *activation*, it came as
soon as its row was open; *other*, none of these. This says what the bus waited for last, not why
there was nothing else to move.

{idle}
Seed {seed}. Hashes of controller parameters and standard: {identity}.
"""

_MISSED = """
Below the target:

{listed}
"""


def point_name(point: dict[str, Any]) -> str:
    """What a figure is called in a list."""
    return (
        f"{point['standard']} {point['case']} (gear {point['gear']}, "
        f"{point['outstanding_bursts']} outstanding)"
    )


def shortfall(point: dict[str, Any]) -> str:
    """A line on a figure that missed its target: what is known, and what is only likely."""
    standard = load_standard(point["standard"])
    line = f"* {point_name(point)}: {point['derived']['useful_fraction']:.4f}."
    if point["refresh"] != "per_bank":
        return line
    lasts = point["outstanding_bursts"] * BURST_BYTES // standard.peak_bytes_per_cycle
    blocked = standard["tRFCpb"] * standard.refresh_sets / standard["tREFI"]
    return (
        f"{line} A refresh blocks its bank for {standard['tRFCpb']} clocks, {blocked:.2f} "
        f"refreshes are under way on average, and the bursts outstanding last {lasts} "
        "clocks: likely, but not measured, requests that wait for such banks fill the window."
    )


def document(facts: dict[str, Any]) -> str:
    """The text of docs/dram_performance.md for the content of a dram.json."""
    points, labels = facts["points"], facts["labels"]
    missed = [shortfall(p) for p in points if p["derived"]["target_met"] is False]
    shares = [
        f"{p['derived']['write_share']:.1%} write and {p['derived']['streaming_share']:.1%} stream "
        f"({p['standard']})"
        for p in points
        if p["case"] == "mixed"
    ]
    hashes = {(p["standard"], p["gear"], p["controller"]["hash"]) for p in points}
    return _TEXT.format(
        table=markdown_table(points),
        idle=idle_table(points),
        intervals=facts["intervals"],
        missed=_MISSED.format(listed="\n".join(missed)) if missed else "",
        share=", ".join(shares),
        seed=", ".join(str(seed) for seed in sorted({p["seed"] for p in points})),
        identity="; ".join(f"`{name}` gear {gear} {key}" for name, gear, key in sorted(hashes)),
        **{name: labels[name] for name in ("measured", "useful_fraction", "cap")},
    )


def key(point: dict[str, Any]) -> tuple[Any, ...]:
    """What tells a figure from the others."""
    names = ("standard", "case", "gear", "refresh", "outstanding_bursts")
    return tuple(point[name] for name in names)


def _key_of(point: DramPoint) -> tuple[Any, ...]:
    refresh = controller_facts(point.config)["refresh"]
    return (point.standard, point.case, point.gear, refresh, point.outstanding)


def stale(facts: dict[str, Any]) -> list[str]:
    """Figures of `POINTS` that are missing or were measured with other parameters than today's."""
    hashes = {key(p): p["controller"]["hash"] for p in facts["points"]}
    return [
        " ".join(map(str, _key_of(point)))
        for point in POINTS
        if hashes.get(_key_of(point)) != controller_facts(point.config)["hash"]
    ]


def publish(*sources: Path) -> str:
    """Write `RESULTS` and `DOCUMENT` from parts of a run; return what was written."""
    parts = [json.loads(source.read_text()) for source in sources]
    found = {key(point): point for part in parts for point in part["points"]}
    places = {_key_of(point): place for place, point in enumerate(POINTS)}
    ordered = sorted(found.values(), key=lambda p: places.get(key(p), len(places)))
    facts = {**parts[0], "points": ordered}
    RESULTS.write_text(json.dumps(facts, indent=1) + "\n")
    DOCUMENT.write_text(document(facts))
    return f"{RESULTS}, {DOCUMENT}"


@click.command()
@click.argument("sources", nargs=-1, type=click.Path(path_type=Path, exists=True))
def main(sources: tuple[Path, ...]) -> None:
    """Publish the figures of SOURCES, by default those of the latest ``make bench``."""
    click.echo(publish(*(sources or (REPOSITORY / "build" / "bench" / "dram.json",))))


if __name__ == "__main__":
    main()
