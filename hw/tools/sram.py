"""Memories as instances of a wrapper module that a chip team replaces by its macros."""

import re
from pathlib import Path

from amaranth.hdl import ClockSignal, Elaboratable, Instance, Shape
from amaranth.lib.memory import Memory

from hw.tools.sharing import SharingPlatform

#: The wrappers with bodies for simulation and for FPGAs; emitted beside the core.
WRAPPERS = Path(__file__).with_name("kvforge_sram.sv")
REGISTERED, COMBINATIONAL = "kvforge_sram_1r1w", "kvforge_regfile_1r1w"

_MODULE = re.compile(r"^module (\w+)", re.M)
_INSTANCE = re.compile(
    rf"^  (?P<kind>{REGISTERED}|{COMBINATIONAL}) #\((?P<values>[^;]*?)\) (?P<name>\S+) \(", re.M
)
_PARAMETER = re.compile(r"\.([A-Z]+)\(32'(?:d(\d+)|h([0-9a-f]+))\)")


class SramError(ValueError):
    """A memory has ports that no wrapper has."""


class SramPlatform(SharingPlatform):
    """A platform to elaborate for: ``amaranth.lib.memory`` asks it for every memory, too.

    Parameters
    ----------
    threshold
        Memories with more bits become instances of a wrapper; the others stay as they are.
    """

    def __init__(self, threshold: int) -> None:
        super().__init__()
        self._threshold = threshold

    def get_memory(self, memory: Memory) -> Elaboratable:
        """Return what stands for ``memory`` in the design.

        Raises
        ------
        SramError
            A memory above the threshold does not have one write and one read port of one clock, or
            its read port bypasses writes, or its contents are not all zero at the start.
        """
        width = Shape.cast(memory.shape).width
        if width * memory.depth <= self._threshold or memory.depth < 2:
            return memory.elaborate(None)
        writes, reads = memory.write_ports, memory.read_ports
        size = f"memory of {memory.depth} x {width} bits"
        if len(writes) != 1 or len(reads) != 1:
            raise SramError(f"{size} must have one write and one read port")
        (write,), (read,) = writes, reads
        if read.domain not in ("comb", write.domain):
            raise SramError(f"{size} must have ports of one clock")
        if read.transparent_for:
            raise SramError(f"{size} must not bypass writes to its read port")
        if any(memory.init):
            raise SramError(f"{size} must start with zeros")
        ports: dict[str, object] = {
            "p_WIDTH": width,
            "p_DEPTH": memory.depth,
            "p_PARTS": len(write.en),
            "i_clk": ClockSignal(write.domain),
            "i_write_enable": write.en,
            "i_write_address": write.addr,
            "i_write_data": write.data,
            "i_read_address": read.addr,
            "o_read_data": read.data,
        }
        if read.domain == "comb":
            return Instance(COMBINATIONAL, **ports)
        return Instance(REGISTERED, i_read_enable=read.en, **ports)


def find_instances(text: str) -> list[dict[str, object]]:
    """List the wrappers that the Verilog ``text`` instantiates, for a memory compiler."""
    found = []
    starts = [(match.start(), match[1]) for match in _MODULE.finditer(text)]
    for match in _INSTANCE.finditer(text):
        values = {
            key.lower(): int(decimal or hexadecimal, 10 if decimal else 16)
            for key, decimal, hexadecimal in _PARAMETER.findall(match["values"])
        }
        inside = [name for start, name in starts if start < match.start()][-1]
        found.append({"kind": match["kind"], "module": inside, "name": match["name"], **values})
    return found
