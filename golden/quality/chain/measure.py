"""FP16, the method in float and on the twin, on the same sequences."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from golden.model.architecture import LanguageModel
from golden.model.corpus import held_out_tokens
from golden.model.weights import MODELS, load_model, weights_sha256
from golden.quality.chain.agreement import Agreement
from golden.quality.chain.attention import FloatAttention, TwinAttention
from golden.quality.decode import Traffic, method_attention
from golden.quality.evaluate import Prompt
from golden.quality.methods import FP16, KVO
from golden.quality.rows import interval, progress_bar
from golden.quality.store import Records, imported_files
from golden.quality.tasks import TASKS, Batch, make_batch
from golden.step_traffic import step_bytes
from hw.config import ConfigError, preset
from hw.formats import KVFormat

__all__ = ["CONFIG", "METHODS", "STORE", "TWIN", "Settings", "measure", "measure_batch"]

DENSE, LAB = "FP16", "KVO in the quality lab"
FLOAT, TWIN = "KVO, float reference", "KVO on the twin"
#: The core: the published parameters in the trained model's shape, as the lab's `KVO` has them.
CONFIG = preset("lm")
METHODS = (DENSE, LAB, FLOAT, TWIN)
STORE = Path(__file__).parents[3] / "build" / "quality" / "chain"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is asked.

    Members
    -------
    model : of `MODELS`.
    context : tokens of a sequence, answers included.
    tasks : of `TASKS`.
    seeds : each draws its own sequences.
    sequences : per task and seed.
    """

    model: str = "lm"
    context: int = 2048
    tasks: tuple[str, ...] = ("text", "copy", "recall")
    seeds: tuple[int, ...] = (1, 2, 3)
    sequences: int = 4

    def batches(self) -> list[dict[str, Any]]:
        """Arguments of ``make_batch``."""
        return [
            {"task": task, "length": self.context, "sequences": self.sequences, "seed": seed}
            for task in self.tasks
            for seed in self.seeds
        ]


def measure_batch(
    model: LanguageModel,
    batch: Batch,
    advance: Callable[[], object] = lambda: None,
) -> dict[str, Any]:
    """One record of a batch: scores and traffic by method, what else the twin has shown.

    ``advance`` is called after each step of a layer, of the reference's and of the twin's.
    """
    # The twin's integers are the processor's.
    prompt = Prompt(model, batch, device=torch.device("cpu"))
    figures: dict[str, Any] = {}

    def put(name: str, logits: Tensor, traffic: Traffic) -> None:
        figures[name] = {"scores": batch.scores(logits), "traffic": asdict(traffic)}

    for name, method in ((DENSE, FP16()), (LAB, KVO(budget=CONFIG.budget))):
        traffic = Traffic()
        put(name, prompt.decode(method_attention(method, prompt.prefills, traffic)), traffic)
    reference = FloatAttention(prompt.prefills, CONFIG, advance=advance)
    in_float = prompt.decode(reference)
    put(FLOAT, in_float, reference.traffic)
    twin = TwinAttention(prompt.prefills, CONFIG, advance=advance)
    logits = prompt.decode(twin)
    put(TWIN, logits, twin.traffic)
    counted = batch.answer[:, batch.prompt + 1 :]
    if not batch.unit:
        counted = counted & (batch.tokens[:, batch.prompt + 1 :] < 256)
    return {
        "figures": figures,
        "answers": int(counted.sum()) // max(1, batch.unit),
        "predictions": counted.numel(),
        "same_prediction": int((logits.argmax(-1) == in_float.argmax(-1)).sum()),
        "windows_closed": twin.windows,
        "agreement": asdict(twin.agreement),
    }


@cache
def _sources() -> str:
    """Hash of every file that decides a figure."""
    whole = hashlib.sha256()
    for path in sorted(imported_files(Path(__file__))):
        whole.update(hashlib.sha256(path.read_bytes()).digest())
    return whole.hexdigest()


