"""What a mapped netlist (the JSON that Yosys writes) holds: cells per module, memories, depth."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

#: A net: the path of the instance that declares it and its number there, or a constant.
_Net = tuple[str, int | str]


@dataclass(frozen=True)
class Memory:
    """A memory that was kept as one: its name, its words, and the bits of a word."""

    name: str
    words: int
    width: int

    @property
    def bits(self) -> int:
        """All of its bits."""
        return self.words * self.width


class Netlist:
    """A mapped design with its hierarchy.

    Parameters
    ----------
    text
        The parsed JSON.
    top
        Name of the top module.
    sequential
        Types of the library cells that hold state; paths end there.
    """

    def __init__(self, text: Mapping[str, Any], top: str, sequential: Collection[str]) -> None:
        library = {
            name for name, module in text["modules"].items() if "blackbox" in module["attributes"]
        }
        self._modules = {n: m for n, m in text["modules"].items() if n not in library}
        self._top = top
        self._sequential = sequential

    def modules(self) -> dict[str, int]:
        """Every module and how often it is used, parents first."""
        uses: Counter[str] = Counter()
        pending = [self._top]
        while pending:
            name = pending.pop(0)
            uses[name] += 1
            pending += [c["type"] for c in self._cells(name).values() if c["type"] in self._modules]
        return dict(uses)

    def library_cells(self, name: str) -> dict[str, int]:
        """Library cells of a module, without its submodules, by type."""
        types = (cell["type"] for cell in self._cells(name).values())
        return dict(Counter(t for t in types if t not in self._modules and not t.startswith("$")))

    def memories(self, name: str) -> list[Memory]:
        """Memories of a module, without its submodules."""
        return [
            Memory(
                str(cell["parameters"]["MEMID"]).removeprefix("\\"),
                int(cell["parameters"]["SIZE"], 2),
                int(cell["parameters"]["WIDTH"], 2),
            )
            for cell in self._cells(name).values()
            if cell["type"] == "$mem_v2"
        ]

    def levels(self, name: str | None = None) -> int:
        """Library cells on the longest path between registers, memories and ports.

        Paths run through submodules. With ``name`` only those inside that module count.
        """
        inputs: dict[_Net, tuple[_Net, ...]] = {}
        for sources, sinks in self._gates(name or self._top, "", {}, within=name is not None):
            inputs |= dict.fromkeys(sinks, sources)
        level: dict[_Net, int] = {}
        for net in inputs:
            stack = [net]
            while stack:
                current = stack[-1]
                missing = [n for n in inputs[current] if n in inputs and n not in level]
                if missing:
                    stack += missing
                else:
                    level[current] = 1 + max((level.get(n, 0) for n in inputs[current]), default=0)
                    stack.pop()
        return max(level.values(), default=0)

    def _cells(self, name: str) -> dict[str, Any]:
        cells = self._modules[name]["cells"]
        assert isinstance(cells, dict)
        return cells

    def _gates(
        self, name: str, path: str, bound: Mapping[int, _Net], *, within: bool
    ) -> Iterator[tuple[tuple[_Net, ...], tuple[_Net, ...]]]:
        """Inputs and outputs of every combinational cell; ``bound`` are the nets of the ports."""

        def net(bit: int | str) -> _Net:
            return bound.get(bit, (path, bit)) if isinstance(bit, int) else ("", bit)

        for label, cell in self._cells(name).items():
            kind, wires = cell["type"], cell["connections"]
            if kind in self._modules and not within:
                ports = self._modules[kind]["ports"]
                inner = {
                    bit: net(outer)
                    for port, info in ports.items()
                    for bit, outer in zip(info["bits"], wires.get(port, ()), strict=False)
                    if isinstance(bit, int)
                }
                yield from self._gates(kind, f"{path}/{label}", inner, within=False)
            elif kind not in self._sequential and kind not in self._modules and kind[0] != "$":
                directions = cell["port_directions"]
                yield (
                    tuple(net(wires[p][0]) for p in wires if directions[p] == "input"),
                    tuple(net(wires[p][0]) for p in wires if directions[p] == "output"),
                )
