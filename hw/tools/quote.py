"""Area reports kept in ``results/`` and quoted in docs/integration.md: no figure is typed."""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]
GUIDE = REPOSITORY / "docs" / "integration.md"
_BLOCK = re.compile(r"(?<=<!-- timing -->\n).*?(?=<!-- end of timing -->)", re.S)
#: Modules named per report.
_DEEPEST = 4


class QuoteError(ValueError):
    """The document has no place for the figures, or a file is not an area report."""


def read_report(path: Path) -> dict[str, Any]:
    """Return an area report in NAND2 equivalents, as `hw.tools.area` writes it.

    Raises
    ------
    QuoteError
        It is something else.
    """
    try:
        facts = json.loads(path.read_text())
        if facts["unit"] == "GE" and {"preset", "config_hash", "modules"} <= facts.keys():
            return dict(facts)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    raise QuoteError(f"{path} is not an area report in GE")


def result_of(preset: str) -> Path:
    """Where the report of a preset is kept."""
    return REPOSITORY / "results" / f"area_{preset}.json"


def timing_table(reports: Iterable[Mapping[str, Any]]) -> str:
    """Return the depth and size of every report as a table."""
    lines = [
        "| preset | config hash | longest path | deepest modules alone | logic | memories |",
        "|---|---|---|---|---|---|",
    ]
    for report in sorted(reports, key=lambda report: str(report["preset"])):
        modules = sorted(report["modules"], key=lambda m: (-m["levels"], m["name"]))
        deepest = ", ".join(
            f"`{m['name'].partition('.')[2] or m['name']}` {m['levels']}"
            for m in modules[:_DEEPEST]
        )
        lines.append(
            f"| `{report['preset']}` | {report['config_hash']} | {report['levels']} levels "
            f"| {deepest} | {report['logic'] / 1000:.0f} kGE | {report['memory_bits']} bits |"
        )
    return "\n".join([*lines, ""])


def quote(text: str, table: str) -> str:
    """Return ``text`` with ``table`` between its two markers.

    Raises
    ------
    QuoteError
        It does not have them once.
    """
    if len(_BLOCK.findall(text)) != 1:
        raise QuoteError("the document must have one block from <!-- timing --> to its end")
    return _BLOCK.sub(lambda _: table, text)


def kept_reports() -> list[dict[str, Any]]:
    """Every area report in ``results/``."""
    return [read_report(path) for path in sorted(result_of("*").parent.glob("area_*.json"))]
