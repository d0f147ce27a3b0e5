"""Runs a test bench beside one part of the controller in Amaranth's own simulator."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import ModuleType
from typing import Any

import pytest
from amaranth.lib import wiring
from amaranth.sim import Simulator

from tb.formal.mutant import mutant

#: Standard, gear and pseudo-channel of the tests of the data path.
DATA_PATHS = [
    ("hbm2-2000", 1, 0),
    ("hbm2-2000", 2, 0),
    ("hbm2-2000", 2, 1),
    ("lpddr5-6400-x16", 2, 0),
    ("ddr4-3200", 1, 0),
    ("ddr4-3200", 2, 0),
]
#: A class, the text of it that is replaced and by what, and the standard that shows it.
PartFault = tuple[type[wiring.Component], str, str, str]


def run(component: wiring.Component, bench: Callable[[Any], Awaitable[None]]) -> None:
    """Simulate until the bench is over; it gets the simulation context."""
    simulator = Simulator(component)
    simulator.add_clock(1e-9)
    simulator.add_testbench(bench)
    simulator.run()


def refutes(check: Callable[[], None]) -> bool:
    """Return whether a check fails: the control that it can."""
    try:
        check()
    except AssertionError:
        return True
    return False


def refutes_part(
    check: Callable[..., None],
    fault: PartFault,
    scheduler: type[wiring.Component],
    module: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
) -> bool:
    """Whether ``check(standard, seed, scheduler)`` fails with a fault in it or in a part of it.

    A part is found by its name in ``module``, that of the scheduler.
    """
    unit, old, new, standard = fault
    faulty = mutant(unit, old, new)
    if unit is scheduler:
        return refutes(lambda: check(standard, 1, faulty))
    monkeypatch.setattr(module, unit.__name__, faulty)
    return refutes(lambda: check(standard, 1))
