"""Run the tests that are to find the faults: first without any fault, then with each of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from golden.memory_image.bundle import Arrays
from hw.config import AttentionConfig
from tb import test_attention
from tb.attention.emission import Emission
from tb.attention.runner import AttentionRun, run_attention
from tb.harness import Hang, SimulationError
from tb.harness.files import REPOSITORY
from tb.mutants.inject import OPTION, Fault, inject

#: Where the Verilog with all faults in it goes.
MUTANTS_ROOT = REPOSITORY / "build" / "mutants"
_TESTS = Path(test_attention.__file__).relative_to(REPOSITORY)
#: A run that takes so much longer than without the fault, and so many cycles, is a hang.
_PATIENCE = 2
_GRACE = 5_000
#: What the simulator says when a model stops it, without the place in the model.
_FATAL = re.compile(r"%(?:Fatal|Error): (?:\S+:\d+: )?(?:Assertion failed in \S+: )?(.*)")


class UnknownTest(ValueError):
    """A fault names a test that does not exist."""


class IntactFailure(Exception):
    """A test fails without any fault: nothing can be said about the faults that it is to find."""


@dataclass(frozen=True)
class Outcome:
    """What a test made of the design."""

    #: The test passed, so a fault that was switched on survived.
    passed: bool
    #: First line of the test's complaint, empty if there is none.
    reason: str = ""
    #: Cycles that were simulated; a run that broke off counts as long as its limit.
    cycles: int = 0


@dataclass
class _Bench:
    """Stands in for `run_attention` during a test: simulates the Verilog with one fault on."""

    verilog: Path
    number: int
    #: Most cycles of each run of the test, in order; the bench's own limit where there is none.
    limits: Sequence[int] = ()
    cycles: list[int] = field(default_factory=list)

    def __call__(self, config: AttentionConfig, data: Arrays, **options: Any) -> AttentionRun:
        options["memory"] = {**(options.get("memory") or {}), OPTION: self.number}
        if len(self.cycles) < len(self.limits):
            options["max_cycles"] = self.limits[len(self.cycles)]
        try:
            run = run_attention(config, data, verilog=self.verilog, **options)
        except Hang:
            self.cycles.append(options.get("max_cycles", 0))
            raise
        self.cycles.append(run.cycles + (options.get("reset_at") or 0))
        return run


def test_id(name: str) -> str:
    """Return how pytest calls the test ``name``."""
    return f"{_TESTS}::{name}"


def find_test(name: str) -> tuple[Callable[..., None], dict[str, Any]]:
    """Return a test function of ``tb/test_attention.py``, and the arguments its parameters give.

    Raises
    ------
    UnknownTest
        There is no such test, or no such parameter.
    """
    function_name, _, parameter = name.removesuffix("]").partition("[")
    function = getattr(test_attention, function_name, None)
    if not function_name.startswith("test_") or function is None:
        raise UnknownTest(f"{test_id(name)} does not exist")
    marks = [m for m in getattr(function, "pytestmark", []) if m.name == "parametrize"]
    if not marks and not parameter:
        return function, {}
    for mark in marks:
        argument, values = mark.args
        for value in values:
            if str(value) == parameter:
                return function, {argument: value}
    raise UnknownTest(f"{test_id(function_name)} has no parameter {parameter!r}")


def write_mutants(emitted: Emission, faults: Sequence[Fault]) -> Path:
    """Write the emitted Verilog with all ``faults`` in it, and return its path.

    Raises
    ------
    InjectionError
        A fault does not fit the Verilog.
    """
    path = MUTANTS_ROOT / emitted.verilog.name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(inject(emitted.verilog.read_text(), faults))
    return path


class Campaign:
    """Runs tests on one Verilog file that holds all faults.

    Parameters
    ----------
    verilog
        What `write_mutants` returned.
    seed
        Seed of data and stalls, as of ``pytest --seed``.
    """

    def __init__(self, verilog: Path, seed: int) -> None:
        self._verilog = verilog
        self._seed = seed
        self._limits: dict[str, list[int]] = {}

    def run_intact(self, test: str) -> Outcome:
        """Run ``test`` without a fault, which it must pass.

        Raises
        ------
        IntactFailure
            It does not.
        """
        bench = _Bench(self._verilog, 0)
        outcome = self._run(test, bench)
        if not outcome.passed:
            raise IntactFailure(f"{test_id(test)} fails without any fault: {outcome.reason}")
        self._limits[test] = [_PATIENCE * cycles + _GRACE for cycles in bench.cycles]
        return outcome

    def run_fault(self, number: int, fault: Fault) -> Outcome:
        """Run the test that is to find ``fault``, whose number in the Verilog is ``number``."""
        test = fault.killed_by
        if test not in self._limits:
            self.run_intact(test)
        return self._run(test, _Bench(self._verilog, number, self._limits[test]))

    def _run(self, test: str, bench: _Bench) -> Outcome:
        function, arguments = find_test(test)
        reason = ""
        with mock.patch.object(test_attention, "run_attention", bench):
            try:
                function(**arguments, seed=self._seed)
            except SimulationError as error:
                reason = _first_complaint(f"{type(error).__name__}: {error}")
            except AssertionError as error:
                reason = _first_complaint(str(error)) or "an assertion of the test"
        return Outcome(not reason, reason, sum(bench.cycles))


def _first_complaint(message: str) -> str:
    """Return what says most: the first difference, the first stream, what a model complained of."""
    lines = message.splitlines()
    fatal = _FATAL.search(message)
    if fatal:
        return fatal[1]
    if len(lines) > 1 and "differences" in lines[0]:
        return lines[1]
    return lines[0].partition(" (seed ")[0].partition(";")[0] if lines else ""
