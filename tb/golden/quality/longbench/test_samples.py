"""Files of the benchmark, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from golden.quality.longbench.datasets import DATASETS
from golden.quality.longbench.samples import LongBenchError, read_samples
from tb.golden.quality.longbench.made_up import record, write


def test_datasets() -> None:
    """All 21: 16 in English or code, 5 in Chinese; each prompt has its context."""
    assert len(DATASETS) == 21
    assert sum(dataset.language == "zh" for dataset in DATASETS.values()) == 5
    assert all("{context}" in dataset.prompt for dataset in DATASETS.values())
    asked = {name for name, dataset in DATASETS.items() if "{input}" not in dataset.prompt}
    assert asked == {"gov_report", "multi_news", "vcsum", "passage_count", "lcc"}


def test_two_samples(tmp_path: Path) -> None:
    write(tmp_path, record(), record(_id="2", answers=["x", "y"], all_classes=["a"]))
    first, second = read_samples(tmp_path, "hotpotqa")
    assert (first.identity, second.identity) == ("1", "2")
    assert (first.classes, second.classes) == ((), ("a",))
    assert second.answers == ("x", "y")
    assert read_samples(tmp_path, "hotpotqa", limit=1) == [first]


def test_prompt(tmp_path: Path) -> None:
    """Braces in a text are no fields."""
    context = "f() { return {x}; }\n"
    write(tmp_path, record("repobench-p", context=context, input="int {y}\n"))
    (sample,) = read_samples(tmp_path, "repobench-p")
    assert sample.prompt == (
        "Please complete the code given below. \nf() { return {x}; }\nint {y}\nNext line of code:\n"
    )


def test_line_separators_inside_a_text(tmp_path: Path) -> None:
    """Only a line feed ends a record."""
    write(tmp_path, record(context="one\u2028two\x85three"))
    path = tmp_path / "hotpotqa.jsonl"
    path.write_text(path.read_text().replace("\\u2028", "\u2028").replace("\\u0085", "\x85"))
    assert read_samples(tmp_path, "hotpotqa")[0].context == "one\u2028two\x85three"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"answers": []}, "line 1: answers must be a list of at least one string, not \\[\\]"),
        ({"answers": "fox"}, "answers must be a list of at least one string, not 'fox'"),
        ({"context": None}, "context must be a string, not None"),
        ({"length": "7"}, "length must be an integer, not '7'"),
        ({"length": True}, "length must be an integer, not True"),
        ({"all_classes": "a"}, "all_classes must be a list of strings or null, not 'a'"),
        ({"dataset": "musique"}, "dataset must be 'hotpotqa', not 'musique'"),
    ],
)
def test_fields(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    found = record(**changes)
    write(tmp_path, found)
    if found["dataset"] != "hotpotqa":
        (tmp_path / f"{found['dataset']}.jsonl").rename(tmp_path / "hotpotqa.jsonl")
    with pytest.raises(LongBenchError, match=message):
        read_samples(tmp_path, "hotpotqa")


@pytest.mark.parametrize("name", sorted(record()))
def test_missing_fields(tmp_path: Path, name: str) -> None:
    found = record()
    del found[name]
    write(tmp_path, {"dataset": "hotpotqa"} | found)
    if name == "dataset":
        path = tmp_path / "hotpotqa.jsonl"
        path.write_text(path.read_text().replace('"dataset": "hotpotqa", ', "", 1))
    with pytest.raises(LongBenchError, match=f"line 1: {name} is missing"):
        read_samples(tmp_path, "hotpotqa")


def test_files(tmp_path: Path) -> None:
    with pytest.raises(LongBenchError, match=r"hotpotqa\.jsonl: cannot be read"):
        read_samples(tmp_path, "hotpotqa")
    with pytest.raises(LongBenchError, match=r"dataset must be one of narrativeqa, .* not 'squad'"):
        read_samples(tmp_path, "squad")
    path = tmp_path / "hotpotqa.jsonl"
    for text, message in (
        ("\n", "must have at least one sample"),
        ("{", "line 1: must be JSON"),
        ("[1]", "line 1: must be an object, not list"),
    ):
        path.write_text(text)
        with pytest.raises(LongBenchError, match=message):
            read_samples(tmp_path, "hotpotqa")
    write(tmp_path, record(), record())
    with pytest.raises(LongBenchError, match="line 2: _id must be new, not '1' again"):
        read_samples(tmp_path, "hotpotqa")
    write(tmp_path, record("trec"))
    with pytest.raises(LongBenchError, match="all_classes must name the classes"):
        read_samples(tmp_path, "trec")
