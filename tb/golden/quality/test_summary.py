"""What is kept, and what equal traffic buys, on made-up rows."""

from __future__ import annotations

from typing import Any

import pytest

from golden.quality.summary import equal_table, keeps, kept_share, kept_table, nearest
from tb.golden.quality.test_outputs import row

Row = dict[str, Any]


def setting(
    label: str, *, copy: float = 0.0, recall: float = 0.0, text: float = 0.0, **changes: Any
) -> list[Row]:
    """Rows of a setting with these differences to FP16, whose text takes 2 bits per byte."""

    def of(task: str, mean: float, gap: float) -> Row:
        return row(label, task, mean=mean + gap, difference={"mean": gap}, **changes)

    return [of("text", 2.0, text), of("copy", 1.0, copy), of("recall", 0.9, recall)]


def by_task(rows: list[Row]) -> dict[str, Row]:
    return {item["task"]: item for item in rows}


@pytest.mark.parametrize(
    ("gaps", "expected"),
    [
        ({"copy": -0.01, "recall": -0.01, "text": 0.02}, True),
        ({"copy": 0.5, "recall": 0.5, "text": -1.0}, True),
        ({"copy": -0.0101}, False),
        ({"recall": -0.0101}, False),
        ({"text": 0.0201}, False),
    ],
)
def test_keeps(gaps: dict[str, float], expected: bool) -> None:
    assert keeps(by_task(setting("KVO", **gaps))) is expected


def test_what_was_not_measured_is_not_kept() -> None:
    rows = setting("KVO")
    assert keeps(by_task(rows))
    for left_out in rows:
        assert not keeps(by_task([item for item in rows if item is not left_out]))
        unpaired = [item | {"difference": None} if item is left_out else item for item in rows]
        assert not keeps(by_task(unpaired))


def test_kept_share() -> None:
    """The least of the settings that keep quality, and of a setting its dearest task."""
    rows = [
        *setting("Quest", share=0.3),
        *setting("Quest, budget 96", share=0.2),
        *setting("Quest, budget 64", share=0.1, recall=-0.5),
        *setting("Quest, budget 32", share=0.05, dense_layers=2),
        *setting("Quest, shuffled", share=0.04, control=True),
        *setting("Quest, budget 16", share=0.03, context=256),
    ]
    assert kept_share(rows, "Quest", 512) == 0.2
    rows[3]["share"] = 0.25
    assert kept_share(rows, "Quest", 512) == 0.25
    assert kept_share(rows, "Quest", 256) == 0.03
    assert kept_share(rows, "H2O", 512) is None


def test_kept_table() -> None:
    """By the longest context; who keeps nothing comes last; FP16 and controls are left out."""
    rows = [
        *setting("FP16", share=1.0),
        *setting("H2O", share=0.05, copy=-0.5),
        *setting("H2O", share=0.04, context=256),
        *setting("INT8", share=0.5),
        *setting("Quest", share=0.3),
        *setting("RCE, shuffled", share=0.3, control=True),
    ]
    assert kept_table(rows).splitlines() == [
        "| method | 256 tokens | 512 tokens |",
        "| --- | ---: | ---: |",
        "| Quest | none | 30.00% |",
        "| INT8 | none | 50.00% |",
        "| H2O | 4.00% | none |",
    ]


def test_nearest() -> None:
    """Each method once, within 15 % of KVO's traffic, best first."""
    rows = [
        row("KVO", "recall", share=0.1, mean=0.3),
        row("KVO, budget 160", "recall", share=0.101, mean=0.9),
        row("Quest", "recall", share=0.11, mean=0.5),
        row("Quest, budget 64", "recall", share=0.112, mean=0.6),
        row("H2O", "recall", share=0.12, mean=1.0),
        row("RCE", "copy", share=0.1, mean=1.0),
    ]
    found = nearest(rows, "recall", 512)
    assert [(name, item["label"]) for name, item in found.items()] == [
        ("Quest", "Quest"),
        ("KVO", "KVO"),
    ]
    assert nearest(rows, "recall", 256) == {}
    assert equal_table([*rows, row("KVO", "recall", context=256, share=0.2)], "recall") == (
        "| method | 256 tokens | 512 tokens |\n| --- | ---: | ---: |\n"
        "| *traffic of KVO* | 20.00% | 10.00% |\n| Quest |  | 50.0% |\n| KVO | 50.0% | 30.0% |\n"
    )
