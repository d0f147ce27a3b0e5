"""Switches a fault of a component on in a test run: ``pytest -p tb.mutants.switch``.

The environment variable `VARIABLE` names the fault, see `tb.mutants.components`.
"""

from __future__ import annotations

import os

import pytest

from tb.mutants.components import COMPONENT_FAULTS, switch_on

VARIABLE = "COMPONENT_FAULT"


def pytest_configure(config: pytest.Config) -> None:
    """Put the fault in before a test is collected."""
    name = os.environ.get(VARIABLE)
    if name:
        switch_on(next(fault for fault in COMPONENT_FAULTS if fault.name == name))
