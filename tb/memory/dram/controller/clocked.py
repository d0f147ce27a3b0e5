"""Runs a test bench beside one part of the controller in Amaranth's own simulator."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from amaranth.lib import wiring
from amaranth.sim import Simulator


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
