"""Area and logic depth of a component, per module, from Yosys and ABC.

The default unit is the two-input NAND gate (GE), with the cell library in ``gates.lib``; a Liberty
file gives square micrometres and delays instead. There is no placement and no wire load, and a
commercial flow lands well below these figures; the proportions between modules hold.

Memories above `KEPT_BITS` stay memories: they are listed as bits and, in GE, with a modelled area.
"""

import json
import re
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from amaranth.back import rtlil
from amaranth.lib import wiring

from hw.tools.netlist import Memory, Netlist

GATES = Path(__file__).with_name("gates.lib")
#: Units of area in ``gates.lib`` that make one NAND2.
_UNITS_PER_NAND2 = 3
#: Memories with more bits are not turned into flip-flops.
KEPT_BITS = 1024
#: Modelled area of one bit of a kept memory: a single-port SRAM of 4 KB takes 0.0147 mm2 at 45 nm
#: (CACTI 7), a NAND2 0.798 um2 there (Nangate45 NAND2_X1). Small or two-port macros take more.
SRAM_GATES_PER_BIT = 0.56

_SYNTHESISE = """
read_rtlil {source}
{keep}
proc -norom
synth -top {top} -run begin:fine
opt -fast -full
memory_map -attr !kept
opt -undriven -fine
techmap
opt -fast
attrmap -remove init
dfflibmap -liberty {liberty}
opt
abc -liberty {liberty} {timing}
opt_clean
read_liberty -lib -ignore_miss_func -overwrite {liberty}
write_json {netlist}
"""
#: Clock period that ABC sizes the cells of a Liberty file for.
PERIOD_PS = 1250
#: Yosys ends the process on an error, so it gets one of its own.
_RUN = (
    "import sys; from pyosys import libyosys as y; y.run_pass('script ' + sys.argv[1], y.Design())"
)


class AreaError(RuntimeError):
    """A Liberty file is not usable, or the synthesis failed; the message says where the log is."""


@dataclass(frozen=True)
class Cell:
    """What a Liberty file says of a cell."""

    area: float
    sequential: bool


@dataclass(frozen=True)
class ModuleArea:
    """One module without its submodules, one instance of it.

    ``combinational`` and ``flip_flops`` are areas in the unit of the report, ``levels`` the cells
    on its longest path, ``delay_ps`` ABC's figure for it (with a Liberty file only).
    """

    name: str
    instances: int
    combinational: float
    flip_flops: float
    levels: int
    delay_ps: float | None
    memories: tuple[Memory, ...]


@dataclass(frozen=True)
class AreaReport:
    """Areas of every module, parents first, and of the whole.

    ``unit`` is ``GE`` or ``um2``; ``levels`` is the longest path through the whole design.
    """

    unit: str
    modules: tuple[ModuleArea, ...]
    levels: int

    @property
    def combinational(self) -> float:
        """Combinational area of all instances."""
        return sum(m.instances * m.combinational for m in self.modules)

    @property
    def flip_flops(self) -> float:
        """Flip-flop area of all instances."""
        return sum(m.instances * m.flip_flops for m in self.modules)

    @property
    def logic(self) -> float:
        """Area without the kept memories."""
        return self.combinational + self.flip_flops

    @property
    def memory_bits(self) -> int:
        """Bits of the kept memories."""
        return sum(m.instances * memory.bits for m in self.modules for memory in m.memories)

    @property
    def memory_area(self) -> float | None:
        """Modelled area of the kept memories; None in um2, where the library has no memories."""
        return self.memory_bits * SRAM_GATES_PER_BIT if self.unit == "GE" else None

    def as_json(self) -> dict[str, object]:
        """Everything, for a results file."""
        return {
            "unit": self.unit,
            "combinational": self.combinational,
            "flip_flops": self.flip_flops,
            "logic": self.logic,
            "levels": self.levels,
            "memory_bits": self.memory_bits,
            "memory_area_modelled": self.memory_area,
            "total_with_memories": self.logic + self.memory_area if self.memory_area else None,
            "modules": [asdict(module) for module in self.modules],
        }


