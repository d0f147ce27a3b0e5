"""The study as a page: ``docs/progressive_study.md``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from golden.quality.progressive_study.variant import DEFAULT, GROUPS, Variant

__all__ = ["document", "label"]

_HEAD = """# Variants of the progressive format

Made by `make progressive ARGS=--publish` from `results/progressive.json`; do not edit.
`docs/progressive_format.md` defines the format; this page changes one thing at a time, from 256
candidates on. Every layer is compressed, sequences of {context} tokens, teacher-forced; float
arithmetic on the trained model (1 M parameters, head dimension 64).

* *bits per byte*: difference to FP16 on the same sequences, in % of FP16's; *copy*, *recall*:
  difference in points. In brackets 95 % bootstrap intervals over the sequences. *Measured.*
* *traffic*: all bytes read and written in the decode steps, padded to bursts, over FP16's, in the
  task that moves most. *Measured.* With two planes the rows of the open page are counted as of one,
  0.06 points too few.
* *d 128*: the same layout at head dimension 128, at 4096 and 32768 tokens, with as many tokens
  kept per step as here. *Derived*; the quality there is not known.
* *kept*: tokens per step and head that are read whole, in the task that keeps most. *Measured.*
"""
_MEASURED = (
    "{sequences}, seeds {seeds}. FP16: {text:.3f} bits per byte, copy {copy:.1%}, recall "
    "{recall:.1%}."
)
_ENTROPY = (
    "Bits per element of what is stored, each channel with its own frequencies (measured): most "
    "significant key bit {plane:.2f} of 1, upper key bits {screen:.2f} of 4, key code {key:.2f} "
    "of 6, value code {value:.2f} of 4, key scale {scale:.2f} and zero point {zero:.2f} of 8 each."
)
_COLUMNS = ("", "bits per byte", "copy", "recall", "traffic", "d 128, 4 k / 32 k", "kept")
_HEADER = "| " + " | ".join(_COLUMNS) + " |\n| --- |" + " ---: |" * (len(_COLUMNS) - 1)
_NOTES = {
    "Statistics": "With statistics for each page its centres would have to be read, too; those "
    "bytes are not counted.",
    "Estimate": "Codebooks of products, and the exact estimate's keys, are not counted.",
    "Attention sink": "An early token takes most of the attention of the prompt's queries; its "
    "share is taken out of the output again, so exact attention is that of the other tokens.",
    "Bits of scale and zero point": "The bytes of 8 bits are counted.",
}


def label(variant: Variant) -> str:
    """What differs from the default."""
    default = asdict(DEFAULT)
    changed = {name: x for name, x in asdict(variant).items() if x != default[name]}
    return ", ".join(f"{name} {value}" for name, value in changed.items()) or "default"


def _gap(difference: dict[str, float], scale: float) -> str:
    mean, low, high = (scale * difference[name] for name in ("mean", "low", "high"))
    return f"{mean:+.1f} ({low:+.1f} .. {high:+.1f})"


def _line(name: str, row: dict[str, Any], fp16: dict[str, float]) -> str:
    tasks, derived = row["tasks"], row["derived"]
    cells = (
        name,
        _gap(tasks["text"]["difference"], 100 / fp16["text"]) + " %",
        _gap(tasks["copy"]["difference"], 100),
        _gap(tasks["recall"]["difference"], 100),
        f"{max(task['share'] for task in tasks.values()):.2%}",
        f"{derived['128/4096']:.2%} / {derived['128/32768']:.2%}",
        f"{row['kept']:.0f}",
    )
    return "| " + " | ".join(cells) + " |"


def _table(variants: Sequence[Variant], facts: dict[str, Any]) -> list[str]:
    rows = {Variant(**row["variant"]): row for row in facts["rows"]}
    known = [variant for variant in variants if variant in rows]
    lines = [_line(label(variant), rows[variant], facts["fp16"]) for variant in known]
    return [_HEADER, *lines, ""] if known else []


def _measured(facts: dict[str, Any]) -> str:
    settings = facts["settings"]
    seeds = settings["seeds"]
    counts = [f"{settings[task] * len(seeds)} ({task})" for task in ("text", "copy", "recall")]
    return _MEASURED.format(
        sequences="Sequences: " + ", ".join(counts),
        seeds=", ".join(str(seed) for seed in seeds),
        **facts["fp16"],
    )


def document(facts: dict[str, Any]) -> str:
    """The page of the facts that the command has found."""
    study, confirmed = facts["study"], facts["confirmed"]
    parts = [_HEAD.format(context=study["settings"]["context"])]
    chosen = [Variant(**row["variant"]) for row in confirmed["rows"]]
    parts += ["## More sequences", "", _measured(confirmed), "", *_table(chosen, confirmed)]
    parts += ["## One thing changed", "", _measured(study), ""]
    for name, variants in {"The format": [DEFAULT], **GROUPS}.items():
        table = _table(variants, study)
        if table:
            parts += [f"### {name}", ""]
            parts += [_NOTES[name], ""] if name in _NOTES else []
            parts += table
    found = facts["entropy"]
    parts += ["### Entropy", "", _ENTROPY.format(**found), ""]
    parts.append(f"Weights {study['weights_sha256'][:16]}, torch {facts['torch']}.\n")
    return "\n".join(parts)
