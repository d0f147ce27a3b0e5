"""Which rules a command trace runs into: commands that come in the first cycle that is legal."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hw.memory.dram import DramStandard
from tb.memory.dram.channel_checker import ChannelChecker
from tb.memory.dram.trace import Trace


def punctual(standard: DramStandard, trace: Trace, cycles: int = 1) -> Counter[str]:
    """Return per rule how many commands would have broken it ``cycles`` earlier.

    Parameters
    ----------
    standard
        The standard.
    trace
        A trace without violations.
    cycles
        1, or the gear of a controller that cannot issue a command in every cycle.
    """
    checkers = [ChannelChecker(standard) for _ in range(standard.pseudo_channels)]
    found: Counter[str] = Counter()
    for issue in trace.issues:
        checker = checkers[issue.channel]
        found.update({rule for rule, _ in checker.limits(replace(issue, time=issue.time - cycles))})
        checker.add(issue)
    return found
