"""The benchmark's metrics: from an answer, a right answer and the classes to a score in 0..1.

Defined by the published evaluation; where that has a quirk which changes scores, so has this.
"""

from __future__ import annotations

import logging
import re
import string
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from difflib import SequenceMatcher
from functools import cache
from pathlib import Path
from typing import Any

from golden.quality.longbench.datasets import DATASETS
from golden.quality.longbench.samples import LongBenchError, Sample
from golden.quality.optional import optional

__all__ = [
    "METRICS",
    "classification_score",
    "code_sim_score",
    "count_score",
    "qa_f1_score",
    "qa_f1_zh_score",
    "retrieval_score",
    "retrieval_zh_score",
    "rouge_score",
    "rouge_zh_score",
    "score",
]

Metric = Callable[[str, str, Sequence[str]], float]
_CHINESE = Path(__file__).with_name("punctuation.txt").read_text(encoding="utf-8").strip()


def _without(text: str, characters: str) -> str:
    return text.translate(dict.fromkeys(map(ord, characters)))


def _f1(prediction: Sequence[str], truth: Sequence[str]) -> float:
    """Harmonic mean of precision and recall of the words, each as often as it occurs."""
    shared = (Counter(prediction) & Counter(truth)).total()
    return 2 * shared / (len(prediction) + len(truth)) if shared else 0.0


def _words(text: str) -> list[str]:
    """Lower-case words without punctuation and articles."""
    plain = _without(text.lower(), string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", plain).split()


def qa_f1_score(prediction: str, truth: str, classes: Sequence[str] = ()) -> float:
    """F1 of the words, case, punctuation and articles aside."""
    return _f1(_words(prediction), _words(truth))


@cache
def _jieba() -> Any:
    with warnings.catch_warnings():
        # Its sources have escape sequences that Python no longer likes.
        warnings.simplefilter("ignore")
        jieba = optional("jieba")
    jieba.setLogLevel(logging.WARNING)
    return jieba


def _chinese_words(text: str) -> list[str]:
    found: list[str] = _jieba().lcut(text, cut_all=False)
    return found


def qa_f1_zh_score(prediction: str, truth: str, classes: Sequence[str] = ()) -> float:
    """F1 of the words that jieba finds, case and punctuation aside."""

    def words(text: str) -> list[str]:
        ignored = string.punctuation + _CHINESE
        plain = ("".join(_without(word.lower(), ignored).split()) for word in _chinese_words(text))
        return [word for word in plain if word]

    return _f1(words(prediction), words(truth))


def rouge_score(prediction: str, truth: str, classes: Sequence[str] = ()) -> float:
    """F of ROUGE-L as the package ``rouge`` defines it; 0 where it gives up.

    It does so on texts without words, and on sentences too long for its recursion.
    """
    try:
        found = optional("rouge").Rouge(metrics=["rouge-l"]).get_scores(prediction, truth)
    except (ValueError, RecursionError):
        return 0.0
    return float(found[0]["rouge-l"]["f"])


def rouge_zh_score(prediction: str, truth: str, classes: Sequence[str] = ()) -> float:
    """`rouge_score` of the words that jieba finds."""
    return rouge_score(" ".join(_chinese_words(prediction)), " ".join(_chinese_words(truth)))


def classification_score(prediction: str, truth: str, classes: Sequence[str]) -> float:
    """One over the number of classes that the answer names, if the right one is among them.

    A class whose name is part of the right one's does not count, but the class named after such a
    one is not examined: the published evaluation removes from the list that it walks along.
    """
    named = [name for name in classes if name in prediction]
    counted: list[str] = []
    skip = False
    for name in named:
        if not skip and name in truth and name != truth:
            skip = True
            continue
        counted.append(name)
        skip = False
    return 1 / len(counted) if truth in counted else 0.0


def _share_of_numbers(prediction: str, truth: str) -> float:
    """Share of the numbers in the answer that are ``truth``."""
    numbers = re.findall(r"\d+", prediction)
    return numbers.count(truth) / len(numbers) if numbers else 0.0


def _retrieval(prediction: str, truth: str, word: str) -> float:
    number = re.search(word + r"(\d+)", truth)
    if number is None:
        raise LongBenchError(f"answers must be like '{word}1', not {truth!r}")
    return _share_of_numbers(prediction, number[1])


def retrieval_score(prediction: str, truth: str, classes: Sequence[str] = ()) -> float:
    """Share of the numbers in the answer that are the right paragraph's.

    Raises
    ------
    LongBenchError
        The right answer has no paragraph.
    """
    return _retrieval(prediction, truth, "Paragraph ")


def retrieval_zh_score(prediction: str, truth: str, classes: Sequence[str] = ()) -> float:
    """`retrieval_score` with the Chinese word for paragraph."""
    return _retrieval(prediction, truth, "\u6bb5\u843d")


def count_score(prediction: str, truth: str, classes: Sequence[str] = ()) -> float:
    """Share of the numbers in the answer that are the right one."""
    return _share_of_numbers(prediction, truth)


def code_sim_score(prediction: str, truth: str, classes: Sequence[str] = ()) -> float:
    """Similarity of the first line that is no comment or mark-up, in whole percent.

    That of ``fuzzywuzzy``, which is the standard library's ``SequenceMatcher``; where the package
    python-Levenshtein is installed, fuzzywuzzy takes that instead and gives other figures.
    """
    lines = prediction.lstrip("\n").split("\n")
    code = (line for line in lines if not any(mark in line for mark in ("`", "#", "//")))
    line = next(code, "")
    if line != truth and not (line and truth):
        return 0.0
    return round(100 * SequenceMatcher(None, line, truth).ratio()) / 100


METRICS: dict[str, Metric] = {
    "qa_f1": qa_f1_score,
    "qa_f1_zh": qa_f1_zh_score,
    "rouge": rouge_score,
    "rouge_zh": rouge_zh_score,
    "classification": classification_score,
    "retrieval": retrieval_score,
    "retrieval_zh": retrieval_zh_score,
    "count": count_score,
    "code_sim": code_sim_score,
}
"""By name."""


def score(sample: Sample, prediction: str) -> float:
    """Of an answer to a sample: that of the right answer it matches best."""
    dataset = DATASETS[sample.dataset]
    if dataset.first_line:
        prediction = prediction.lstrip("\n").split("\n")[0]
    metric = METRICS[dataset.metric]
    return max(metric(prediction, truth, sample.classes) for truth in sample.answers)
