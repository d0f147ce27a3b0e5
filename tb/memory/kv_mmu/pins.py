"""All pins of a component as two numbers: one assignment and one reading per simulated cycle."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, ClockDomain, Module, Signal, Value
from amaranth.lib import wiring

from tb.harness import pack, unpack


class Pins:
    """A component with its pins gathered; streams and signals have their paths as names.

    Parameters
    ----------
    component

    Members
    -------
    top
        What is to be simulated.
    reset
    """

    def __init__(self, component: wiring.Component) -> None:
        self.top = Module()
        domain = ClockDomain("sync")
        self.top.domains.sync = domain
        self.top.submodules.component = component
        self.reset: Signal = domain.rst
        self._shapes: dict[str, Any] = {}
        self._places: dict[str, tuple[int, int]] = {}
        self._inputs: set[str] = set()
        inputs: list[Value] = []
        outputs: list[Value] = []
        for path, member, value in component.signature.flatten(component):
            plain = Value.cast(value)
            side = inputs if member.flow == wiring.In else outputs
            name = "__".join(map(str, path))
            if member.flow == wiring.In:
                self._inputs.add(name)
            self._shapes[name] = member.shape
            self._places[name] = (sum(map(len, side)), len(plain))
            side.append(plain)
        self._drive = Signal(sum(map(len, inputs)))
        self._see = Signal(sum(map(len, outputs)))
        self.top.d.comb += [Cat(*inputs).eq(self._drive), self._see.eq(Cat(*outputs))]
        self._driven = 0
        self._seen = 0

    def set(self, name: str, value: int) -> None:
        """Choose the bits of an input for the next `exchange`."""
        start, width = self._places[name]
        self._driven = self._driven & ~(((1 << width) - 1) << start) | value << start

    def set_fields(self, name: str, fields: dict[str, int]) -> None:
        """Choose the fields of an input."""
        self.set(name, pack(self._shapes[name], fields))

    def offer(self, stream: str, payload: int | None) -> None:
        """Offer a payload on an input stream, or nothing."""
        self.set(f"{stream}__valid", payload is not None)
        if payload is not None:
            self.set(f"{stream}__payload", payload)

    def exchange(self, context: Any) -> None:
        """Drive the inputs and read the outputs, which follow in the same cycle."""
        context.set(self._drive, self._driven)
        self._seen = context.get(self._see)

    def get(self, name: str) -> int:
        """The bits of an output, or of an input as it is driven."""
        start, width = self._places[name]
        bits = self._driven if name in self._inputs else self._seen
        return bits >> start & ((1 << width) - 1)

    def get_fields(self, name: str) -> dict[str, Any]:
        """The fields of an output."""
        fields = unpack(self._shapes[name], self.get(name))
        assert isinstance(fields, dict)
        return fields

    def moved(self, stream: str) -> int | None:
        """The payload that a stream transfers in this cycle, if it does."""
        if self.get(f"{stream}__valid") and self.get(f"{stream}__ready"):
            return self.get(f"{stream}__payload")
        return None
