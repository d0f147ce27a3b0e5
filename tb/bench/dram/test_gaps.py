"""Classes of gaps, by hand."""

from __future__ import annotations

import pytest

from hw.memory.dram import Command, load_standard
from hw.memory.dram.controller import ControllerConfig
from tb.bench.dram.gaps import CLASSES, RunTooShort, measure_stretch
from tb.memory.dram.trace import Issue, Trace

CONFIG = ControllerConfig(standard=load_standard("lpddr5-6400-x16"))
STANDARD = CONFIG.standard
BURST = STANDARD.burst_cycles
RCD = STANDARD["tRCDRD"]
#: Data of a read in clock 100 begin here.
BEGIN = 100 + STANDARD["tCL"]


def stretch_of(issues: list[Issue], clocks: int) -> dict[str, int]:
    """Idle clocks by class, of ``clocks`` from the data of a read in clock 100 on."""
    end = BEGIN + clocks
    last = Issue(1000, Command.RD)
    stretch = measure_stretch(
        CONFIG, Trace([Issue(100, Command.RD), *issues, last], 2000), BEGIN, end
    )
    moved = (stretch.reads + stretch.writes) * BURST
    assert moved + sum(stretch.idle.values()) == clocks
    return {name: idle for name, idle in stretch.idle.items() if idle}


def test_no_gap() -> None:
    assert stretch_of([Issue(100 + BURST, Command.RD)], 2 * BURST) == {}


def test_turn() -> None:
    latency = STANDARD["tCL"] - STANDARD["tCWL"]
    write = Issue(100 + BURST + 7 + latency, Command.WR)
    assert stretch_of([write], 2 * BURST + 7) == {"turn": 7}


def test_all_bank_refresh() -> None:
    issues = [
        Issue(110, Command.REFAB),
        Issue(300 - RCD, Command.ACT2, bank=1),
        Issue(300, Command.RD, bank=1),
    ]
    assert stretch_of(issues, 200 + BURST) == {"all-bank refresh": 200 - BURST}


@pytest.mark.parametrize(
    ("refreshed", "refreshed_group", "kind"),
    [
        (300 - RCD - STANDARD["tRFCpb"], 0, "refreshed bank"),
        # The bank that shares the refresh.
        (300 - RCD - STANDARD["tRFCpb"], 2, "refreshed bank"),
        (300 - RCD - STANDARD["tRFCpb"], 1, "activation"),
        (300 - RCD - STANDARD["tRFCpb"] - 33, 0, "activation"),
    ],
)
def test_refreshed_bank(refreshed: int, refreshed_group: int, kind: str) -> None:
    issues = [
        Issue(refreshed, Command.REFPB, bank_group=refreshed_group, bank=1),
        Issue(300 - RCD, Command.ACT2, bank=1),
        Issue(300, Command.RD, bank=1),
    ]
    assert stretch_of(issues, 200 + BURST) == {kind: 200 - BURST}


def test_late_or_open_rows_are_other() -> None:
    late = [Issue(300 - RCD - 5, Command.ACT2, bank=1), Issue(300, Command.RD, bank=1)]
    assert stretch_of(late, 200 + BURST) == {"other": 200 - BURST}
    assert stretch_of([Issue(300, Command.RD)], 200 + BURST) == {"other": 200 - BURST}


def test_the_gap_at_the_end_counts_up_to_the_end() -> None:
    assert stretch_of([], BURST + 11) == {"other": 11}


def test_a_run_that_ends_before_is_refused() -> None:
    trace = Trace([Issue(100, Command.RD)], 2000)
    with pytest.raises(RunTooShort, match="pseudo-channel 0 must be busy until 500, not"):
        measure_stretch(CONFIG, trace, 50, 500)


def test_classes() -> None:
    stretch = measure_stretch(CONFIG, Trace([Issue(1000, Command.RD)]), 0, 10)
    assert tuple(stretch.idle) == CLASSES


def test_every_client_is_there_after_the_end() -> None:
    late = [
        Issue(500, Command.ACT1, row=3),
        Issue(502, Command.ACT2),
        Issue(600, Command.RD),
        Issue(700, Command.WR),
    ]
    stretch = measure_stretch(CONFIG, Trace(late), 0, 100, streamed_rows=4)
    with pytest.raises(RunTooShort, match=r"after 100, not only of \('streaming', 'write'\)"):
        stretch.require_all_clients()
    again = [
        Issue(800, Command.ACT1, row=4),
        Issue(802, Command.ACT2),
        Issue(900, Command.RD),
    ]
    measure_stretch(CONFIG, Trace(late + again), 0, 100, streamed_rows=4).require_all_clients()
    stretch = measure_stretch(CONFIG, Trace(late + again), 0, 800, streamed_rows=4)
    assert (stretch.reads, stretch.streamed, stretch.writes) == (1, 1, 1)
