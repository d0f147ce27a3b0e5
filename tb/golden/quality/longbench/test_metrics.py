"""Each metric on cases worked by hand."""

from __future__ import annotations

import pytest

from golden.quality.longbench.datasets import DATASETS
from golden.quality.longbench.metrics import (
    METRICS,
    classification_score,
    code_sim_score,
    count_score,
    qa_f1_score,
    qa_f1_zh_score,
    retrieval_score,
    retrieval_zh_score,
    rouge_score,
    rouge_zh_score,
    score,
)
from golden.quality.longbench.samples import LongBenchError, Sample

PARAGRAPH = "\u6bb5\u843d"


@pytest.mark.parametrize(
    ("prediction", "truth", "expected"),
    [
        ("The big fox!", "a Big fox", 1.0),  # case, punctuation and articles do not count
        ("big dog", "big fox", 0.5),  # one of two both ways
        ("a big red fox ran", "fox", 2 / 5),  # precision 1/4, recall 1
        ("fox fox", "fox", 2 / 3),  # a word counts as often as it occurs
        ("anthem", "them", 0.0),  # an article is a whole word
        ("u.s.", "US", 1.0),
        ("", "fox", 0.0),
        ("the", "a", 0.0),  # nothing is left
    ],
)
def test_qa_f1(prediction: str, truth: str, expected: float) -> None:
    assert qa_f1_score(prediction, truth) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("prediction", "truth", "expected"),
    [
        ("Paragraph 3", "Paragraph 3", 1.0),
        ("3 or 4", "Paragraph 3", 0.5),
        ("Paragraph 13", "Paragraph 3", 0.0),
        ("3, 3, 7, 9", "Paragraph 3", 0.5),
        ("none", "Paragraph 3", 0.0),
    ],
)
def test_retrieval(prediction: str, truth: str, expected: float) -> None:
    assert retrieval_score(prediction, truth) == expected
    chinese = truth.replace("Paragraph ", PARAGRAPH)
    assert retrieval_zh_score(prediction, chinese) == expected


def test_retrieval_needs_a_paragraph() -> None:
    with pytest.raises(LongBenchError, match="answers must be like 'Paragraph 1', not 'third'"):
        retrieval_score("3", "third")


@pytest.mark.parametrize(
    ("prediction", "expected"), [("12", 1.0), ("12 of 20", 0.5), ("120", 0.0), ("twelve", 0.0)]
)
def test_count(prediction: str, expected: float) -> None:
    assert count_score(prediction, "12") == expected


@pytest.mark.parametrize(
    ("prediction", "truth", "classes", "expected"),
    [
        ("It is a city.", "city", ("city", "river", "name"), 1.0),
        ("a city or a river", "city", ("city", "river", "name"), 0.5),
        ("a river", "city", ("city", "river", "name"), 0.0),
        ("", "city", ("city",), 0.0),
        # Part of the right class: not counted.
        ("name of a city", "name of a city", ("name", "name of a city", "x"), 1.0),
        # The one named after such a one is counted unseen: name is gone, city stays.
        ("name of a city", "name of a city", ("name", "city", "name of a city"), 0.5),
        # Then the next is examined again: of is gone, name is kept, city is gone.
        ("name of city", "name of city", ("of", "name", "city", "name of city"), 0.5),
    ],
)
def test_classification(
    prediction: str, truth: str, classes: tuple[str, ...], expected: float
) -> None:
    assert classification_score(prediction, truth, classes) == expected


@pytest.mark.parametrize(
    ("prediction", "truth", "expected"),
    [
        ("y = 1", "y = 1", 1.0),
        ("y=2", "y=1", 0.67),  # two of three letters: 2 * 2 / 6, in whole percent
        ("\n\ny=1\nz=2", "y=1", 1.0),  # the first line
        ("# comment\n```python\n// more\ny=1", "y=1", 1.0),  # that is code
        ("# comment", "y=1", 0.0),
        ("", "y=1", 0.0),
        ("", "", 1.0),
        # Blocks in order: "bc" of abcd and bcxa; 2 * 2 / 8.
        ("abcd", "bcxa", 0.5),
    ],
)
def test_code_similarity(prediction: str, truth: str, expected: float) -> None:
    assert code_sim_score(prediction, truth) == expected


