"""What counts as punctual: the first legal cycle, and no later one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hw.memory.dram import Command, load_standard, standard_names
from tb.memory.dram.coverage import pairs, punctual
from tb.memory.dram.scenarios import scenarios
from tb.memory.dram.trace import Issue, Trace


@pytest.mark.parametrize("name", standard_names())
def test_the_legal_side_of_a_distance_is_punctual_and_no_later_command(name: str) -> None:
    standard = load_standard(name)
    seen = 0
    for scenario in scenarios(standard):
        table = standard.with_timing(**scenario.timing)
        last = max(issue.time for issue in scenario.legal)
        if scenario.rule not in {rule for rule, _, _ in pairs(standard)}:
            continue
        where = f"{scenario.rule} ({scenario.label})"
        assert scenario.rule in {rule for rule, _, _ in punctual(table, Trace([*scenario.legal]))}
        late = [i if i.time < last - 1 else _later(i) for i in scenario.legal]
        assert scenario.rule not in {r for r, _, _ in punctual(table, Trace(late))}, where
        # In clocks of two cycles the command is in the first legal one again.
        assert scenario.rule in {r for r, _, _ in punctual(table, Trace(late), 2)}, where
        seen += 1
    assert seen >= len(pairs(standard)) // 2


def _later(issue: Issue) -> Issue:
    return replace(issue, time=issue.time + 1)


def test_pairs() -> None:
    ddr4 = load_standard("ddr4-3200")
    reads = {Command.ACT, Command.RD, Command.RDA, Command.PRE}
    found = pairs(ddr4, reads)
    assert ("tRTP", "RD", "PRE") in found
    assert ("tRP", "auto precharge", "ACT") in found
    assert ("tFAW", "four activations", "ACT") in found
    # The row is closed; the bus keeps the distance; there is one stack; no such command.
    assert ("tRTP", "RDA", "PRE") not in found
    assert ("tPPD", "PRE", "PRE") not in found
    assert not {pair for pair in pairs(ddr4) if pair[0] == "tCCD_R"}
    assert {pair[0] for pair in found}.isdisjoint({"tRFCab", "tRTW", "tWTR_L", "tpbRround"})
