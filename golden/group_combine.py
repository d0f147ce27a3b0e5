"""Which combination of a group's estimates selects better: ``python -m golden.group_combine``.

Query heads that share a KV head select once. Their estimates become one selection score by the
maximum or by the mean; this measures both on the trained model: the cosine of every output row with
dense attention, and the share of dense attention that the selected chunks and the tail hold.
"""

import json
from dataclasses import replace
from math import log
from pathlib import Path

import click
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from golden.captured import captured_tensors
from golden.model.capture import capture
from golden.reference import attend, compress_cache, dense_attention, saliency
from golden.reference.attend import scores
from golden.tensors import Tensors
from hw.config import AttentionConfig, preset

RESULTS = Path(__file__).parents[1] / "results" / "group_combine.json"
PROMPTS = ("recall", "copy", "text")


def measure(tensors: Tensors, config: AttentionConfig) -> tuple[list[float], list[float]]:
    """Cosine with dense attention, and dense attention mass that was read, per row."""
    sums = saliency(tensors.queries, tensors.keys, config)
    cache = compress_cache(tensors.keys, tensors.values, sums, config)
    result = attend(tensors.query, cache, config)
    dense = dense_attention(tensors.query, tensors.keys, tensors.values)
    cosine = torch.nn.functional.cosine_similarity(result.output, dense.double(), dim=-1)
    closed = config.closed_tokens(cache.context)
    # A chunk holds the same tokens whatever their order within it.
    chunks = result.selection.unsqueeze(-1) * config.chunk + torch.arange(config.chunk)
    kept = torch.cat((chunks.flatten(), torch.arange(closed, cache.context)))
    probability = (scores(tensors.query, tensors.keys) * log(2)).softmax(-1)
    return cosine.tolist(), probability[:, kept].sum(-1).tolist()


@click.command()
@click.option("--output", type=click.Path(path_type=Path), default=RESULTS)
def main(output: Path) -> None:
    """Compare ``max`` and ``mean`` over layers, heads, prompts and positions."""
    base = preset("lm")
    contexts = range(base.max_context - 384, base.max_context + 1, 128)
    rows = []
    for prompt in PROMPTS:
        captured = capture(prompt)
        steps = [
            captured_tensors(captured, base, layer=layer, kv_head=head, context=context)
            for context in contexts
            for layer in range(base.layers)
            for head in range(base.kv_heads)
        ]
        for combine in ("max", "mean"):
            config = replace(base, group_combine=combine)
            found = [measure(step, config) for step in track(steps, f"{prompt}, {combine}")]
            cosines = torch.tensor([c for item in found for c in item[0]])
            masses = torch.tensor([m for item in found for m in item[1]])
            rows.append(
                {
                    "prompt": prompt,
                    "combine": combine,
                    "rows": len(cosines),
                    "cosine_mean": float(cosines.mean()),
                    "cosine_worst": float(cosines.min()),
                    "attention_read_mean": float(masses.mean()),
                    "attention_read_worst": float(masses.min()),
                }
            )
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*(f"{v:.4f}" if isinstance(v, float) else str(v) for v in row.values()))
    Console().print(table)
    output.parent.mkdir(parents=True, exist_ok=True)
    record = {"label": "measured: float reference", "config_hash": f"{base.config_hash:#010x}"}
    output.write_text(json.dumps({**record, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
