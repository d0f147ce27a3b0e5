"""The 21 datasets: prompt, longest answer, metric, and what is special about them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

__all__ = ["DATASETS", "Dataset"]


@dataclass(frozen=True)
class Dataset:
    """How a dataset is asked and scored.

    Members
    -------
    prompt : with the fields ``{context}`` and, where there is a question, ``{input}``.
    tokens : longest answer.
    metric : name in `golden.quality.longbench.metrics.METRICS`.
    language : ``en`` or ``zh``; code counts as English.
    first_line : only the first line of an answer is scored.
    chat : a chat model is given its chat format; few-shot examples and code are continued as is.
    one_line : the answer ends with its line, and has at least one token.
    """

    prompt: str
    tokens: int
    metric: str
    language: str = "en"
    first_line: bool = False
    chat: bool = True
    one_line: bool = False


_PROMPTS: dict[str, str] = json.loads(
    Path(__file__).with_name("prompts.json").read_text(encoding="utf-8")
)


def _few_shot(name: str, tokens: int, metric: str, language: str = "en") -> Dataset:
    one_line = name == "samsum"
    return Dataset(_PROMPTS[name], tokens, metric, language, True, False, one_line)


DATASETS: dict[str, Dataset] = {
    "narrativeqa": Dataset(_PROMPTS["narrativeqa"], 128, "qa_f1"),
    "qasper": Dataset(_PROMPTS["qasper"], 128, "qa_f1"),
    "multifieldqa_en": Dataset(_PROMPTS["multifieldqa_en"], 64, "qa_f1"),
    "multifieldqa_zh": Dataset(_PROMPTS["multifieldqa_zh"], 64, "qa_f1_zh", "zh"),
    "hotpotqa": Dataset(_PROMPTS["hotpotqa"], 32, "qa_f1"),
    "2wikimqa": Dataset(_PROMPTS["2wikimqa"], 32, "qa_f1"),
    "musique": Dataset(_PROMPTS["musique"], 32, "qa_f1"),
    "dureader": Dataset(_PROMPTS["dureader"], 128, "rouge_zh", "zh"),
    "gov_report": Dataset(_PROMPTS["gov_report"], 512, "rouge"),
    "qmsum": Dataset(_PROMPTS["qmsum"], 512, "rouge"),
    "multi_news": Dataset(_PROMPTS["multi_news"], 512, "rouge"),
    "vcsum": Dataset(_PROMPTS["vcsum"], 512, "rouge_zh", "zh"),
    "trec": _few_shot("trec", 64, "classification"),
    "triviaqa": _few_shot("triviaqa", 32, "qa_f1"),
    "samsum": _few_shot("samsum", 128, "rouge"),
    "lsht": _few_shot("lsht", 64, "classification", "zh"),
    "passage_count": Dataset(_PROMPTS["passage_count"], 32, "count"),
    "passage_retrieval_en": Dataset(_PROMPTS["passage_retrieval_en"], 32, "retrieval"),
    "passage_retrieval_zh": Dataset(_PROMPTS["passage_retrieval_zh"], 32, "retrieval_zh", "zh"),
    "lcc": Dataset(_PROMPTS["lcc"], 64, "code_sim", chat=False),
    "repobench-p": Dataset(_PROMPTS["repobench-p"], 64, "code_sim", chat=False),
}
"""By name, in the order of the benchmark."""
