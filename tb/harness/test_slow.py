"""Slow parameters are marked, and only they."""

import pytest

from tb.harness.slow import slow_among


def test_the_others_stay_as_they_are() -> None:
    first, second = slow_among(iter(("quick", "long")), ("long",))
    assert first == "quick"
    assert (second.values, [mark.name for mark in second.marks]) == (("long",), ["slow"])


def test_an_unknown_name() -> None:
    with pytest.raises(ValueError, match=r"slow must be among \['quick'\], not \['long'\]"):
        slow_among(("quick",), ("long",))
