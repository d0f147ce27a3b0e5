"""Scores and traffic of a method on one sample."""

from __future__ import annotations

from collections.abc import Sequence
from math import log

import torch

from golden.quality.checkpoint.load import Checkpoint
from golden.quality.checkpoint.session import Continuation, Prefilled
from golden.quality.checkpoint.tasks import Sample, Turn
from golden.quality.evaluate import Figures
from golden.quality.generate import Generation
from golden.quality.interface import CacheMethod

__all__ = ["Prompts", "perplexity"]


class Prompts:
    """Samples of one task, each prompt attended to exactly once for all methods.

    The prompts are held one at a time: ask for all methods of a sample before the next.
    """

    def __init__(self, checkpoint: Checkpoint, samples: Sequence[Sample]) -> None:
        self._checkpoint = checkpoint
        self._samples = samples
        self._current: tuple[int, Prefilled] | None = None

    def prefilled(self, index: int) -> Prefilled:
        """The prompt of a sample."""
        if self._current is None or self._current[0] != index:
            self._current = None
            self._current = (index, Prefilled(self._checkpoint, self._samples[index].prompt))
        return self._current[1]

    def evaluate(
        self,
        index: int,
        method: CacheMethod,
        *,
        dense_layers: int = 0,
        generation: Generation = "free",
    ) -> Figures:
        """One score: bits per byte of a text sample, else the share of right answers.

        Free, the text generated for a number must be the number; of several words each counts by
        its place. Teacher-forced, every token of a number must be the most probable one; of words
        each token counts.
        """
        sample = self._samples[index]
        continuation = self.prefilled(index).decode(method, dense_layers=dense_layers)
        if sample.bytes:
            bits = sum(_bits(continuation, turn) for turn in sample.turns)
            return Figures([bits / sample.bytes], continuation.traffic)
        answer = self._generated if generation == "free" else _forced
        shares = [answer(continuation, turn) for turn in sample.turns]
        return Figures([sum(shares) / len(shares)], continuation.traffic)

    def _generated(self, continuation: Continuation, turn: Turn) -> float:
        """Share of the words that greedy decoding gives."""
        limit = len(turn.answer)
        ids = continuation.generate(turn.request, limit=limit, stop=_is_complete)
        found = self._checkpoint.decode(ids).strip().split("\n")[0].rstrip(".").split()
        expected = turn.text.split()
        right = sum(x == y for x, y in zip(found, expected, strict=False))
        return right / len(expected)


def _is_complete(text: str) -> bool:
    return "\n" in text.lstrip() or "." in text


def _forced(continuation: Continuation, turn: Turn) -> float:
    logits = continuation.force(turn.request, turn.answer)
    right = logits.argmax(-1).cpu() == torch.tensor(turn.answer)
    single = len(turn.text.split()) == 1
    return float(right.all()) if single else float(right.double().mean())


def _bits(continuation: Continuation, turn: Turn) -> float:
    """Negative base-2 logarithm of the probability of the answer."""
    logits = continuation.force(turn.request, turn.answer).cpu().double()
    answer = torch.tensor(turn.answer)
    return -float(logits.log_softmax(-1).gather(-1, answer.unsqueeze(-1)).sum()) / log(2)


def perplexity(samples: Sequence[Sample], scores: Sequence[float]) -> float:
    """Per token, from the bits per byte of text samples."""
    bits = sum(score * sample.bytes for sample, score in zip(samples, scores, strict=True))
    tokens = sum(len(turn.answer) for sample in samples for turn in sample.turns)
    return float(2.0 ** (bits / tokens))
