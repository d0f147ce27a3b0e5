"""The figures at the DRAM pins as tables."""

from __future__ import annotations

from typing import Any

from tb.memory.dram.energy import modelled_energy, per_bit

_TEXT = """# Attention through DRAM

Made by `python -m tb.bench.accelerator --publish` from `results/attention_dram.json`; do not
edit. Every word is compared with the twin. *Measured*: {measured}. *Derived*: {derived}.
*Projected*: {projected}.

{table}
Useful: required bytes (the method's formula, no padding) over peak bytes; pins: bytes moved over
peak bytes. Traffic: bytes at the pins, tables and padding included, as a share of dense 16-bit K
and V; behind it the same with 2 of 32 layers left dense, as published. Speed-up: over `dense16` on
the same DRAM with as many slices; its bound: required bytes over required bytes. Energy: of the
DRAM devices, as docs/dram.md models it; of a job as a share of the same job's with `dense16` and
one slice.

## Where the rest went

{losses}
{projection}
Designs: {identity}.
"""


def _rows(headings: list[str], rows: list[list[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _name(p: dict[str, Any]) -> str:
    return f"{p['preset']} {p['mode']} at {p['context']}, {p['slices']} x {p['standard']}"


def markdown_table(points: list[dict[str, Any]]) -> str:
    """What is gained."""
    headings = ["case", "jobs", "cycles (measured)", "pin bytes/job (measured)"]
    headings += ["useful (derived)", "pins (derived)", "traffic (derived)"]
    headings += ["2 dense layers (derived)", "speed-up (derived)", "its bound (derived)"]
    headings += ["pJ per required bit (modelled)", "energy of dense16 (modelled)"]
    rows = []
    for p in points:
        derived = p["derived"]
        mixed = derived.get("share_with_two_dense_layers")
        rows.append(
            [
                _name(p),
                str(p["jobs"]),
                f"{p['measured']['cycles']:,}",
                f"{derived['pin_bytes_per_job']:,.0f}",
                f"{derived['useful_utilisation']:.3f}",
                f"{derived['pin_utilisation']:.3f}",
                f"{derived['share_of_dense16']:.2%}",
                "" if mixed is None else f"{mixed:.2%}",
                "" if mixed is None else f"{derived['speedup_over_dense16']:.2f}x",
                "" if mixed is None else f"{derived['bound_of_speedup']:.2f}x",
                *_energy_cells(p, points),
            ]
        )
    return _rows(headings, rows)


def _energy(p: dict[str, Any]) -> dict[str, float] | None:
    counts, clocks = p["measured"]["dram"], p["measured"]["cycles"]
    return modelled_energy(p["standard"], counts, clocks=clocks, channels=p["slices"])


def _energy_cells(p: dict[str, Any], points: list[dict[str, Any]]) -> tuple[str, str]:
    """Energy per bit; and that of a job as a share of the same job's on dense 16-bit K and V."""
    energy = _energy(p)
    if energy is None:
        return "no table", ""
    each = f"{per_bit(energy, p['derived']['required_bytes']):.2f}"
    for dense in points:
        alike = all(dense[key] == p[key] for key in ("preset", "standard", "context"))
        baseline = _energy(dense) if alike and dense["mode"] == "dense16" else None
        if baseline and dense["slices"] == 1:
            share = sum(energy.values()) / p["jobs"] / (sum(baseline.values()) / dense["jobs"])
            return each, f"{share:.2%}"
    return each, ""


def losses_table(points: list[dict[str, Any]]) -> str:
    """Every byte beyond the formula, and every cycle without data."""
    reasons = list(points[0]["derived"]["idle_cycles"])
    headings = ["case", "required bytes", "padding", "page tables", "over-fetch", "unexplained"]
    headings += [f"cycles: {reason}" for reason in reasons]
    rows = []
    for p in points:
        derived, beyond = p["derived"], p["measured"]["bytes_beyond_records"]
        figures = [derived["required_bytes"], derived["padding_bytes"], *beyond.values()]
        figures += [derived["unexplained_bytes"], *derived["idle_cycles"].values()]
        rows.append([_name(p), *(f"{figure:,.0f}" for figure in figures)])
    return _rows(headings, rows)


def document(facts: dict[str, Any]) -> str:
    """The text of docs/attention_dram.md."""
    points = facts["points"]
    designs = sorted({(p["preset"], p["config_hash"], p["seed"], p["tensors"]) for p in points})
    identity = "; ".join(
        f"`{name}` {config_hash}, seed {seed}, tensors {tensors}"
        for name, config_hash, seed, tensors in designs
    )
    far = next((p["projected"] for p in points if "projected" in p), None)
    projection = ""
    if far:
        projection = (
            f"\nAt {far['context']} tokens: {far['pin_bytes_per_job']:,.0f} bytes a job, "
            f"{far['share_of_dense16']:.2%} of dense, with 2 dense layers "
            f"{far['share_with_two_dense_layers']:.2%} (projected).\n"
        )
    return _TEXT.format(
        table=markdown_table(points),
        losses=losses_table(points),
        projection=projection,
        identity=identity,
        **facts["labels"],
    )
