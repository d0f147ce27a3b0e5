"""cocotb side of test_ram.py: plays a script into AxiMaster, whose memory is cocotbext-axi's."""

from __future__ import annotations

import json
import os
import random
from itertools import repeat
from pathlib import Path
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ReadOnly, RisingEdge
from cocotbext.axi import AxiBus, AxiRam

MOST_CYCLES = 60_000


@cocotb.test()
async def play(dut: Any) -> None:
    """Send requests and words, collect answers and ends, until all have come."""
    job = json.loads(Path(os.environ["AXI_JOB"]).read_text())
    rng = random.Random(job["seed"])
    ram = AxiRam(AxiBus.from_entity(dut), dut.clk, dut.rst, size=job["size"])
    ram.write(0, Path(job["image"]).read_bytes())
    if job["rough"]:
        read, write = ram.read_if, ram.write_if
        for channel in (
            read.ar_channel,
            read.r_channel,
            write.aw_channel,
            write.w_channel,
            write.b_channel,
        ):
            share = rng.choice((0.2, 0.5, 0.7))
            channel.set_pause_generator(rng.random() < p for p in repeat(share))
    for port in (dut.channel__request__valid, dut.channel__write_data__valid):
        port.value = 0
    dut.channel__response__ready.value = 1
    dut.channel__written__ready.value = 1
    dut.rst.value = 1
    Clock(dut.clk, 2, unit="ns").start()
    for _ in range(4):
        await RisingEdge(dut.clk)
    dut.rst.value = 0

    items, words = list(job["items"]), list(job["words"])
    answers: list[int] = []
    ends: list[int] = []
    under_way = 0
    for _ in range(MOST_CYCLES):
        if items and (under_way == 0 or not items[0]["fence"]):
            dut.channel__request__valid.value = 1
            dut.channel__request__payload.value = int(items[0]["request"], 16)
        else:
            dut.channel__request__valid.value = 0
        dut.channel__write_data__valid.value = bool(words)
        if words:
            dut.channel__write_data__payload.value = int(words[0], 16)
        await ReadOnly()
        sent = dut.channel__request__valid.value and dut.channel__request__ready.value
        moved = dut.channel__write_data__valid.value and dut.channel__write_data__ready.value
        if dut.channel__response__valid.value:
            answers.append(int(dut.channel__response__payload.value))
            under_way -= 1
        if dut.channel__written__valid.value:
            ends.append(int(dut.channel__written__payload.value))
            under_way -= 1
        if sent:
            under_way += items.pop(0)["expected"]
        if moved:
            words.pop(0)
        if not items and not words and under_way == 0:
            break
        await RisingEdge(dut.clk)
    else:
        raise AssertionError(f"{len(items)} requests and {under_way} answers are left")
    result = {"response": [f"{a:x}" for a in answers], "written": [f"{e:x}" for e in ends]}
    Path(job["result"]).write_text(json.dumps(result))
