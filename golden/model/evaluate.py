"""Measure the committed weights: ``python -m golden.model.evaluate``.

Prints and writes, as JSON, bits per byte on the held-out text and the copy and recall scores at
three lengths, beside those of an untrained control: the same sizes, seeded as the training was.
The definitions are in `golden.model.metrics`.
"""

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open

from golden.model.architecture import LanguageModel
from golden.model.corpus import held_out_text, held_out_tokens, text_tokens
from golden.model.metrics import bits_per_byte, task_accuracy
from golden.model.weights import WEIGHTS, load_model, weights_sha256

__all__ = ["LENGTHS", "SHARE", "TARGETS", "evaluate", "main"]

LENGTHS = (512, 1024, 2048)
SHARE = 16_384
"""Tokens of each held-out file over which bits per byte are taken."""
TARGETS = {"copy": 0.95, "recall": 0.85}
"""Wanted at the longest length."""


def evaluate(model: LanguageModel, *, prompts: int, seed: int) -> dict[str, Any]:
    """All figures of one model.

    Arguments
    ---------
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
    for task in TARGETS:
        figures[task] = _rounded(
            {
                str(length): task_accuracy(
                    model, task, text, length=length, prompts=prompts, seed=seed
                )
                for length in LENGTHS
            }
        )
    return figures


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in values.items()}


def main() -> None:
    """Evaluate the weights and the control; exit with status 1 when a target is missed."""
    parser = argparse.ArgumentParser(description="Measure the small language model.")
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--prompts", type=int, default=16, help="per task and length")
    parser.add_argument("--seed", type=int, default=2, help="of the prompts")
    parser.add_argument("--output", type=Path, default=Path("results/model.json"))
    arguments = parser.parse_args()

    model = load_model(arguments.weights)
    with safe_open(arguments.weights, framework="pt") as file:
        training = {k: int(v) for k, v in (file.metadata() or {}).items() if k != "config"}
    control = LanguageModel(model.config, seed=training.get("seed", 0)).eval()
    trained = evaluate(model, prompts=arguments.prompts, seed=arguments.seed)
    longest = str(max(LENGTHS))
    targets = {
        task: {"length": int(longest), "wanted": wanted, "met": trained[task][longest] >= wanted}
        for task, wanted in TARGETS.items()
    }
    report = {
        "label": "measured",
        "command": "python -m golden.model.evaluate",
        "torch": torch.__version__,
        "weights_sha256": weights_sha256(arguments.weights),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "config": dataclasses.asdict(model.config),
        "training": training,
        "prompts": {"per_task_and_length": arguments.prompts, "seed": arguments.seed},
        "trained": trained,
        "untrained": evaluate(control, prompts=arguments.prompts, seed=arguments.seed),
        "targets": targets,
    }
    text = json.dumps(report, indent=2)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(text + "\n")
    print(text)
    sys.exit(0 if all(target["met"] for target in targets.values()) else 1)


if __name__ == "__main__":
    main()
