"""The figures of caches of constant size as a document."""

from __future__ import annotations

from typing import Any

from tb.bench.generation.table import markdown_table

_TEXT = """# Caches of constant size

Made by `python -m tb.bench.rce --publish` from `results/rce.json`; do not edit. Configuration
`{preset}`, config hash {config_hash}, B = {slots} slots, rule `{rule}`, lambda {decay:.4g}, seed
{seed}; {tensors}. The decode core (`docs/contracts.md`, sections 10 and 11) in front of an ideal
memory that answers, and ends a write, after {latency} cycles. Outputs, victims and memory after
every step are compared with the twin.

## Size and traffic

A sequence from its first token to T = 2 B, 4 B and 8 B. *Size* and *traffic*: how many times more
a cache takes that keeps all tokens in the same format, or as 16-bit K and V.

{lengths}
Bytes and cycles are measured; what the caches that keep all would move is derived. *Last step*:
bytes of the step at T alone, in the same format.

## Batches

{full_steps} steps of each of so many full caches in turn; against a cache of 16-bit K and V of
{context} tokens that is read at full bandwidth, {dense:,.0f} cycles a step (derived).

{batches}
RCE publishes ratios of 3.62 in cycles and 1.52 in energy at batches of 1 to 16, against a
baseline and on a platform of its own; the figures here are attention alone, of one core, and are
not comparable with those.

## What choosing the victim costs

Energy of a step of a full cache (modelled: events times energies; arithmetic by M. Horowitz,
ISSCC 2014, and memories by CACTI 7, at 45 nm; DRAM by the table of `hbm2-2000`):

{energy}
Its own are the map of slots, the choice of the victim and the decay of scores, and the votes; the
probabilities behind the scores are those that a compressed cache has, too. Share of the chip:
{score_chip:.2%} with the rule `score`, {votes_chip:.2%} with `votes`; with the DRAM
{score_all:.3%} and {votes_all:.3%}. RCE publishes {published:.2%} for its MMU; what it counts
there may differ.

Area (synthesised, NAND2 equivalents, logic alone, without memories above 1024 bits):

{area}
"""


def length_rows(lengths: list[dict[str, Any]]) -> list[list[str]]:
    """One row per length."""
    head = ["T / B", "steps", "bytes", "size", "traffic", "last step", "size, 16-bit"]
    rows = [[*head, "traffic, 16-bit", "cycles a step"]]
    for point in lengths:
        measured, derived = point["measured"], point["derived"]
        rows.append(
            [
                str(point["ratio"]),
                f"{measured['steps']:,}",
                f"{measured['bytes']:,}",
                f"{derived['size_of_all']:.2f}",
                f"{derived['traffic_of_all']:.2f}",
                f"{derived['last_step_of_all']:.2f}",
                f"{derived['size_of_dense16']:.2f}",
                f"{derived['traffic_of_dense16']:.2f}",
                f"{measured['cycles'] / measured['steps']:,.0f}",
            ]
        )
    return rows


def batch_rows(batches: list[dict[str, Any]]) -> list[list[str]]:
    """One row per batch."""
    rows = [["caches", "cycles a step", "of the port's bandwidth read", "times as fast"]]
    for point in batches:
        derived = point["derived"]
        rows.append(
            [
                str(point["caches"]),
                f"{derived['cycles_per_step']:,.0f}",
                f"{derived['roofline']:.1%}",
                f"{derived['speed_up']:.2f}",
            ]
        )
    return rows


def energy_rows(energy: dict[str, Any]) -> list[list[str]]:
    """One row per part, nanojoules of each rule."""
    rows = [["part", "", "nJ, `score`", "nJ, `votes`"]]
    of_score, of_votes = energy["score"]["parts"], energy["votes"]["parts"]
    for where in ("dram", "core", "rce"):
        for name, value in of_votes[where].items():
            ours = of_score[where].get(name)
            cells = ["" if x is None else f"{x / 1000:.3f}" for x in (ours, value)]
            rows.append([where.upper() if where != "core" else where, name, *cells])
    return rows


def area_rows(area: dict[str, Any]) -> list[list[str]]:
    """One row per unit."""
    decay = area["scores"]["logic"] - area["saliencies"]["logic"]
    shown = {
        "map of slots": area["map"],
        "choice of the victim": area["victim"],
        "decay, beside the addition of saliencies": {"logic": decay, "memory_bits": 0},
        "votes": area["votes"],
    }
    rows = [["unit", "kGE", "bits of memory"]]
    return rows + [
        [name, f"{unit['logic'] / 1000:.1f}", f"{unit['memory_bits']:,}"]
        for name, unit in shown.items()
    ]


def document(facts: dict[str, Any]) -> str:
    """The whole page."""
    energy, batches = facts["energy"], facts["batches"]
    return _TEXT.format(
        **facts["design"],
        latency=facts["latency"],
        full_steps=facts["full_steps"],
        lengths=markdown_table(length_rows(facts["lengths"])),
        batches=markdown_table(batch_rows(batches)),
        context=batches[0]["derived"]["dense16_context"],
        dense=batches[0]["derived"]["dense16_cycles"],
        energy=markdown_table(energy_rows(energy)),
        score_chip=energy["score"]["shares"]["chip"],
        votes_chip=energy["votes"]["shares"]["chip"],
        score_all=energy["score"]["shares"]["all"],
        votes_all=energy["votes"]["shares"]["all"],
        published=energy["published_share"],
        area=markdown_table(area_rows(facts["area"])),
    )
