"""The figures of whole decode steps as a document."""

from __future__ import annotations

from typing import Any

from tb.bench.generation.table import markdown_table

_TEXT = """# Whole decode steps at the DRAM pins

Made by `python -m tb.bench.generation_dram --publish` from `results/generation_dram.json`; do not
edit. An accelerator of one slice whose core writes its caches (`docs/kv_mmu.md`, section 4), on a
pseudo-channel of HBM2-2000 with refresh. Prompts are imported by the hardware; then each sequence
takes 64 steps, in turn, in which one of its windows closes: the mean over these steps is that over
a whole generation at about this context. Everything that moves is counted by the device: what the
attention reads, tokens, saliencies, tail blocks that are read to be closed, the records that are
written, and page tables. Outputs, statuses and statistics of every step are those of the twin.

{table}
*Traffic*: all bytes that move in the steps, over those that 16-bit K and V would move in the same
steps, all tokens read and the newest one written (derived). *Bus*: cycles in which the data bus of
the device moves data. *Import*: cycles a token of the second prompt, from the end of the first
one's import to its own, the allocation of its pages included; *its bus* as before. Seeds and hashes
are in the file; tensors are synthetic, with the statistics of captured ones.
"""


def rows(points: list[dict[str, Any]]) -> list[list[str]]:
    """A row per point, the headings first."""
    head = (
        "context,sequences,steps,windows,bytes a step,traffic,cut,written,tables,cycles a step,bus,"
        "import,its bus"
    )
    table = [["preset", *head.split(",")]]
    for point in points:
        measured, derived = point["measured"], point["derived"]
        table.append(
            [
                f"`{point['preset']}`",
                f"{point['prompt']:,}",
                str(measured["sequences"]),
                str(measured["steps"]),
                str(measured["windows"]),
                f"{derived['bytes_per_step']:,.0f}",
                f"{derived['traffic']:.2%}",
                f"{derived['cut']:.2%}",
                f"{derived['written_share']:.2%} of it",
                f"{derived['tables_share']:.2%} of it",
                f"{derived['cycles_per_step']:,.0f}",
                f"{measured['dram']['busy'] / measured['cycles']:.1%}",
                f"{measured['import_cycles'] / measured['imported_tokens']:.1f}",
                f"{measured['import_busy'] / measured['import_cycles']:.1%}",
            ]
        )
    return table


def document(facts: dict[str, Any]) -> str:
    """The whole page."""
    return _TEXT.format(table=markdown_table(rows(facts["points"])))
