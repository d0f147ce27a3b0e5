"""Methods by the words of a command line."""

import pytest

from golden.quality.choose import METHODS, choose, chosen_points
from golden.quality.methods import FP16, KIVI, Progressive, Quest
from golden.quality.points import BUDGETED, FIXED, Point


def test_choose() -> None:
    assert choose("Quest") == Quest()
    assert choose("Quest:budget=512,page=32") == Quest(budget=512, page=32)
    assert choose("Quest:shuffled=true") == Quest(shuffled=True)
    assert choose("KIVI:bits=4") == KIVI(bits=4)
    assert choose("Progressive:top=64,screen_bits=3") == Progressive(top=64, screen_bits=3)


def test_own() -> None:
    """A class of any module, with parameters."""
    found = choose("docs.examples.newest_tokens.NewestTokens:budget=100")
    assert type(found).__module__ == "docs.examples.newest_tokens"
    assert found.parameters == {"budget": 100, "shuffled": False}


def test_every_method_of_the_lab_has_a_name() -> None:
    assert {method.name for method in (FP16(), *BUDGETED, *FIXED)} <= set(METHODS)


def test_points() -> None:
    """FP16 first and once; the others with the layers that stay whole."""
    assert chosen_points(("Quest", "FP16"), dense_layers=0) == [
        Point(method=FP16()),
        Point(method=Quest()),
    ]
    assert chosen_points(("Quest",), dense_layers=2)[1] == Point(method=Quest(), dense_layers=2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("LRU", r"method must be one of ArkVale, .* or a class with its module, not 'LRU'"),
        (
            "golden.quality.LRU",
            "method must be a class that Python finds, not 'golden.quality.LRU'",
        ),
        ("no_such.LRU", "must be a class that Python finds, not 'no_such.LRU': No module named"),
        ("golden.quality.interface.Prefill", "method must be a CacheMethod, not 'golden.qua"),
        ("Quest:pages=2", "Quest must be given budget, page, shuffled, not 'pages'"),
        ("Quest:budget=many", "budget must be a number, not 'many'"),
        ("Quest:shuffled=1", "shuffled must be true or false, not '1'"),
        ("Quest:budget=20", "budget must be a multiple of page 16, not 20"),
    ],
)
def test_errors(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        choose(text)