def read_cells(liberty: Path) -> dict[str, Cell]:
    """Return area and kind of every cell of a Liberty file.

    Raises
    ------
    AreaError
        There is no such file, or no cell with an area in it.
    """
    if not liberty.is_file():
        raise AreaError(f"there is no Liberty file {liberty}")
    parts = re.split(
        r"^\s*cell\s*\(\s*\"?(\w+)\"?\s*\)", liberty.read_text(errors="replace"), flags=re.M
    )
    cells = {}
    for name, body in zip(parts[1::2], parts[2::2], strict=True):
        area = re.search(r"\barea\s*:\s*\"?([\d.eE+-]+)", body)
        if area:
            cells[name] = Cell(float(area[1]), bool(re.search(r"\b(ff|latch)\s*\(", body)))
    if not cells:
        raise AreaError(f"{liberty} is not a Liberty file: it has no cell with an area")
    return cells


def measure(
    component: wiring.Component, name: str, directory: Path, *, liberty: Path | None = None
) -> AreaReport:
    """Synthesise ``component`` as module ``name``; work and log files go to ``directory``.

    Raises
    ------
    AreaError
        The Liberty file is not usable, or the synthesis failed.
    """
    cells = read_cells(liberty or GATES)
    directory.mkdir(parents=True, exist_ok=True)
    source, netlist, log = (directory / f"{name}.{end}" for end in ("il", "netlist.json", "log"))
    text = rtlil.convert(component, name=name, emit_src=False)
    source.write_text(text)
    timing = ""
    if liberty:
        # ABC sizes cells and reports delays only when it is given a file of constraints.
        (directory / "none.constr").write_text("")
        timing = f"-constr {directory / 'none.constr'} -D {PERIOD_PS}"
    script = directory / f"{name}.ys"
    script.write_text(
        _SYNTHESISE.format(
            source=source,
            keep=_keep(text),
            top=name,
            liberty=liberty or GATES,
            timing=timing,
            netlist=netlist,
        )
    )
    with log.open("w") as out:
        done = subprocess.run([sys.executable, "-c", _RUN, str(script)], stdout=out, stderr=out)
    if done.returncode:
        raise AreaError(f"the synthesis of {name} failed, see {log}")
    sequential = {cell for cell, facts in cells.items() if facts.sequential}
    design = Netlist(json.loads(netlist.read_text()), name, sequential)
    delays = _delays(log.read_text()) if liberty else {}
    units = 1 if liberty else _UNITS_PER_NAND2
    modules = []
    for module, instances in design.modules().items():
        used = design.library_cells(module).items()
        flip_flops = sum(n * cells[kind].area for kind, n in used if cells[kind].sequential)
        everything = sum(n * cells[kind].area for kind, n in used)
        modules.append(
            ModuleArea(
                module,
                instances,
                (everything - flip_flops) / units,
                flip_flops / units,
                design.levels(module),
                delays.get(module),
                tuple(design.memories(module)),
            )
        )
    return AreaReport("um2" if liberty else "GE", tuple(modules), design.levels())


def _keep(text: str) -> str:
    """Yosys commands that mark the memories of an RTLIL text that stay memories."""
    commands = []
    module = ""
    for name, width, words, memory in re.findall(
        r"^module \\(\S+)|^  memory width (\d+) size (\d+) \\(\S+)", text, re.M
    ):
        if name:
            module = name
        elif int(width) * int(words) > KEPT_BITS:
            commands.append(f"setattr -set kept 1 {module}/m:{memory}")
    return "\n".join(commands)


def _delays(log: str) -> dict[str, float]:
    """ABC's delay in picoseconds per module."""
    found = re.findall(r"Extracting gate netlist of module `\\?(\S+)' |Delay =\s*([\d.]+) ps", log)
    delays, module = {}, ""
    for name, delay in found:
        if name:
            module = name
        else:
            delays[module] = float(delay)
    return delays
