"""The sentences, on made-up rows."""

from golden.quality.findings import findings
from tb.golden.quality.test_outputs import row
from tb.golden.quality.test_summary import setting

KVO = row("KVO", "recall", mean=0.3, low=0.2, high=0.4, share=0.10)
QUEST = row("Quest", "recall", mean=0.7, share=0.11)
WIDE = row("H2O", "recall", mean=0.9, share=0.12)


def test_equal_traffic() -> None:
    """Best first, a method once; 12 % is too much beside 10 %; another context does not count."""
    short = row("RCE", "recall", mean=0.5, share=0.10, context=256)
    farther = row("Quest, budget 9", "recall", mean=0.8, share=0.112)
    assert findings([KVO, farther, QUEST, WIDE, short]) == [
        "Recall at about the traffic of KVO as published (10.0% of FP16, within 15%). "
        "Quest: 70%; KVO: 30%."
    ]
    assert findings([QUEST]) == []


def test_kept() -> None:
    """Two of three keep all; without the third nothing is said of others."""
    rows = [
        *setting("FP16", share=1.0),
        *setting("INT8", share=0.5),
        *setting("Quest", share=0.3),
        *setting("H2O", share=0.1, recall=-0.5),
    ]
    start = (
        "Least traffic with copy and recall within 1 point and bits per byte within 1% of FP16, "
        "at 512 tokens with every layer compressed. Quest: 30.00%; INT8: 50.00%."
    )
    assert findings(rows) == [f"{start} No setting of another method keeps them."]
    assert findings(rows[:-3]) == [start]
    assert findings(rows[-3:]) == []


def test_whole_layers() -> None:
    whole = row("Quest", "needle", dense_layers=2, mean=0.95)
    (sentence,) = findings([whole])
    assert "95% (Quest, needle): this model looks things up in those layers" in sentence
    worse = row("H2O", "recall", dense_layers=2, mean=0.5)
    (sentence,) = findings([whole, worse])
    assert sentence.endswith("50% (H2O, recall).")


def test_controls() -> None:
    """Intervals 20 to 40 % and 10 to 25 % overlap; in another task 10 to 15 % do not."""
    control = row("KVO, shuffled", "recall", control=True, low=0.1, high=0.25)
    assert findings([KVO, control])[-1].endswith("needle: KVO.")
    better = row("KVO, shuffled", "copy", control=True, low=0.1, high=0.15)
    copy = row("KVO", "copy", low=0.2)
    assert findings([KVO, control, copy, better])[-1].startswith("Every ranking")
