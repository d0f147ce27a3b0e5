"""Every rule of every standard at its edge, in the device and in the trace checker."""

from __future__ import annotations

from collections import defaultdict
from functools import cache

import pytest

from hw.memory.dram import DramStandard, StandardError, load_standard, standard_names
from tb.harness import SimulationError
from tb.memory.dram.channel_checker import ChannelChecker
from tb.memory.dram.coverage import pairs
from tb.memory.dram.device import Run, play
from tb.memory.dram.scenarios import Scenario, scenarios
from tb.memory.dram.trace import Trace
from tb.memory.dram.trace_checker import check_trace

#: Parameters that are latencies, not rules.
LATENCIES = {"tCL", "tCWL", "tBL_L", "tWCKPST"}


@cache
def played(name: str) -> list[tuple[Scenario, Trace, Trace]]:
    """Play every scenario of a standard; return the traces of its legal and its illegal side."""
    standard = load_standard(name)
    groups: dict[tuple[tuple[str, int], ...], list[Scenario]] = defaultdict(list)
    for scenario in scenarios(standard):
        groups[tuple(scenario.timing.items())].append(scenario)
    results = []
    for timing, group in groups.items():
        runs = [
            Run(side, scenario.cycles)
            for scenario in group
            for side in (scenario.legal, scenario.illegal)
        ]
        traces = play(standard, runs, overrides=dict(timing)).traces
        results += list(zip(group, traces[::2], traces[1::2], strict=True))
    return results


def rules_of(standard: DramStandard) -> set[str]:
    """Return the rules that commands can break in a standard."""
    rules = {"COMMAND", "ROW_OPEN", "ROW_CLOSED"} | (set(standard.timing) - LATENCIES)
    if standard["tPPD"] == 1:
        rules.remove("tPPD")
    if standard.stacks == 1:
        rules.remove("tCCD_R")
    if standard.protocol.column_bus:
        rules.add("BUS")
    if standard.protocol.per_bank_refresh:
        rules.add("REFRESH_ROUND")
    if standard.protocol.split_activate:
        rules.add("ACTIVATE_ORDER")
    if standard.protocol.data_clock:
        rules |= {"CAS_ORDER", "WCK_OFF"}
    return rules


@pytest.mark.parametrize("name", standard_names())
def test_every_rule_has_a_scenario(name: str) -> None:
    standard = load_standard(name)
    assert {scenario.rule for scenario in scenarios(standard)} == rules_of(standard)


@pytest.mark.parametrize("name", standard_names())
def test_every_pair_of_commands_has_a_scenario(name: str) -> None:
    standard = load_standard(name)
    broken = set()
    for scenario in scenarios(standard):
        checker = ChannelChecker(standard.with_timing(**scenario.timing))
        for issue in scenario.illegal:
            if issue.command in standard.protocol.commands:
                causes = checker.causes(issue)
                broken |= {(rule, cause, issue.command.name) for rule, cause, _ in causes}
                checker.add(issue)
    assert broken == pairs(standard)


@pytest.mark.parametrize("name", standard_names())
def test_edges(name: str) -> None:
    standard = load_standard(name)
    for scenario, legal, illegal in played(name):
        where = f"{scenario.rule} ({scenario.label})"
        table = standard.with_timing(**scenario.timing)
        assert legal.issues == list(scenario.legal), where
        assert illegal.issues == list(scenario.illegal), where
        # Nobody refreshes the other pseudo-channel.
        assert not [v for v in legal.violations if v.channel == 0], where
        assert {v.rule for v in illegal.violations if v.channel == 0} == {scenario.rule}, where
        for trace in (legal, illegal):
            assert check_trace(table, trace) == trace.violations, where


def neighbours(standard: DramStandard, rule: str) -> DramStandard:
    """Return the standard with the rule's parameter a cycle off, to the side that is legal."""
    try:
        return standard.with_timing(**{rule: standard[rule] + 1})
    except StandardError:
        return standard.with_timing(**{rule: standard[rule] - 1})


@pytest.mark.parametrize("name", standard_names())
def test_a_wrong_table_makes_the_checkers_disagree(name: str) -> None:
    standard = load_standard(name)
    seen: dict[str, bool] = {}
    for scenario, legal, illegal in played(name):
        if scenario.rule in standard.timing:
            table = neighbours(standard.with_timing(**scenario.timing), scenario.rule)
            differ = any(check_trace(table, t) != t.violations for t in (legal, illegal))
            seen[scenario.rule] = seen.get(scenario.rule, False) or differ
    assert seen == dict.fromkeys(seen, True)
    assert set(seen) == rules_of(standard) & set(standard.timing)


@pytest.mark.parametrize("name", standard_names())
def test_a_wrong_device_is_found(name: str) -> None:
    standard = load_standard(name)
    by_rule: dict[str, list[tuple[Scenario, Trace, Trace]]] = defaultdict(list)
    for item in played(name):
        if item[0].rule in standard.timing:
            by_rule[item[0].rule].append(item)
    for rule, items in by_rule.items():
        scenario = items[0][0]
        wrong = neighbours(standard.with_timing(**scenario.timing), rule)
        sides = (scenario.legal, scenario.illegal)
        overrides = {**scenario.timing, rule: wrong[rule]}
        again = play(standard, [Run(s, scenario.cycles) for s in sides], overrides=overrides)
        right = standard.with_timing(**scenario.timing)
        assert any(check_trace(right, t) != t.violations for t in again.traces), rule


def test_a_violation_stops_the_simulation_by_name() -> None:
    standard = load_standard("ddr4-3200")
    broken = next(s for s in scenarios(standard) if s.rule == "tRCDRD")
    play(standard, [Run(broken.legal, broken.cycles)], stop=True)
    with pytest.raises(SimulationError, match="tRCDRD violated in cycle 21 of pseudo-channel 0"):
        play(standard, [Run(broken.illegal, broken.cycles)], stop=True)
