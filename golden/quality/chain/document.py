"""The page of the chain: ``docs/chain.md``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from golden.quality.chain.measure import TWIN

__all__ = ["agreement_rows", "document", "gap_rows", "markdown_table", "score_rows"]

_TEXT = """# The trained model on the hardware's numbers

Made by `{command}` from `results/chain.json`; do not
edit. *Measured* on the trained model `{model}`, {context} tokens a sequence, {sequences} sequences
per task (seeds {seeds}), teacher-forced. Preset `{preset}`, config hash {config_hash}.

The prompt is attended to exactly. Then every layer and KV head decodes on the integer twin of the
decode core (`golden/twin/sequence_cache.py`; that the simulated core equals it bit for bit is what
`make sim TEST=generate_kv` checks): the prompt is imported, each token appended, attention computed
in integers, what the score tap gives added up, windows closed at their steps, and beyond {budget}
closed tokens chunks left out. On the same sequences run FP16; the float reference, whose caches
live the same way in float64 (`golden/reference/sequence.py`); and `KVO` as the quality lab has it
(`docs/quality_lab.md`). Each has caches of its own from the prompt on.

## Quality

{scores}
In brackets 95 % bootstrap intervals over the sequences. *Bits per byte*: of the last 128 bytes of
held-out text, {text} in all; *over FP16*: paired by sequence; *perplexity*: 2 to the power of the
bits, per byte. *Copy*: {copy} letters; *recall*: {recall} look-ups, right if all three letters are;
both as in `docs/quality.md`. *Traffic*: bytes read and written in the decode steps of the first
measure, whole bursts, as a share of FP16's; the twin's are those that the core moves
(`golden/step_traffic.py`, compared with the simulated core's counters).

## The twin less the float methods

{gaps}
Differences sequence by sequence, with their intervals. *Same token*: predictions whose most
probable token is that of the float reference.

## Step by step

{agreement}
Each step of the twin beside one of the float reference on the same cache. *Cosine*: of the output
rows, the reference attending to the chunks that the twin selects. *Chunks*: of those that the
reference would select, the twin selects so many too; *near tie*: where it does not, the estimates
of the two chunks differ by so much at most (log2). *Received*: largest difference of the attention
that a token of the tail receives in a step (at most 2, as two query heads share a KV head).

## What differs

When a window closes, which attention orders its chunks, how it is quantised and which chunks the
budget keeps is the same in all three. The twin differs from the float reference in this alone:

* Queries are 12-bit codes; scores, exp2, softmax and the value pass are integers
  (`docs/contracts.md`, section 4).
* Attention received counts in units of 2^-20, that of a decode step with the rounded maximum and
  sum of the softmax. Tokens that received nearly the same may change places in a chunk, and so
  another key may be its base.

The lab differs from both:

* It attends in float32, and its keys, and the sums of the prompt, are of float32; to the core, and
  here to the float reference, keys come in FP16.
* Its tail holds the numbers that codes stand for, in float32, and a closing window quantises its
  keys anew; in the other two it keeps the codes of its base keys.
* Traffic. A closing window is read again, {closing:,} bytes, which the lab leaves out; and the
  scales of its base keys are written key by key, {pairs:,} bytes more than the lab counts. The core
  closes at the end of a step, the lab when the next one begins: one that is due after the last
  step counts for the core only. Everything else that differs are the groups of selected chunks.

Weights {weights}, torch {torch}.
"""

Row = dict[str, Any]


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """A table whose first row has the headings."""
    lines = [rows[0], ["---"] + ["---:"] * (len(rows[0]) - 1), *rows[1:]]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _of(rows: Iterable[Row], method: str, task: str) -> Row | None:
    return next((r for r in rows if r["method"] == method and r["task"] == task), None)


def _bits(figure: dict[str, float], form: str) -> str:
    mean, low, high = (format(figure[name], form) for name in ("mean", "low", "high"))
    return f"{mean} ({low} .. {high})"


def _points(figure: dict[str, float], form: str) -> str:
    mean, low, high = (100 * figure[name] for name in ("mean", "low", "high"))
    return f"{mean:{form}.1f} % ({low:{form}.0f} .. {high:{form}.0f})"


def _measure(row: Row) -> list[str]:
    if row["task"] != "text":
        return [_points(row, "")]
    gap = row["over_fp16"]
    over = _bits(gap, "+.3f") if any(gap.values()) else ""
    return [_bits(row, ".3f"), over, f"{2 ** row['mean']:.3f}"]


def _headings(tasks: Iterable[str]) -> list[str]:
    text = ["bits per byte", "over FP16", "perplexity"]
    return [name for task in tasks for name in (text if task == "text" else [task])]


def score_rows(facts: dict[str, Any]) -> list[list[str]]:
    """Every method's figures."""
    rows, tasks = facts["rows"], facts["settings"]["tasks"]
    table = [["", "traffic", *_headings(tasks)]]
    for method in dict.fromkeys(row["method"] for row in rows):
        found = [row for task in tasks if (row := _of(rows, method, task))]
        cells = [cell for row in found for cell in _measure(row)]
        table.append([method, f"{found[0]['share']:.2%}", *cells])
    return table


def gap_rows(facts: dict[str, Any]) -> list[list[str]]:
    """The twin's scores less those in float, a task a row."""
    table = [["task", "less the reference", "less the lab", "same token"]]
    for row in facts["rows"]:
        if row["method"] == TWIN:
            name, twin = row["task"], facts["twin"][row["task"]]
            gaps = (row["over_float"], row["over_lab"])
            bits = [f"{_bits(gap, '+.4f')} bits" for gap in gaps]
            shown = bits if name == "text" else [_points(gap, "+") for gap in gaps]
            same = f"{twin['same_prediction']:,} of {twin['predictions']:,}"
            table.append([name, *shown, same])
    return table


def agreement_rows(facts: dict[str, Any]) -> list[list[str]]:
    """Twin and reference on the same caches, a task a row."""
    table = [["task", "steps", "windows", "mean cosine", "worst", "chunks", "near tie", "received"]]
    for task, twin in facts["twin"].items():
        found = twin["agreement"]
        table.append(
            [
                task,
                f"{found['steps']:,}",
                f"{twin['windows_closed']:,}",
                f"{found['cosine_sum'] / found['rows']:.7f}",
                f"{found['cosine_worst']:.6f}",
                f"{found['chunks_shared'] / found['chunks']:.3%}" if found["chunks"] else "",
                f"{found['gap_worst']:.3f}",
                f"{found['received_worst']:.4f}",
            ]
        )
    return table


def document(facts: dict[str, Any]) -> str:
    """The text of the page."""
    settings, traffic = facts["settings"], facts["window_bytes"]
    answers = {row["task"]: f"{row['answers']:,}" for row in facts["rows"]}
    return _TEXT.format(
        command=facts["command"],
        model=settings["model"],
        context=settings["context"],
        sequences=settings["sequences"] * len(settings["seeds"]),
        seeds=", ".join(map(str, settings["seeds"])),
        preset=facts["preset"],
        config_hash=facts["config_hash"],
        budget=facts["budget"],
        scores=markdown_table(score_rows(facts)),
        gaps=markdown_table(gap_rows(facts)),
        agreement=markdown_table(agreement_rows(facts)),
        text=answers.get("text", "no"),
        copy=answers.get("copy", "no"),
        recall=answers.get("recall", "no"),
        closing=traffic["read"],
        pairs=traffic["written_more"],
        weights=facts["weights_sha256"][:16],
        torch=facts["torch"],
    )
