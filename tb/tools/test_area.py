"""The area flow on circuits whose gates can be counted by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.tools.area import GATES, SRAM_GATES_PER_BIT, AreaError, measure, read_cells
from hw.tools.netlist import Netlist

FLIP_FLOP = 17 / 3


class Circuit(wiring.Component):
    """Ports a, b, c and y of 8 bits around what ``build`` adds."""

    def __init__(self, build: Callable[[Module, Any], None]) -> None:
        self._build = build
        super().__init__({"a": In(8), "b": In(8), "c": In(8), "y": Out(8)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        self._build(m, self)
        return m


def nand_register(m: Module, ports: Any) -> None:
    """Eight NAND2 and eight flip-flops."""
    register = Signal(8, reset_less=True)
    m.d.sync += register.eq(~(ports.a & ports.b))
    m.d.comb += ports.y.eq(register)


def nand_nand(m: Module, ports: Any) -> None:
    """Two NAND2 in a row for each bit, the second one in a submodule."""
    m.submodules.inner = inner = Circuit(lambda n, p: n.d.comb.__iadd__(p.y.eq(~(p.a & p.b))))
    m.d.comb += [inner.a.eq(~(ports.a & ports.b)), inner.b.eq(ports.c), ports.y.eq(inner.y)]


def memories(m: Module, ports: Any) -> None:
    """A memory of 2048 bits, one of 1024 and one of 32."""
    total = 0
    for depth in (256, 128, 4):
        name = f"memory_{depth}"
        m.submodules[name] = memory = Memory(shape=8, depth=depth, init=[])
        write, read = memory.write_port(), memory.read_port(transparent_for=())
        m.d.comb += [
            write.addr.eq(ports.a),
            write.data.eq(ports.b),
            write.en.eq(ports.c[0]),
            read.addr.eq(ports.c),
        ]
        total = total ^ read.data
    m.d.comb += ports.y.eq(total)


def test_gates_and_flip_flops_by_hand(tmp_path: Path) -> None:
    report = measure(Circuit(nand_register), "top", tmp_path)
    assert report.unit == "GE"
    assert report.combinational == pytest.approx(8)
    assert report.flip_flops == pytest.approx(8 * FLIP_FLOP)
    assert report.logic == pytest.approx(8 + 8 * FLIP_FLOP)
    assert (report.levels, report.memory_bits) == (1, 0)


def test_hierarchy_is_kept_and_paths_cross_it(tmp_path: Path) -> None:
    report = measure(Circuit(nand_nand), "top", tmp_path)
    assert [(m.name, m.instances, m.levels) for m in report.modules] == [
        ("top", 1, 1),
        ("top.inner", 1, 1),
    ]
    assert [m.combinational for m in report.modules] == [pytest.approx(8), pytest.approx(8)]
    assert report.levels == 2


def test_large_memories_stay_bits(tmp_path: Path) -> None:
    report = measure(Circuit(memories), "top", tmp_path)
    (module,) = report.modules
    assert [(m.words, m.width) for m in module.memories] == [(256, 8)]
    assert report.memory_bits == 2048
    assert report.memory_area == pytest.approx(2048 * SRAM_GATES_PER_BIT)
    # The bits of the two others, and the registers of their read ports.
    assert report.flip_flops >= (1024 + 32 + 8) * FLIP_FLOP
    assert report.flip_flops < (1024 + 32 + 2 * 8 + 16) * FLIP_FLOP
    facts = report.as_json()
    assert facts["logic"] == report.logic
    assert facts["total_with_memories"] == report.logic + 2048 * SRAM_GATES_PER_BIT
    assert json.loads(json.dumps(facts))["modules"][0]["memories"] == [
        {"name": "memory_256", "words": 256, "width": 8}
    ]


LIBERTY = """library (timed) {
  time_unit : "1ns"; capacitive_load_unit (1, pf);
  lu_table_template (t) {
    variable_1 : input_net_transition; variable_2 : total_output_net_capacitance;
    index_1 ("0.01, 1"); index_2 ("0.001, 1"); }
  %s
  cell (FF) { area : 5.5; ff (Q, QN) { clocked_on : "C"; next_state : "D"; }
    pin (C) { direction : input; clock : true; capacitance : 0.001; }
    pin (D) { direction : input; capacitance : 0.001; }
    pin (Q) { direction : output; function : "Q"; } }
}
"""
TABLE = '(t) { index_1 ("0.01, 1"); index_2 ("0.001, 1"); values ("0.25, 0.25", "0.25, 0.25"); }'


def timed_cell(name: str, area: float, function: str, pins: str) -> str:
    """A cell that takes 250 ps whatever its load."""
    inputs = "".join(f"pin ({p}) {{ direction : input; capacitance : 0.001; }} " for p in pins)
    arcs = "".join(
        f'timing () {{ related_pin : "{p}"; timing_sense : negative_unate; '
        + " ".join(
            f"{k} {TABLE}" for k in ("cell_rise", "cell_fall", "rise_transition", "fall_transition")
        )
        + " } "
        for p in pins
    )
    output = (
        f'pin (Y) {{ direction : output; function : "{function}"; max_capacitance : 1; {arcs}}}'
    )
    return f"cell ({name}) {{ area : {area}; {inputs}{output} }}\n"


def test_a_liberty_file_gives_square_micrometres_and_delays(tmp_path: Path) -> None:
    liberty = tmp_path / "timed.lib"
    # ABC wants an inverter, a buffer and more than two functions.
    cells = (
        timed_cell("NOT", 1.5, "!A", "A")
        + timed_cell("BUF", 2, "A", "A")
        + timed_cell("ND2", 2.25, "!(A&B)", "AB")
        + timed_cell("NR2", 2.5, "!(A|B)", "AB")
    )
    liberty.write_text(LIBERTY % cells)
    report = measure(Circuit(nand_register), "top", tmp_path, liberty=liberty)
    assert report.unit == "um2"
    assert report.combinational == pytest.approx(8 * 2.25)
    assert report.flip_flops == pytest.approx(8 * 5.5)
    assert report.memory_area is None
    assert report.modules[0].delay_ps == pytest.approx(250)


def test_the_library_of_the_project() -> None:
    cells = read_cells(GATES)
    assert cells["NAND2"].area == 3
    assert [name for name, cell in cells.items() if cell.sequential] == ["DFF"]


def test_unusable_liberty_files(tmp_path: Path) -> None:
    with pytest.raises(AreaError, match=r"^there is no Liberty file .*nothing\.lib$"):
        read_cells(tmp_path / "nothing.lib")
    other = tmp_path / "other.lib"
    other.write_text("library (empty) { }")
    with pytest.raises(AreaError, match=r"other\.lib is not a Liberty file: it has no cell"):
        read_cells(other)


def test_a_failed_synthesis_names_its_log(tmp_path: Path) -> None:
    liberty = tmp_path / "unbalanced.lib"
    liberty.write_text("library (open) {\n  cell (NOT) { area : 1;\n")
    with pytest.raises(AreaError, match=r"^the synthesis of top failed, see .*top\.log$"):
        measure(Circuit(nand_register), "top", tmp_path, liberty=liberty)
    assert "ERROR" in (tmp_path / "top.log").read_text()


def test_a_module_counts_once_for_each_use() -> None:
    def cell(kind: str, **pins: int) -> dict[str, Any]:
        directions = {p: "output" if p in "yq" else "input" for p in pins}
        wires = {p: [bit] for p, bit in pins.items()}
        return {"type": kind, "connections": wires, "port_directions": directions}

    ports = {"a": {"bits": [2]}, "y": {"bits": [4]}}
    pair = {"first": cell("INV", a=2, y=3), "second": cell("INV", a=3, y=4)}
    top = {
        "one": cell("pair", a=2, y=3),
        "two": cell("pair", a=3, y=4),
        "held": cell("DFF", a=4, q=5),
        "three": cell("pair", a=5, y=6),
    }
    modules = {
        "top": {"attributes": {}, "cells": top, "ports": {}},
        "pair": {"attributes": {}, "cells": pair, "ports": ports},
        "INV": {"attributes": {"blackbox": 1}, "cells": {}, "ports": {}},
    }
    netlist = Netlist({"modules": modules}, "top", {"DFF"})
    assert netlist.modules() == {"top": 1, "pair": 3}
    assert netlist.library_cells("pair") == {"INV": 2}
    assert netlist.levels("pair") == 2
    assert netlist.levels("top") == 0
    assert netlist.levels() == 4
