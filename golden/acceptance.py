"""How close the integer twin is to the float reference: ``python -m golden.acceptance``.

Two questions, kept apart. With the reference's selection: are the outputs the same (cosine of every
output row)? With its own selection: are the same chunks chosen, and if not, was it
a near tie?
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from golden.captured import captured_tensors, check_model
from golden.model.capture import capture
from golden.reference import (
    attend,
    compress_cache,
    dense_attention,
    dense_cache,
    dequantise_dense,
    quantise_query,
    saliency,
)
from golden.tensors import CASES, Tensors
from golden.twin.attention import attention
from golden.twin.dense import dense_attention as twin_of_dense
from hw.config import AttentionConfig, preset
from hw.constants import OUTPUT_FRACTION
from hw.formats import Mode

#: DESIGN: every output row, with the reference's selection; mean overlap with its own.
LEAST_COSINE = 0.9999
LEAST_OVERLAP = 0.99
#: A differing chunk is a near tie within this many log2 units of the reference's estimates.
NEAR_TIE = 0.05
RESULTS = Path(__file__).parents[1] / "results" / "acceptance.json"


@dataclass(frozen=True)
class Closeness:
    """Twin against reference for one decode step."""

    label: str
    layer: int
    context: int
    #: Cosine of each output row, with the reference's selection.
    cosines: tuple[float, ...]
    #: Share of the reference's chunks that the twin selects too; 1 without chunks.
    overlap: float
    #: Largest estimate difference (log2) between chunks that only one of them selects.
    gap: float
    #: Cosine of the reference's rows with dense FP16 attention: the method's cost, not the twin's.
    dense_cosines: tuple[float, ...]


def closeness(label: str, tensors: Tensors, config: AttentionConfig, layer: int = 0) -> Closeness:
    """Compare one decode step on ``tensors``."""
    sums = saliency(tensors.queries, tensors.keys, config)
    cache = compress_cache(tensors.keys, tensors.values, sums, config)
    reference = attend(tensors.query, cache, config)
    codes, scale = quantise_query(tensors.query)
    forced = attention(codes, scale, cache, config, selection=reference.selection)
    free = attention(codes, scale, cache, config)
    chosen, wanted = set(free.selection.tolist()), set(reference.selection.tolist())
    gap = 0.0
    if chosen != wanted:
        missed = reference.estimate[sorted(wanted - chosen)]
        extra = reference.estimate[sorted(chosen - wanted)]
        gap = float(missed.max() - extra.min())
    dense = dense_attention(tensors.query, tensors.keys, tensors.values)
    return Closeness(
        label=label,
        layer=layer,
        context=cache.context,
        cosines=_cosines(forced.output.double() / (1 << OUTPUT_FRACTION), reference.output),
        overlap=len(chosen & wanted) / len(wanted) if wanted else 1.0,
        gap=gap,
        dense_cosines=_cosines(reference.output, dense),
    )


def dense_closeness(label: str, tensors: Tensors, config: AttentionConfig, mode: Mode) -> Closeness:
    """The same for a dense mode, against float attention over the dequantised cache."""
    cache = dense_cache(tensors.keys, tensors.values, mode, config)
    codes, scale = quantise_query(tensors.query, cache.key_scale)
    result = twin_of_dense(codes, scale, cache, config)
    reference = dense_attention(tensors.query, *dequantise_dense(cache))
    dense = dense_attention(tensors.query, tensors.keys, tensors.values)
    return Closeness(
        label=label,
        layer=-1,
        context=cache.context,
        cosines=_cosines(result.output.double() / (1 << OUTPUT_FRACTION), reference),
        overlap=1.0,
        gap=0.0,
        dense_cosines=_cosines(reference, dense),
    )


def measure(config: AttentionConfig, contexts: Sequence[int], seed: int) -> list[Closeness]:
    """Every layer and KV head of the trained model at each context, and the synthetic tensors.

    The model's tensors in the dense modes too.
    """
    captured = capture("mixed")
    check_model(captured, config)
    steps = [
        (f"layer {layer}, KV head {head}", layer, head, context)
        for layer in range(config.layers)
        for head in range(config.kv_heads)
        for context in contexts
    ]
    found = [
        closeness(
            label,
            captured_tensors(captured, config, layer=layer, kv_head=head, context=context),
            config,
            layer,
        )
        for label, layer, head, context in track(steps, "captured KV", transient=True)
    ]
    found += [
        dense_closeness(
            f"{mode.name.lower()}, all layers",
            captured_tensors(captured, config, layer=layer, kv_head=head, context=context),
            config,
            mode,
        )
        for mode in (Mode.DENSE8, Mode.DENSE16)
        for _, layer, head, context in steps
    ]
    synthetic = ("random", "sink", "outlier_channels")
    return found + [
        closeness(f"synthetic {name}", CASES[name](config, context, seed), config, layer=-1)
        for name in synthetic
        for context in contexts
    ]


def summarise(found: Sequence[Closeness]) -> list[dict[str, Any]]:
    """Mean and worst by layer of the model, and by synthetic case."""
    rows: dict[str, list[Closeness]] = {}
    for item in found:
        name = f"layer {item.layer}" if item.layer >= 0 else item.label
        rows.setdefault(name, []).append(item)
    return [
        {
            "tensors": name,
            "steps": len(items),
            "cosine_mean": _mean([c for item in items for c in item.cosines]),
            "cosine_worst": min(c for item in items for c in item.cosines),
            "overlap_mean": _mean([item.overlap for item in items]),
            "overlap_worst": min(item.overlap for item in items),
            "gap_worst": max(item.gap for item in items),
            "dense_cosine_mean": _mean([c for item in items for c in item.dense_cosines]),
        }
        for name, items in rows.items()
    ]


def _cosines(x: Tensor, y: Tensor) -> tuple[float, ...]:
    return tuple(torch.nn.functional.cosine_similarity(x, y.to(x.dtype), dim=-1).tolist())


def _mean(numbers: Sequence[float]) -> float:
    return sum(numbers) / len(numbers)


@click.command()
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default=RESULTS)
def main(seed: int, output: Path) -> None:
    """Measure the acceptance of preset lm on the trained model; write JSON and show a table."""
    config = preset("lm")
    longest = config.max_context
    contexts = [longest - step for step in (0, 37, 301, 700, 1100, 1500)]
    found = measure(config, contexts, seed)
    rows = summarise(found)
    table = Table(
        "tensors", "steps", "cosine mean", "worst", "overlap mean", "worst", "largest gap"
    )
    for row in rows:
        table.add_row(
            str(row["tensors"]),
            str(row["steps"]),
            *(f"{row[key]:.6f}" for key in ("cosine_mean", "cosine_worst")),
            *(f"{row[key]:.4f}" for key in ("overlap_mean", "overlap_worst", "gap_worst")),
        )
    Console().print(table)
    output.parent.mkdir(parents=True, exist_ok=True)
    record = {
        "label": "measured: integer twin against float reference",
        "preset": config.name,
        "config_hash": f"{config.config_hash:#010x}",
        "seed": seed,
        "summary": rows,
        "steps": [asdict(item) for item in found],
    }
    output.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