def _digest(**facts: Any) -> str:
    facts |= {"torch": torch.__version__, "sources": _sources()}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def measure(
    settings: Settings,
    *,
    records: Records | None = None,
    console: Console | None = None,
) -> dict[str, Any]:
    """Measure the batches that ``records`` does not have; the facts of the page.

    Raises
    ------
    ConfigError
        The context is longer than the core's.
    ValueError
        There is no such task, or the context does not hold one.
    """
    if settings.context > CONFIG.max_context:
        raise ConfigError(f"context must be at most {CONFIG.max_context}, not {settings.context}")
    records = records or Records(STORE)
    path = MODELS[settings.model].path
    model, sha = load_model(path), weights_sha256(path)
    text = held_out_tokens()
    found: dict[str, list[dict[str, Any]]] = {}
    # Of a layer, of the reference and of the twin.
    layers = model.config.layers
    steps = {task: 2 * layers * (TASKS[task].decoded - 1) for task in settings.tasks}
    with progress_bar(console) as progress:
        total = sum(steps.values()) * len(settings.seeds)
        bar = progress.add_task("", total=total)
        for batch in settings.batches():
            task = batch["task"]
            described = f"{task} {batch['length']}, seed {batch['seed']}: steps of a layer"
            progress.update(bar, description=described)
            key = _digest(
                weights=sha,
                text=hashlib.sha256(np.ascontiguousarray(text).tobytes()).hexdigest(),
                config=f"{CONFIG.config_hash:08x}",
                batch=batch,
            )
            record = records.read(key)
            if record is None:
                made = make_batch(text=text, **batch)
                record = measure_batch(model, made, lambda: progress.advance(bar))
                records.write(key, record)
            else:
                progress.advance(bar, steps[task])
            found.setdefault(task, []).append(record)
    return {
        "label": "measured: the trained model on the integer twin, FP16 and float beside it",
        "torch": torch.__version__,
        "preset": CONFIG.name,
        "config_hash": f"0x{CONFIG.config_hash:08x}",
        "budget": CONFIG.budget,
        "weights_sha256": sha,
        "settings": asdict(settings),
        "rows": [row for task, batches in found.items() for row in _rows(task, batches)],
        "twin": {task: _twin(batches) for task, batches in found.items()},
        "window_bytes": _window_bytes(),
    }


def _window_bytes() -> dict[str, int]:
    """A window that closes: bytes that the core reads, and writes beyond those the lab counts."""
    layout, last = KVFormat(CONFIG), 2 * CONFIG.window
    closing, other = (step_bytes(last, [], CONFIG, closes=closes) for closes in (True, False))
    base_blocks = CONFIG.window // CONFIG.chunk**2 * layout.base_block_bytes
    counted = CONFIG.window // CONFIG.value_group * layout.group_bytes + base_blocks
    return {
        "read": closing.read - other.read,
        "written_more": closing.written - other.written - counted,
    }


def _rows(task: str, batches: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row per method."""
    scores = {
        name: [score for batch in batches for score in batch["figures"][name]["scores"]]
        for name in METHODS
    }
    rows = []
    for name in METHODS:
        traffic = Traffic()
        for batch in batches:
            traffic.add(Traffic(**batch["figures"][name]["traffic"]))
        rows.append(
            {
                "method": name,
                "task": task,
                "answers": sum(batch["answers"] for batch in batches),
                "scores": [round(score, 5) for score in scores[name]],
                **_interval(scores[name]),
                "over_fp16": _gap(scores[name], scores[DENSE]),
                "over_float": _gap(scores[name], scores[FLOAT]),
                "over_lab": _gap(scores[name], scores[LAB]),
                "traffic": asdict(traffic),
                "share": traffic.share,
            }
        )
    return rows


def _gap(scores: Sequence[float], others: Sequence[float]) -> dict[str, float]:
    """Of the differences, sequence by sequence."""
    return _interval([x - y for x, y in zip(scores, others, strict=True)])


def _interval(scores: Sequence[float]) -> dict[str, float]:
    return dict(zip(("mean", "low", "high"), interval(scores), strict=True))


def _twin(batches: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What the steps on the twin have shown, added up."""
    agreement = Agreement()
    for batch in batches:
        agreement.add(Agreement(**batch["agreement"]))
    names = ("predictions", "same_prediction", "windows_closed")
    sums = {name: sum(batch[name] for batch in batches) for name in names}
    return {**sums, "agreement": asdict(agreement)}
