"""Runs the variants over tasks and seeds, resumable, and sums up."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

import golden.progressive
from golden.model.corpus import held_out_tokens
from golden.model.weights import load_model, weights_sha256
from golden.progressive.format import PAGE_TOKENS
from golden.quality.evaluate import Prompt
from golden.quality.methods.fp16 import FP16
from golden.quality.progressive_study.attention import Counts, LevelStore, study_attention
from golden.quality.progressive_study.variant import Variant
from golden.quality.rows import interval
from golden.quality.tasks import make_batch

__all__ = ["Settings", "StudyPrompt", "derived_share", "measure"]

STORE = Path(__file__).parents[3] / "build" / "progressive_study"
#: Where the traffic is derived: head dimension and context.
DERIVED = ((64, 4096), (128, 4096), (128, 32768))


#: Modules of this package that decide no figure.
_NO_FIGURES = ("__main__", "document")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Sequences per seed by task, all of ``context`` tokens."""

    context: int = 4096
    seeds: tuple[int, ...] = (1, 2)
    text: int = 8
    copy: int = 4
    recall: int = 8

    def batches(self) -> list[dict[str, Any]]:
        """Arguments of ``make_batch``."""
        return [
            {"task": task, "length": self.context, "sequences": getattr(self, task), "seed": seed}
            for task in ("text", "copy", "recall")
            for seed in self.seeds
        ]


class StudyPrompt(Prompt):
    """A batch whose decode steps can run at once."""

    @torch.no_grad()
    def study(self, variant: Variant, store: LevelStore) -> tuple[list[float], Counts]:
        """Scores of the sequences, and what was read."""
        counts = Counts()
        rest = slice(self.batch.prompt, self._tokens.shape[1] - 1)
        logits = self._model(
            self._tokens[:, rest],
            positions=torch.arange(rest.start, rest.stop),
            attention=study_attention(variant, self.prefills, counts, store),
        )
        return self.batch.scores(logits), counts


def derived_share(variant: Variant, head_dim: int, context: int, kept: float) -> float:
    """Traffic over FP16's by the layout alone, averaged over the steps that fill a page.

    ``kept`` tokens a step pass the second look.
    """
    form = variant.form(head_dim)
    steps = [form.step_bytes(context - i, kept=0) for i in range(PAGE_TOKENS)]
    bytes_ = sum(step.read + step.written for step in steps) / PAGE_TOKENS
    dense = sum(FP16.step_bytes(1, context - i, head_dim) for i in range(PAGE_TOKENS)) / PAGE_TOKENS
    return (bytes_ + kept * form.rest_bytes) / dense


def _key(what: Variant | None, sha: str, batch: dict[str, Any]) -> str:
    sources = [*Path(__file__).parent.glob("*.py")]
    sources += Path(str(golden.progressive.__file__)).parent.glob("*.py")
    content = b"".join(
        path.read_bytes() for path in sorted(sources) if path.stem not in _NO_FIGURES
    )
    described = json.dumps([what and asdict(what), sha, batch, torch.__version__], sort_keys=True)
    return hashlib.sha256(described.encode() + hashlib.sha256(content).digest()).hexdigest()


def measure(
    variants: Sequence[Variant], settings: Settings, *, weights: Path, console: Console
) -> dict[str, Any]:
    """Measure what is not yet known.

    Returns
    -------
    dict
        ``fp16``: mean score by task. ``rows``: per variant its parameters, per task the mean, the
        interval of the difference to FP16 on the same sequences and the share of FP16's traffic;
        ``kept`` tokens per step and head, ``derived`` shares of FP16's traffic.
    """
    sha, model, text = weights_sha256(weights), load_model(weights), held_out_tokens()
    scores: dict[Variant | None, dict[str, list[float]]] = {}
    counted: dict[Variant, dict[str, list[dict[str, int]]]] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
        batches = settings.batches()
        bar = progress.add_task("", total=len(batches) * (len(variants) + 1))
        for batch in batches:
            prompt, store, task = None, LevelStore(), batch["task"]
            for what in (None, *variants):
                progress.update(bar, description=f"{task}, seed {batch['seed']}")
                path = STORE / f"{_key(what, sha, batch)}.json"
                if path.exists():
                    found = json.loads(path.read_text())
                else:
                    prompt = prompt or StudyPrompt(model, make_batch(text=text, **batch))
                    found = _one(prompt, what, store)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text(json.dumps(found))
                scores.setdefault(what, {}).setdefault(task, []).extend(found["scores"])
                if what is not None:
                    counted.setdefault(what, {}).setdefault(task, []).append(found["counts"])
                progress.advance(bar)
    rows = [_row(variant, scores, counted[variant]) for variant in variants]
    means = {task: interval(found)[0] for task, found in scores[None].items()}
    return {"weights_sha256": sha, "fp16": means, "rows": rows}


def _one(prompt: StudyPrompt, what: Variant | None, store: LevelStore) -> dict[str, Any]:
    if what is None:
        return {"scores": prompt.evaluate(FP16()).scores}
    scores, counts = prompt.study(what, store)
    flat = {**asdict(counts.traffic), "heads": counts.heads, "kept": counts.kept}
    return {"scores": scores, "counts": flat}


def _row(
    variant: Variant,
    scores: dict[Variant | None, dict[str, list[float]]],
    counted: dict[str, list[dict[str, int]]],
) -> dict[str, Any]:
    tasks: dict[str, Any] = {}
    for task, found in scores[variant].items():
        gaps = [x - y for x, y in zip(found, scores[None][task], strict=True)]
        sums = {name: sum(c[name] for c in counted[task]) for name in counted[task][0]}
        tasks[task] = {
            "mean": interval(found)[0],
            "difference": dict(zip(("mean", "low", "high"), interval(gaps), strict=True)),
            "share": (sums["read"] + sums["written"]) / sums["fp16"],
            "kept": sums["kept"] / max(1, sums["heads"]),
        }
    kept = max(task["kept"] for task in tasks.values())
    derived = {
        f"{width}/{context}": derived_share(variant, width, context, kept)
        for width, context in DERIVED
    }
    return {"variant": asdict(variant), "tasks": tasks, "kept": kept, "derived": derived}
