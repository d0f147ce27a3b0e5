"""The area study as a document: everything from the results file."""

from typing import Any

from hw.tools.area import SRAM_GATES_PER_BIT

_HEAD = """# Area study

Made by `python -m hw.study` ({preset}, config hash {config_hash}); do not edit. Areas are measured
by Yosys and ABC in kilo NAND2 equivalents, units alone, without placement. Memories above 1 kbit
are listed as bits, and in the totals with a modelled {per_bit} NAND2 a bit.
"""


def document(facts: dict[str, Any]) -> str:
    """The text for the content of results/study.json."""
    parts = [_HEAD.format(per_bit=SRAM_GATES_PER_BIT, **facts)]
    questions: dict[str, list[dict[str, Any]]] = {}
    for point in facts["points"]:
        questions.setdefault(point["question"], []).append(point)
    for question, found in questions.items():
        parts.append(
            f"## {question.capitalize()}\n\n"
            "| unit | form | logic, kGE (measured) | levels | memory bits "
            "| total, kGE (modelled) |\n"
            "|---|---|---:|---:|---:|---:|\n"
            + "".join(
                f"| `{p['unit']}` | {p['form']} | {p['logic'] / 1000:.2f} | {p['levels']} "
                f"| {p['memory_bits']} | {_total(p) / 1000:.2f} |\n"
                for p in found
            )
        )
        slopes = _slopes(found)
        if slopes:
            parts.append(slopes)
    return "\n".join(parts)


def _total(point: dict[str, Any]) -> float:
    return float(point["logic"] + SRAM_GATES_PER_BIT * point["memory_bits"])


def _slopes(found: list[dict[str, Any]]) -> str:
    """What one more of the form's number costs, where the forms are numbers."""
    by_unit: dict[str, list[tuple[int, float]]] = {}
    for point in found:
        number = point["form"].partition(" ")[0]
        if not number.isdigit():
            return ""
        by_unit.setdefault(point["unit"], []).append((int(number), _total(point)))
    steps = {
        unit: (values[-1][1] - values[0][1]) / (values[-1][0] - values[0][0])
        for unit, values in by_unit.items()
    }
    listed = ", ".join(f"`{unit}` {step / 1000:.2f}" for unit, step in steps.items())
    total = sum(steps.values()) / 1000
    return f"One more costs (derived from the totals, kGE): {listed}; together {total:.2f}.\n"
