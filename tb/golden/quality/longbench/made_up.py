"""Samples in the benchmark's format, and a checkpoint whose answers are known."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from golden.model.architecture import LanguageModel, ModelConfig
from tb.golden.quality.checkpoint.small import EOS, VOCABULARY, save


def record(dataset: str = "hotpotqa", **changes: Any) -> dict[str, Any]:
    """One line of a file."""
    facts: dict[str, Any] = {
        "_id": "1",
        "input": "Who ran?",
        "context": "The big fox ran. The dog slept.",
        "answers": ["The big fox"],
        "length": 7,
        "dataset": dataset,
        "language": "en",
        "all_classes": None,
    }
    return facts | changes


def write(directory: Path, *records: dict[str, Any]) -> Path:
    """One file per dataset."""
    by_dataset: dict[str, list[str]] = {}
    for item in records:
        by_dataset.setdefault(item["dataset"], []).append(json.dumps(item))
    for dataset, found in by_dataset.items():
        (directory / f"{dataset}.jsonl").write_text("\n".join(found) + "\n", encoding="utf-8")
    return directory


def saying(directory: Path, *texts: str) -> Path:
    """A Llama that goes on with the rest of a text after its first letter, and ends there.

    Each letter is followed by one other, whatever came before: no letter may come twice. Layers add
    nothing, an embedding is a unit vector of its own, and the head turns it to the next letter's.
    """
    sizes = ModelConfig(layers=1, d_model=VOCABULARY, d_ff=8, head_dim=32, context=1024)
    model = LanguageModel(sizes)
    head = torch.zeros(VOCABULARY, VOCABULARY)
    for text in texts:
        letters = [*text.encode(), EOS]
        for letter, following in pairwise(letters):
            assert not head[:, letter].any(), f"{chr(letter)!r} comes twice"
            head[following, letter] = 1.0
    with torch.no_grad():
        model.embed_tokens.weight.copy_(torch.eye(VOCABULARY))
        for name, weight in model.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                weight.zero_()
    return save(directory, model, head=head)
