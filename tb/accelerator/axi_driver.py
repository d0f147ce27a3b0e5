"""cocotb side of an accelerator with AXI4 masters: a memory of cocotbext-axi at each of them.

Plusargs: ``axi<i>_image`` names the file with the first bytes of channel i; ``axi_bytes`` is the
size of each memory; ``axi_pause`` the share of cycles in which each of its channels rests;
``axi_seed`` the seed of these.
"""

from __future__ import annotations

import random
from itertools import repeat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cocotb
from cocotbext.axi import AxiBus, AxiRam

from hw.memory.axi.port import axi_port
from tb.harness.wrapper import OBSERVED_PREFIX, SETTING_PREFIX
from tb.models import stream_driver


@cocotb.test()
async def play(dut: Any) -> None:
    """Put a memory behind every master, and run the bench."""
    options = {name: str(value) for name, value in cocotb.plusargs.items()}
    rng = random.Random(int(options["axi_seed"]))
    number = 0
    while image := options.get(f"axi{number}_image"):
        ram = AxiRam(
            AxiBus.from_entity(_pins(dut, number)), dut.clk, size=int(options["axi_bytes"])
        )
        ram.write(0, Path(image).read_bytes())
        _pause(ram, rng, float(options["axi_pause"]))
        number += 1
    assert number, "there is no memory"
    await stream_driver.drive(dut)


def _pins(dut: Any, number: int) -> SimpleNamespace:
    """The signals of a master under their own names, inputs and outputs of the bench alike."""
    found: dict[str, Any] = {"_name": f"axi{number}", "_log": dut._log}
    for name in axi_port(1, 1):
        port = f"axi__{number}__{name}"
        prefix = SETTING_PREFIX if hasattr(dut, SETTING_PREFIX + port) else OBSERVED_PREFIX
        found[name] = getattr(dut, prefix + port)
    return SimpleNamespace(**found)


def _pause(ram: Any, rng: random.Random, share: float) -> None:
    """Let every channel of a memory rest in this share of the cycles."""
    read, write = ram.read_if, ram.write_if
    for channel in (
        *(read.ar_channel, read.r_channel),
        *(write.aw_channel, write.w_channel, write.b_channel),
    ):
        if share:
            channel.set_pause_generator(rng.random() < p for p in repeat(share))
