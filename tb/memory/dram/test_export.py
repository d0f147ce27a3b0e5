"""Traces in the forms of other tools."""

from __future__ import annotations

from pathlib import Path

import pytest

from hw.memory.dram import Command, load_standard
from tb.memory.dram.export import drampower, main, ramulator
from tb.memory.dram.trace import Issue, Trace

LPDDR5 = load_standard("lpddr5-6400-x16")
TRACE = Trace(
    [
        Issue(0, Command.ACT1, 0, 1, 2, row=7),
        Issue(3, Command.ACT2, 0, 1, 2),
        Issue(17, Command.CAS_RD),
        Issue(18, Command.RD, 0, 1, 2, row=9, column=5),
        Issue(60, Command.PRE, 0, 1, 2),
        Issue(90, Command.REFPB, 0, 2, 1),
        Issue(300, Command.REFAB),
    ],
    500,
)


def test_drampower() -> None:
    zeros = "00" * 32
    assert list(drampower(LPDDR5, TRACE)) == [
        "3,ACT,0,1,6,7,0",
        f"18,RD,0,1,6,7,80,{zeros}",
        "60,PRE,0,1,6,7,0",
        "90,REFP2B,0,2,9,0,0",
        "300,REFA,0,0,0,0,0",
        "500,END,0,0,0,0,0",
    ]


def test_ramulator() -> None:
    assert list(ramulator(LPDDR5, TRACE)) == ["R 0,0,1,2,7,5"]
    hbm3 = load_standard("hbm3-6400")
    far = Trace([Issue(0, Command.ACT, 1, 6, 3, row=2), Issue(40, Command.WR, 1, 6, 3, column=4)])
    assert list(ramulator(hbm3, far)) == ["W 0,1,1,2,3,2,4"]


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "trace"
    path.write_text("0,ACT,0,0,1,5,0,0\n22,RD,0,0,1,0,3,0\nend 40\n")
    assert main(["ramulator", "ddr4-3200", str(path)]) == 0
    assert capsys.readouterr().out == "R 0,0,0,1,5,3\n"
    assert main(["dramsim", "ddr4-3200", str(path)]) == 2
