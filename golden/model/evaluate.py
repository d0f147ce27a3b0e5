"""Measure committed weights: ``python -m golden.model.evaluate --model lm4k``.

Prints and writes, as JSON, bits per byte on the held-out text and the copy and recall scores at
several lengths, beside those of an untrained control: the same sizes, seeded as the training was.
The definitions are in `golden.model.metrics`.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open

from golden.model.architecture import LanguageModel
from golden.model.corpus import held_out_text, held_out_tokens, text_tokens
from golden.model.metrics import TASKS, bits_per_byte, task_accuracy
from golden.model.weights import MODELS, load_model, weights_sha256

__all__ = ["LENGTHS", "SHARE", "TARGET", "TARGET_LENGTH", "evaluate", "main"]

LENGTHS = (512, 1024, 2048, 4096)
"""Up to the context that the model was trained for."""
SHARE = 16_384
"""Tokens of each held-out file over which bits per byte are taken."""
TARGET = 0.95
"""Copy and recall wanted at every length from `TARGET_LENGTH` tokens on."""
TARGET_LENGTH = 2048


def evaluate(
    model: LanguageModel, *, lengths: Sequence[int], prompts: int, seed: int
) -> dict[str, Any]:
    """All figures of one model.

    Arguments
    ---------
    lengths : tokens of the prompts.
    prompts : prompts per task and length; one has 32 copy letters or 16 recall queries.
    seed : of the prompts.

    Returns
    -------
    ``{"bits_per_byte": {file: float, "all": float}, "copy": {length: share}, "recall": ...}``
    """
    text = held_out_tokens()
    parts = {name: text_tokens(whole)[:SHARE] for name, whole in held_out_text().items()}
    entropy = {name: bits_per_byte(model, part, length=1024) for name, part in parts.items()}
    windows = [len(part) // 1024 for part in parts.values()]
    entropy["all"] = float(np.average(list(entropy.values()), weights=windows))
    figures: dict[str, Any] = {"bits_per_byte": _rounded(entropy)}
    for task in TASKS:
        figures[task] = _rounded(
            {
                str(length): task_accuracy(
                    model, task, text, length=length, prompts=prompts, seed=seed
                )
                for length in lengths
            }
        )
    return figures


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in values.items()}


def main() -> None:
    """Evaluate the weights and the control; exit with status 1 when a target is missed."""
    parser = argparse.ArgumentParser(description="Measure the small language model.")
    parser.add_argument("--model", choices=sorted(MODELS), default="lm")
    parser.add_argument("--prompts", type=int, default=16, help="per task and length")
    parser.add_argument("--seed", type=int, default=2, help="of the prompts")
    parser.add_argument("--output", type=Path, help="results/model.json, or model4k.json for lm4k")
    arguments = parser.parse_args()

    chosen = MODELS[arguments.model]
    model = load_model(chosen.path)
    with safe_open(chosen.path, framework="pt") as file:
        training = {k: v for k, v in (file.metadata() or {}).items() if k != "config"}
    control = LanguageModel(model.config, seed=int(training.get("seed", 0))).eval()
    asked = {
        "lengths": [length for length in LENGTHS if length <= chosen.context],
        "prompts": arguments.prompts,
        "seed": arguments.seed,
    }
    trained = evaluate(model, **asked)
    targets = [
        {
            "task": task,
            "length": length,
            "wanted": TARGET,
            "met": trained[task][str(length)] >= TARGET,
        }
        for task in TASKS
        for length in asked["lengths"]
        if length >= TARGET_LENGTH
    ]
    report = {
        "label": "measured",
        "command": f"python -m golden.model.evaluate --model {arguments.model}",
        "torch": torch.__version__,
        "weights_sha256": weights_sha256(chosen.path),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "config": dataclasses.asdict(model.config),
        "training": {k: int(v) if v.isdecimal() else v for k, v in sorted(training.items())},
        "prompts": {"per_task_and_length": arguments.prompts, "seed": arguments.seed},
        "trained": trained,
        "untrained": evaluate(control, **asked),
        "targets": targets,
    }
    text = json.dumps(report, indent=2)
    suffix = arguments.model.removeprefix("lm")
    output = arguments.output or Path("results") / f"model{suffix}.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(text + "\n")
    print(text)
    sys.exit(0 if all(target["met"] for target in targets) else 1)


if __name__ == "__main__":
    main()
