"""A million commands of the controller, and the first legal cycle of every kind of distance."""

from __future__ import annotations

import pytest

from hw.memory.dram import Command, DramStandard
from hw.memory.dram.commands import READS, WRITES
from hw.memory.dram.controller import ControllerConfig
from tb.memory.dram.channel_checker import WINDOW as FOUR
from tb.memory.dram.controller.test_controller import (
    NAMES,
    WINDOW,
    config_of,
    random_workloads,
    run_workloads,
)
from tb.memory.dram.controller.workload import Workload
from tb.memory.dram.coverage import Pair, pairs, punctual

#: Commands of each of the eight cases: four standards at two gears.
COMMANDS = 1_000_000 // 8


def unreached(standard: DramStandard) -> dict[Pair, str]:
    """Return what no command of the controller comes first after, and why."""
    refresh = "REFPB" if standard.protocol.per_bank_refresh else "REFAB"
    rule = "tRFCpb" if standard.protocol.per_bank_refresh else "tRFCab"
    reasons = {
        (rule, refresh, "PRE"): "a bank without an open row is not precharged",
        # The row closes as early as it would: PRE may come tRTP after a read without precharge.
        ("tWR", "WR", "RDA"): "a read closes its row only when PRE could, too",
    }
    four_apart = 4 * standard["tRRD_S"]
    if standard["tFAW"] < four_apart:
        reasons |= {("tFAW", FOUR, name): "four times tRRD" for name in ("ACT", refresh)}
    if standard.protocol.split_activate and standard["tRC"] <= standard["tRAS"] + standard["tRP"]:
        reasons["tRC", "ACT2", "ACT2"] = "ACT1 comes tRAS + tRP after ACT2 at the earliest"
    return reasons


def transfers(pair: Pair) -> Pair:
    """Return a pair with RD for RDA and WR for WRA in rules between transfers.

    Their timers do not see what else a transfer does, and some pairs are rare: WRA before RDA.
    """
    if pair[0].startswith(("tCCD", "tRTW", "tWTR")):
        return (pair[0], pair[1].removesuffix("A"), pair[2].removesuffix("A"))
    return pair


def turning_workloads(config: ControllerConfig, seed: int, number: int) -> list[Workload]:
    """Return a workload per pseudo-channel: rows of a bank, and turns within a bank group.

    The bank is never idle for longer than the refreshes may be put off.
    """
    workloads = []
    for channel in range(config.standard.pseudo_channels):
        workload = Workload(config, WINDOW, seed + channel)
        workload.add("one bank", number, writes=0.0, bursts=1)
        workload.add("one bank group", 2 * number, writes=0.5, bursts=1)
        workloads.append(workload)
    return workloads


@pytest.mark.slow
@pytest.mark.parametrize("gear", [1, 2])
@pytest.mark.parametrize("name", NAMES)
def test_a_million_commands(name: str, gear: int, seed: int) -> None:
    """At gear 1, every distance that the controller could keep to the cycle is kept so."""
    config = config_of(name, gear)
    standard = config.standard
    number = 4000 // standard.pseudo_channels
    result = run_workloads(
        config, random_workloads(config, seed + 1, number), seed=seed, stall=0.05
    )
    issues = result.traces[0].issues
    print(f"{name} at gear {gear}: {len(issues):,} commands, no violation")
    assert len(issues) >= COMMANDS
    if gear == 2:
        return
    turning = run_workloads(config, turning_workloads(config, seed, 1200), seed=seed)
    reached = set()
    for found in (result, turning):
        reached |= set(punctual(standard, found.traces[0]))
    issued = {issue.command for issue in issues}
    assert issued >= READS | WRITES | {Command.PRE}
    wanted = set(map(transfers, pairs(standard, issued)))
    assert wanted - set(map(transfers, reached)) == set(unreached(standard))
