"""The stepped runner passes a component that is right, and sees each fault of one that is not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tb.harness import ExtraItems, Hang, PortError, StreamRuleBroken
from tb.harness.examples import Fault, Passage
from tb.harness.stepped import Neighbours, Steps, play

ITEMS = list(range(20))


class Faulty(Neighbours):
    """Items for a `Passage`, and what it does wrong."""

    def __init__(self, fault: Fault) -> None:
        super().__init__({"items": ITEMS})
        self._fault = fault

    def react(self, moved: Mapping[str, int]) -> Mapping[str, int]:
        return {"fault": self._fault}


class Echo(Neighbours):
    """Sends again, once, what came."""

    def __init__(self) -> None:
        super().__init__({"items": [1]})

    def react(self, moved: Mapping[str, int]) -> Mapping[str, int]:
        if "passed" in moved and len(self.inputs["items"]) < 5:
            self.inputs["items"].append(moved["passed"] + 1)
        return {}


def passage(fault: Fault = Fault.NONE, **options: Any) -> Steps:
    """Run a passage without a mask."""
    return play(Passage(width=8), lambda: Faulty(fault), {"passed": len(ITEMS)}, **options)


@pytest.mark.parametrize("stall", [0.0, 0.5, {"passed": 0.9}], ids=str)
def test_items_pass(stall: Any) -> None:
    steps = passage(stall=stall)
    assert steps.items == {"items": ITEMS, "passed": ITEMS}
    if not stall:
        assert steps.cycles_of["items"][0] == 1
        assert steps.cycles_of["passed"] == [cycle + 2 for cycle in steps.cycles_of["items"]]


def test_reset() -> None:
    """Everything is sent and received again, and cycles are counted anew."""
    steps = passage(reset_at=9, watch=["count"])
    assert steps.items["passed"] == ITEMS
    assert steps.seen["count"][0] == 4


def test_neighbours_answer() -> None:
    assert play(Passage(width=8), Echo, {"passed": 5}).items["passed"] == [1, 2, 3, 4, 5]


def test_a_lost_item_is_seen() -> None:
    with pytest.raises(Hang, match="output 'passed' gave 19 of 20 items"):
        passage(Fault.DROP, max_cycles=60)


def test_an_input_that_is_not_taken_is_seen() -> None:
    with pytest.raises(Hang, match=r"input 'items' took .* of 20 items"):
        passage(Fault.DEAF, max_cycles=60)


def test_items_too_many_are_seen() -> None:
    with pytest.raises(ExtraItems, match="items too many: passed"):
        passage(Fault.REPEAT)


@pytest.mark.parametrize(
    ("fault", "what"),
    [(Fault.WITHDRAW, "withdrew valid"), (Fault.CHANGE, "changed the payload")],
)
def test_a_broken_rule_is_seen(fault: Fault, what: str) -> None:
    with pytest.raises(StreamRuleBroken, match=f"{what} of 'passed' before ready"):
        passage(fault, stall=0.5)


def test_an_unknown_input_is_refused() -> None:
    class Wrong(Echo):
        def react(self, moved: Mapping[str, int]) -> Mapping[str, int]:
            return {"masks": 1}

    with pytest.raises(PortError, match="there is no plain input 'masks'"):
        play(Passage(width=8), Wrong, {"passed": 1})
