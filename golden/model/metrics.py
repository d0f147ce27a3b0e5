"""How well a model predicts text, copies and recalls; one definition each.

bits per byte : mean negative base-2 logarithm of the probability given to each next byte.
copy : share of the 32 letters predicted right (arg-max over the vocabulary).
recall : share of the queries all 3 of whose value letters are predicted right.

Answers are scored with the right letters before them as input. With exact attention a value whose
letters are all right this way is also what greedy decoding gives, if the answers before it are as
well; a compressed cache whose state depends on what was attended to (H2O, KVO) may differ after any
wrong answer. ``golden.quality.generate`` scores what is generated.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from golden.model.architecture import AttentionFunction, LanguageModel, causal_attention
from golden.model.tasks import (
    BOS,
    COPY_LETTERS,
    PAIRS,
    SPELL,
    Sample,
    copy_task,
    recall_task,
)

__all__ = [
    "TASKS",
    "bits_per_byte",
    "copy_prompt",
    "filler",
    "recall_prompt",
    "score",
    "task_accuracy",
]


def filler(rng: np.random.Generator, text: NDArray[np.uint16], length: int) -> NDArray[np.int64]:
    """BOS, then ``length - 1`` tokens of text from a random place."""
    if not 1 <= length < len(text):
        raise ValueError(f"filler length must be 1..{len(text) - 1}, not {length!r}")
    start = int(rng.integers(0, len(text) - length))
    return np.concatenate(([BOS], text[start : start + length - 1])).astype(np.int64)


def copy_prompt(rng: np.random.Generator, text: NDArray[np.uint16], length: int) -> Sample:
    """A copy task of ``length`` tokens, filled with ``text``."""
    return copy_task(rng, filler(rng, text, length - 2 * (COPY_LETTERS + 1)))


def recall_prompt(rng: np.random.Generator, text: NDArray[np.uint16], length: int) -> Sample:
    """A look-up task of ``length`` tokens, filled with ``text``."""
    return recall_task(rng, filler(rng, text, length - 2 * PAIRS * (1 + 2 * SPELL)))


PromptMaker = Callable[[np.random.Generator, NDArray[np.uint16], int], Sample]

TASKS: dict[str, tuple[PromptMaker, int]] = {
    "copy": (copy_prompt, 1),
    "recall": (recall_prompt, SPELL),
}
"""By name: the prompt generator, and how many letters count as one answer."""


@torch.no_grad()
def score(
    model: LanguageModel,
    sample: Sample,
    *,
    unit: int,
    attention: AttentionFunction = causal_attention,
) -> float:
    """Share of the answers that are right, ``unit`` consecutive letters making one answer."""
    logits = model(torch.from_numpy(sample.tokens)[None], attention=attention)[0]
    right = logits[:-1].argmax(-1).numpy() == sample.tokens[1:]
    answers = right[sample.answer[1:]].reshape(-1, unit)
    return float(answers.all(axis=1).mean())


def task_accuracy(
    model: LanguageModel,
    task: str,
    text: NDArray[np.uint16],
    *,
    length: int,
    prompts: int,
    seed: int,
    attention: AttentionFunction = causal_attention,
) -> float:
    """Mean score over ``prompts`` prompts of ``length`` tokens.

    Arguments
    ---------
    task : "copy" or "recall".
    text : tokens from which the filler is taken.
    attention : replaces exact attention, to score a compressed KV cache.

    Raises
    ------
    ValueError : there is no such task.
    """
    if task not in TASKS:
        raise ValueError(f"task must be one of {sorted(TASKS)}, not {task!r}")
    make, unit = TASKS[task]
    rng = np.random.default_rng([seed, length, sorted(TASKS).index(task)])
    scores = [
        score(model, make(rng, text, length), unit=unit, attention=attention)
        for _ in range(prompts)
    ]
    return float(np.mean(scores))


@torch.no_grad()
def bits_per_byte(
    model: LanguageModel,
    text: NDArray[np.uint16],
    *,
    length: int,
    attention: AttentionFunction = causal_attention,
) -> float:
    """Over consecutive windows of ``length`` tokens, each predicted from its own start.

    The last, incomplete window is left out; so is predicting BOS.
    """
    windows = len(text) // length
    if not windows:
        raise ValueError(f"length must be at most {len(text)}, not {length!r}")
    total, count = 0.0, 0
    for rows in text[: windows * length].astype(np.int64).reshape(windows, length):
        tokens = torch.from_numpy(rows)[None]
        log_p = model(tokens, attention=attention)[0, :-1].log_softmax(-1)
        picked = log_p.gather(1, tokens[0, 1:, None])[:, 0]
        is_byte = tokens[0, 1:] < 256
        total -= float(picked[is_byte].sum())
        count += int(is_byte.sum())
    return total / count / float(np.log(2.0))
