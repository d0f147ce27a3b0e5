"""What the lab asks of a model: batches of sequences, and where exact attention ends in them.

text : bits per byte of the last `TEXT_STEPS` bytes of held-out text.
copy : share of 32 letters, seen far back, that are predicted right. The prompt ends before the
    request, so a method cannot know at its end what will be wanted.
recall : share of 16 look-ups with all value letters right; the prompt ends before the first.
needle : one pair somewhere in the text, asked for at the end of the prompt; share of values right.
    The only task whose question is part of the prompt, as in the papers that choose tokens once.

Copy and recall are those of ``golden.model.metrics``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from golden.model.metrics import copy_prompt, filler, recall_prompt
from golden.model.tasks import (
    COPY_LETTERS,
    PAIRS,
    SPELL,
    Sample,
    ask_value,
    join,
    random_pairs,
    show_pair,
)

__all__ = ["TASKS", "TEXT_STEPS", "Batch", "Task", "make_batch", "needle_prompt"]

#: Bytes that a text sequence is scored on.
TEXT_STEPS = 128
_PAIR = 1 + 2 * SPELL
Text = NDArray[np.uint16]


@dataclass(frozen=True)
class Task:
    """One measure.

    Members
    -------
    make : sample number ``index`` of ``count``, of ``length`` tokens.
    decoded : tokens at the end of the sequence that come one by one, after the prompt.
    unit : letters of one answer; 0 for bits per byte.
    """

    make: Callable[[np.random.Generator, Text, int, int, int], Sample]
    decoded: int
    unit: int

    @property
    def higher_is_better(self) -> bool:
        """False for bits per byte."""
        return self.unit > 0


def needle_prompt(rng: np.random.Generator, text: Text, length: int, depth: float) -> Sample:
    """One pair at ``depth`` of the text (0 begins it, 1 ends it), asked for at the end."""
    body = filler(rng, text, length - 2 * _PAIR)
    keys, values = random_pairs(rng, 1)
    place = 1 + round(depth * (len(body) - 1))
    return join(
        body, [(place, show_pair(keys[0], values[0])), (len(body), ask_value(keys[0], values[0]))]
    )


def _text(rng: np.random.Generator, text: Text, length: int, index: int, count: int) -> Sample:
    return Sample(filler(rng, text, length), np.arange(length) >= length - TEXT_STEPS)


TASKS: dict[str, Task] = {
    "text": Task(_text, TEXT_STEPS + 1, 0),
    "copy": Task(
        lambda rng, text, length, index, count: copy_prompt(rng, text, length), COPY_LETTERS + 1, 1
    ),
    "recall": Task(
        lambda rng, text, length, index, count: recall_prompt(rng, text, length),
        PAIRS * _PAIR,
        SPELL,
    ),
    # The last letter of the key is the first decode step: its prediction is the first answer.
    "needle": Task(
        lambda rng, text, length, index, count: needle_prompt(
            rng, text, length, (index + 0.5) / count
        ),
        SPELL + 1,
        SPELL,
    ),
}
"""By name."""


@dataclass(frozen=True)
class Batch:
    """Sequences of one task.

    Members
    -------
    tokens : ids, int64 ``[B, T]``.
    answer : bool ``[B, T]``: to be predicted; as many in every sequence, all after the prompt.
    prompt : tokens of the prompt.
    unit : letters of one answer; 0 for bits per byte.
    """

    tokens: Tensor
    answer: Tensor
    prompt: int
    unit: int

    def scores(self, logits: Tensor) -> list[float]:
        """One figure per sequence from the logits ``[B, T - prompt - 1, vocabulary]``.

        They are the predictions of the tokens from ``prompt + 1`` on.
        """
        expected = self.tokens[:, self.prompt + 1 :].to(logits.device)
        asked = self.answer[:, self.prompt + 1 :].to(logits.device)
        if self.unit:
            right = (logits.argmax(-1) == expected)[asked].view(len(expected), -1, self.unit)
            return right.all(-1).double().mean(-1).tolist()
        picked = logits.double().log_softmax(-1).gather(-1, expected.unsqueeze(-1)).squeeze(-1)
        # BOS between two texts is nothing to predict.
        counted = asked & (expected < 256)
        total = -(picked * counted).sum(-1) / float(np.log(2.0))
        return (total / counted.sum(-1)).tolist()


def make_batch(task: str, text: Text, *, length: int, sequences: int, seed: int) -> Batch:
    """``sequences`` of ``length`` tokens; the same for the same arguments.

    Raises
    ------
    ValueError
        There is no such task, or the length does not hold one.
    """
    if task not in TASKS:
        raise ValueError(f"task must be one of {sorted(TASKS)}, not {task!r}")
    if sequences < 1:
        raise ValueError(f"sequences must be positive, not {sequences!r}")
    chosen = TASKS[task]
    rng = np.random.default_rng([seed, length, sorted(TASKS).index(task)])
    samples = [chosen.make(rng, text, length, index, sequences) for index in range(sequences)]
    return Batch(
        tokens=torch.from_numpy(np.stack([sample.tokens for sample in samples])),
        answer=torch.from_numpy(np.stack([sample.answer for sample in samples])),
        prompt=length - chosen.decoded,
        unit=chosen.unit,
    )
