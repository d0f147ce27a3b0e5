"""Random traffic through the device and the trace checker, data included."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from hw.memory.dram import Command, DramStandard, load_standard, standard_names
from hw.memory.dram.commands import READS, WRITES
from tb.memory.dram.device import Played, Run, play
from tb.memory.dram.trace import Issue
from tb.memory.dram.trace_checker import check_trace
from tb.memory.dram.traffic import Generator, Traffic

#: Commands of a default run, per standard.
COMMANDS = 26_000
FILLER = int.from_bytes(bytes.fromhex("efbeadde" * 4), "little")


def check_legal(standard: DramStandard, traffic: Traffic, played: Played) -> None:
    """Compare a legal run with what its traffic asked for."""
    trace = played.traces[0]
    assert trace.issues == traffic.issues
    assert not trace.violations
    assert not check_trace(standard, trace)
    assert played.reads[0].keys() == traffic.expected.keys()
    for place, word in traffic.expected.items():
        assert played.reads[0][place] == (FILLER if word is None else word)
    counts = Counter(issue.command for issue in traffic.issues)
    reads, writes = (sum(counts[kind] for kind in kinds) for kinds in (READS, WRITES))
    assert played.counters == {
        "violations": 0,
        "activations": counts[Command.ACT] + counts[Command.ACT1],
        "precharges": counts[Command.PRE] + counts[Command.PREA],
        "reads": reads,
        "writes": writes,
        "all_bank_refreshes": counts[Command.REFAB],
        "per_bank_refreshes": counts[Command.REFPB],
        "busy": (reads + writes) * standard.burst_cycles,
        "bytes_moved": (reads + writes) * standard.burst_bytes,
    }


@pytest.mark.parametrize("name", standard_names())
def test_legal_traffic(name: str, seed: int) -> None:
    standard = load_standard(name)
    traffic = Generator(standard, seed).generate(COMMANDS)
    used = {issue.command for issue in traffic.issues}
    assert used == standard.protocol.commands - {Command.NOP}
    # Much of what is read was written before.
    known = [word for word in traffic.expected.values() if word is not None]
    assert len(known) > len(traffic.expected) // 2
    check_legal(standard, traffic, play(standard, [traffic.run()]))


@pytest.mark.parametrize("name", standard_names())
def test_early_traffic_breaks_the_same_rules_for_both(name: str, seed: int) -> None:
    standard = load_standard(name)
    traffic = Generator(standard, seed, early=0.2).generate(COMMANDS // 4)
    trace = play(standard, [traffic.run()]).traces[0]
    assert trace.issues == traffic.issues
    assert check_trace(standard, trace) == trace.violations
    assert len(trace.violations) > COMMANDS // 100


@pytest.mark.parametrize("name", standard_names())
def test_random_commands_break_the_same_rules_for_both(name: str, seed: int) -> None:
    standard, choose = load_standard(name), random.Random(seed)
    cycles = 12 * standard["tREFI"]
    # Dense enough that most rules are broken, now and then with a pause.
    issues, time = [], 0
    while time < cycles:
        time += choose.choice((0, 1, 1, 2, 3, 5, 9)) if choose.random() < 0.99 else 600
        for bus in range(standard.protocol.buses):
            if choose.random() < 0.6:
                issues.append(
                    Issue(
                        time,
                        choose.choice(list(Command)[1:]),
                        choose.randrange(standard.pseudo_channels),
                        choose.randrange(standard.bank_groups),
                        choose.randrange(standard.banks_per_group),
                        choose.randrange(standard.rows),
                        choose.randrange(standard.columns),
                        bus,
                    )
                )
        time += 1
    trace = play(standard, [Run(issues, time + 1)]).traces[0]
    assert trace.issues == issues
    assert check_trace(standard, trace) == trace.violations
    assert len({violation.rule for violation in trace.violations}) > 17


@pytest.mark.parametrize("name", ["ddr4-3200", "hbm2-2000"])
def test_gear_2(name: str, seed: int) -> None:
    standard = load_standard(name)
    traffic = Generator(standard, seed).generate(4000)
    check_legal(standard, traffic, play(standard, [traffic.run()], gear=2))
    early = Generator(standard, seed, early=0.2).generate(2000)
    trace = play(standard, [early.run()], gear=2).traces[0]
    assert trace.violations
    assert check_trace(standard, trace) == trace.violations


@pytest.mark.slow
@pytest.mark.parametrize("name", standard_names())
@pytest.mark.parametrize("run", range(8))
def test_much_traffic(name: str, run: int, seed: int) -> None:
    standard = load_standard(name)
    traffic = Generator(standard, 100 * seed + run).generate(100_000)
    check_legal(standard, traffic, play(standard, [traffic.run()]))
    early = Generator(standard, 100 * seed + run, early=0.3).generate(30_000)
    trace = play(standard, [early.run()]).traces[0]
    assert check_trace(standard, trace) == trace.violations