def sample(dataset: str, *answers: str, classes: tuple[str, ...] = ()) -> Sample:
    return Sample(dataset, "1", "", "", answers, classes, 1)


def test_the_best_answer_counts() -> None:
    assert score(sample("hotpotqa", "a cat", "big fox", "fox"), "fox") == 1.0
    assert score(sample("hotpotqa", "a cat", "big fox"), "fox") == pytest.approx(2 / 3)


def test_first_line() -> None:
    """Of few-shot answers only; line breaks before it do not count."""
    answer = "\n\nbig fox\nQuestion: what next?"
    assert score(sample("triviaqa", "big fox"), answer) == 1.0
    assert score(sample("hotpotqa", "big fox"), answer) == pytest.approx(2 * 2 / (2 + 5))
    assert score(sample("trec", "city", classes=("city", "name")), "city\nname") == 1.0
    assert score(sample("lsht", "city", classes=("city", "name")), "city name") == 0.5


def test_every_dataset_has_a_metric() -> None:
    assert {dataset.metric for dataset in DATASETS.values()} == set(METRICS)


class TestRouge:
    """Those of the package; it counts each different word once, and adds 1e-8 below."""

    @pytest.fixture(autouse=True)
    def _needed(self) -> None:
        pytest.importorskip("rouge", reason="the optional extra 'quality' is not installed")

    @pytest.mark.parametrize(
        ("prediction", "truth", "expected"),
        [
            ("the big fox ran", "the big fox ran", 1.0),
            ("the fox ran", "the big fox ran", 6 / 7),  # 3 of 3 and 3 of 4
            ("ran fox the", "the fox ran", 1 / 3),  # one word in order, of 3 and 3
            ("a b. c d", "a b c d", 1.0),  # two sentences find all of the one
            ("dog", "fox", 0.0),
            ("", "fox", 0.0),
            ("...", "fox", 0.0),
        ],
    )
    def test_english(self, prediction: str, truth: str, expected: float) -> None:
        assert rouge_score(prediction, truth) == pytest.approx(expected, abs=1e-6)

    def test_too_long(self) -> None:
        """As the published evaluation: 0."""
        text = " ".join(f"w{i}" for i in range(1200))
        assert rouge_score(text, text) == 0.0

    def test_chinese(self) -> None:
        pytest.importorskip("jieba", reason="the optional extra 'quality' is not installed")
        # "I love" + "Beijing" against "Beijing": 1 of 3 and 1 of 1, or as jieba cuts.
        assert rouge_zh_score("\u5317\u4eac", "\u5317\u4eac") == pytest.approx(1.0, abs=1e-6)
        assert rouge_zh_score("\u6211\u7231\u5317\u4eac", "\u5317\u4eac") == pytest.approx(
            0.5, abs=1e-6
        )


class TestChineseF1:
    """jieba cuts "I love Beijing" into three words."""

    @pytest.fixture(autouse=True)
    def _needed(self) -> None:
        pytest.importorskip("jieba", reason="the optional extra 'quality' is not installed")

    @pytest.mark.parametrize(
        ("prediction", "truth", "expected"),
        [
            ("\u5317\u4eac", "\u5317\u4eac", 1.0),
            ("\u5317\u4eac\u3002", "\u300c\u5317\u4eac\u300d", 1.0),  # punctuation aside
            # But the left double angle bracket is a word: the published list has only the right.
            ("\u5317\u4eac", "\u300a\u5317\u4eac\u300b", 2 / 3),
            ("\u6211\u7231\u5317\u4eac", "\u5317\u4eac", 0.5),  # precision 1/3, recall 1
            ("\u6211\u7231\u5317\u4eac", "\u6211\u7231\u4e0a\u6d77", 2 / 3),  # Shanghai: 2 of 3
            ("ABC", "abc", 1.0),
            ("\u3002", "\u5317\u4eac", 0.0),
        ],
    )
    def test_words(self, prediction: str, truth: str, expected: float) -> None:
        assert qa_f1_zh_score(prediction, truth) == pytest.approx(expected)
