"""The figures of the writing side as a document."""

from __future__ import annotations

from typing import Any

_TEXT = """# What writing the caches costs

Made by `python -m tb.bench.generation --publish` from `results/generation.json`; do not edit. The
decode core (`docs/contracts.md`, section 10) in front of an ideal memory that answers, and ends a
write, after {latency} cycles; one port for reads, one for writes, unless said otherwise. Every
output, and the memory after every step, is compared with the twin.

## Decode steps

{steps}
*Traffic*: bytes read and written over those of dense 16-bit K and V of the same steps (derived);
the mean over all steps. *A window*: cycles from the end of the job that closes it to its answer
(measured).

## Import of prompts

{imports}
*Two ports*, *one port*: cycles a token until the import is answered, windows that close included,
with a port of the memory for reads and one for writes, and with one for both (measured). *Read*,
*written*, *beats*: of 16 bytes, a token. *Steady* figures are what the second half of the prompt
adds to the first (derived), so without begin and end. *Above the beats*: of one port, steady;
0 would be a beat in every cycle. Keys of a token are quantised {lanes} elements a cycle; a window
closes while the tokens of the next one come.

## Area

Preset `{preset}`, {lanes} lanes (`python -m hw.tools area --top decode_core`, NAND2 equivalents,
logic alone):

{area}
"""

#: Instances of the decode core by what they are for.
_PARTS = {
    "attention": ("core",),
    "probabilities and saliency": (
        "tap",
        "saliency_update",
        "builder",
        "saliency_writer",
        "finish",
    ),
    "append": ("appender", "appender_share", "token_writer", "admission"),
    "closing windows": ("closer", "closer_share"),
    "import of prompts": ("prompts",),
}


def markdown_table(rows: list[list[str]]) -> str:
    """A table whose first row has the headings."""
    lines = [rows[0], ["---"] + ["---:"] * (len(rows[0]) - 1), *rows[1:]]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def step_rows(steps: list[dict[str, Any]]) -> list[list[str]]:
    """One row per preset and layer, and the mean over the layers of a preset that has several."""
    rows = [["preset", "steps", "sequences", "cycles a step", "traffic", "written", "a window"]]
    for name in dict.fromkeys(point["preset"] for point in steps):
        layers = [point for point in steps if point["preset"] == name]
        rows += [_step_row(f"`{name}`, {point['tensors']}", [point]) for point in layers]
        if len(layers) > 1:
            rows.append(_step_row(f"`{name}`, mean of {len(layers)} layers", layers))
    return rows


def _step_row(name: str, points: list[dict[str, Any]]) -> list[str]:
    """All steps of ``points`` together."""

    def total(figure: str, label: str = "measured") -> int:
        return sum(point[label][figure] for point in points)

    steps, written = total("steps"), total("bytes_written")
    moved = total("bytes_read") + written
    return [
        name,
        str(steps),
        str(total("sequences")),
        f"{total('cycles') / steps:,.0f}",
        f"{moved / total('dense16_bytes', 'derived'):.1%}",
        f"{written / moved:.2%} of it",
        f"{total('busy') / max(1, total('windows_closed')):,.0f} cycles",
    ]


def import_rows(imports: list[dict[str, Any]]) -> list[list[str]]:
    """One row per preset."""
    kinds = ("two ports", "one port", "beats")
    steady_kinds = ("read", "written", *kinds)
    rows = [["preset", "tokens", *kinds, *(f"steady: {kind}" for kind in steady_kinds)]]
    rows[0].append("above the beats")
    columns = ("cycles_per_token", "cycles_of_one_port_per_token", "beats_per_token")
    steady_columns = ("read_per_token", "written_per_token", *columns)
    for point in imports:
        derived, steady = point["derived"], point["derived"]["steady"]
        rows.append(
            [
                f"`{point['preset']}`",
                str(point["measured"]["tokens"]),
                *(f"{derived[column]:.1f}" for column in columns),
                *(f"{steady[column]:.1f}" for column in steady_columns),
                # Half a beat at the ends of a prompt is not -0.0 %.
                f"{round(steady['over_beats'], 3) + 0:.1%}",
            ]
        )
    return rows


def area_rows(report: dict[str, Any]) -> list[list[str]]:
    """One row per part of the decode core."""
    sums = dict.fromkeys([*_PARTS, "merging and queues"], 0.0)
    for module in report["modules"]:
        names = module["name"].split(".")[1:]
        # The tap is an instance of the attention core.
        inner = names[:1] == ["core"] and names[1:2] in (["tap"], ["saliency_update"])
        key = names[1] if inner else "".join(names[:1])
        part = next((p for p, keys in _PARTS.items() if key in keys), "merging and queues")
        sums[part] += module["combinational"] + module["flip_flops"]
    total = sum(sums.values())
    rows = [["part", "kGE", "share"]]
    rows += [[part, f"{gates / 1000:.1f}", f"{gates / total:.1%}"] for part, gates in sums.items()]
    return [*rows, ["all", f"{total / 1000:.1f}", "100.0%"]]


def document(facts: dict[str, Any]) -> str:
    """The whole page."""
    return _TEXT.format(
        latency=facts["latency"],
        lanes=facts["lanes"],
        steps=markdown_table(step_rows(facts["steps"])),
        imports=markdown_table(import_rows(facts["imports"])),
        area=markdown_table(area_rows(facts["area"])),
        preset=facts["area"]["preset"],
    )
