"""docs/quality.md from the content of a quality.json."""

from __future__ import annotations

from typing import Any

from golden.quality.findings import findings
from golden.quality.rows import measure_of
from golden.quality.summary import EQUAL, KEPT_BITS, KEPT_POINTS, equal_table, kept_table
from golden.quality.table import SECTIONS, markdown_table

__all__ = ["document"]

_TEXT = """# Quality

Made by `{command}` from `results/quality.json`; do not edit.
Cache methods on the trained model `{model}` of `golden/model` (trained to {trained} tokens),
in float, teacher-forced: the prompt is attended to exactly, then every layer decodes with the
method. {sequences} sequences per task and context (seeds {seeds}; the needle twice as many),
the same for every method.

{findings}

![Traffic against quality](quality.svg)

{summary}{tables}
*Measured* on this one small model (1 M parameters, 4 layers, head dimension 64): read differences
between methods, not what a large model would lose. In brackets: 95 % bootstrap interval over the
sequences; where every sequence scores the same it has no width.

* *traffic*: bytes read and written in the decode steps, as a share of FP16's in the same steps;
  scales, masks, indices, digests and per-token statistics are counted, and everything is padded to
  bursts of 32 bytes. The column is that of the first measure; `results/quality.json` has them all.
* *bits per byte over FP16*: on the last 128 bytes of held-out text, paired by sequence.
* *copy*: share of 32 letters, seen once and far back, predicted right. *recall*: share of 16
  look-ups with all three letters right. In both the prompt ends before the first question: a
  method that chooses tokens at its end cannot know what will be asked.
* *needle*: one pair at an even spread of depths; here the question is part of the prompt, as in
  the papers that choose once.
* *shuffled*: the method ranks tokens, chunks or pages by random numbers. *untrained model*: the
  weights before training.{free}

Methods with a budget of tokens are set to the traffic of KVO as published at the same context (the
next setting below); a sweep adds other budgets at the longest. `Progressive` also comes as it is
defined, and leaner.{whole}
`cross-layer` is not in the picture: a model has to be trained with it, and this one was not.
Scissorhands drops half of its cache at once; in runs shorter than that saw-tooth its share of
traffic is not that of a long one.

| method | published in |
| --- | --- |
{papers}

Weights {weights}, torch {torch}.
"""

_FREE = """
* *free*: the letters that were predicted are fed back, as in generation; elsewhere the right
  ones."""

_WHOLE = """ "First layers in FP16" repeats them with layers 0 and 1 whole, as the
papers of KVO and Quest do in 32 layers; here that is half of the model, and its bytes are
counted."""

_SUMMARY = """## Over contexts

Every layer compressed. Least traffic measured, as a share of FP16's, at which copy and recall lose
at most {points:g} point each and bits per byte grow by at most {bits:.0%} (means; intervals below):

{kept}
Recall of the setting of each method whose traffic is nearest to that of KVO as published, and
within {equal:.0%} of it:

{recall}
"""


def document(facts: dict[str, Any]) -> str:
    """The text of the document."""
    rows = facts["rows"]
    tables = ""
    for context in sorted({row["context"] for row in rows}, reverse=True):
        for part in SECTIONS:
            table = markdown_table(rows, part, context)
            if table:
                tables += f"## {part}, {context} tokens\n\n{table}\n"
    papers = dict(sorted({row["method"]: row["paper"] for row in rows}.items()))
    settings = facts["settings"]
    summary = ""
    if len({row["context"] for row in rows}) > 1:
        summary = _SUMMARY.format(
            kept=kept_table(rows),
            recall=equal_table(rows, "recall"),
            points=100 * KEPT_POINTS,
            bits=KEPT_BITS,
            equal=EQUAL,
        )
    return _TEXT.format(
        command=facts["command"],
        sequences=settings["sequences"] * len(settings["seeds"]),
        seeds=", ".join(map(str, settings["seeds"])),
        model=facts["model"]["name"],
        trained=facts["model"]["context"],
        summary=summary,
        free=_FREE if any(measure_of(row).generation == "free" for row in rows) else "",
        whole=_WHOLE if any(row["dense_layers"] for row in rows) else "",
        tables=tables.rstrip("\n") + "\n",
        findings="\n".join(f"* {sentence}" for sentence in findings(rows)),
        papers="\n".join(f"| {name} | {paper} |" for name, paper in papers.items()),
        weights=facts["weights_sha256"][:16],
        torch=facts["torch"],
    )
