"""cocotb side of `tb.harness.simulate`: clock, settings, one wait, one look at the status.

The job to do comes as a JSON file named by ``STREAM_JOB``; the status and the time that the cycles
took go into the file named there as ``result``. Judging it is left to the process that started the
simulation.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge

PERIOD_NS = 2
"""Clock period; an even number, so that both halves are whole."""

_STATUS = (
    "timed_out",
    "total_cycles",
    "busy_cycles",
    "resets",
    "accepted",
    "counts",
    "firsts",
    "broken",
    "broken_at",
)


@cocotb.test()
async def play(dut: Any) -> None:
    """Run the bench."""
    await drive(dut)


async def drive(dut: Any) -> None:
    """Drive the settings, run the clock until ``done`` and write the status ports as integers."""
    job = json.loads(Path(os.environ["STREAM_JOB"]).read_text())
    dut.clk.value = 0
    for port, value in job["settings"].items():
        getattr(dut, port).value = value
    Clock(dut.clk, PERIOD_NS, unit="ns", impl="gpi").start()
    wall, cpu = time.perf_counter_ns(), time.process_time_ns()
    await RisingEdge(dut.done)
    status = {"wall_ns": time.perf_counter_ns() - wall, "cpu_ns": time.process_time_ns() - cpu}
    ports = [*_STATUS, *job["observe"]]
    status |= {port: int(getattr(dut, port).value) for port in ports}
    Path(job["result"]).write_text(json.dumps(status))
