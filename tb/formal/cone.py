"""Which inputs of a component an output depends on within a cycle, by structure."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from amaranth.back import rtlil
from amaranth.hdl import ClockDomain, Module, Signal, Value
from amaranth.lib import wiring

from tb.formal.prove import run_yosys

#: An and-inverter graph is exact to the bit; logic that no output needs is gone before it is made.
_SCRIPT = """
read_rtlil unit.il
hierarchy -top unit
proc
flatten
opt_clean
memory_map
opt_clean
dffunmap
setundef -zero
opt_expr
techmap
aigmap
opt_clean
write_aiger -ascii -symbols unit.aag
"""


def inputs_of_valid(component: wiring.Component) -> dict[str, set[str]]:
    """Return for every ``valid`` that the component drives the inputs that it depends on.

    What is beyond a register does not count.
    """
    ports: dict[str, tuple[Signal, Any]] = {}
    outputs = []
    for path, member, value in component.signature.flatten(component):
        name = "__".join(map(str, path))
        signal = Value.cast(value)
        if not isinstance(signal, Signal) or not len(signal):
            continue
        if member.flow == wiring.In:
            ports[name] = (signal, None)
        elif path[-1] == "valid":
            ports[name] = (signal, None)
            outputs.append(name)
    m = Module()
    m.domains.sync = domain = ClockDomain("sync")
    m.submodules.component = component
    ports |= {"clk": (domain.clk, None), "rst": (domain.rst, None)}
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        text = rtlil.convert(m, name="unit", ports=ports, emit_src=False)
        (directory / "unit.il").write_text(text)
        run_yosys(_SCRIPT, directory)
        lines = (directory / "unit.aag").read_text().splitlines()
    return _cones(lines, outputs)


def _cones(lines: list[str], outputs: list[str]) -> dict[str, set[str]]:
    """Return the inputs in the cone of each output of an AIGER file in text form."""
    _, inputs, latches, output_count, gates = (int(n) for n in lines[0].split()[1:6])
    body = [[int(word) for word in line.split()] for line in lines[1 : 1 + inputs + latches]]
    first_output = 1 + inputs + latches
    roots = [int(line) for line in lines[first_output : first_output + output_count]]
    first_gate = first_output + output_count
    symbols = dict(line.split(maxsplit=1) for line in lines[first_gate + gates :] if " " in line)
    cone: dict[int, set[str]] = {0: set()}
    for place, (literal, *_) in enumerate(body):
        # A name may end with the number of its bit. Words that a memory does not have have no name.
        name = symbols.get(f"i{place}", "undefined").split("[")[0]
        cone[literal >> 1] = {name} if place < inputs else set()
    for line in lines[first_gate : first_gate + gates]:
        target, left, right = (int(word) >> 1 for word in line.split())
        cone[target] = cone[left] | cone[right]
    found = {symbols[f"o{place}"]: cone[root >> 1] for place, root in enumerate(roots)}
    return {name: found[name] for name in outputs}
