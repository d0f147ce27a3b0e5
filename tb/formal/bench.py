"""What is to be proved: a component, its free inputs, and assumptions and checks in Amaranth."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import (
    Assert,
    Assume,
    ClockDomain,
    Module,
    Mux,
    Signal,
    Value,
    ValueLike,
)
from amaranth.lib import wiring


class Bench:
    """A component whose inputs are free in every cycle, reset included, and what holds of it.

    The first cycle is one of reset, from any state at all: registers and memories hold anything
    then. Later resets may come in any cycle, and reset the monitor (``sync`` registers of
    ``module``) with the component. Nothing is assumed or checked in a cycle of reset.

    Parameters
    ----------
    component
        What is looked at. Its inputs are free unless `tie` says otherwise.

    Members
    -------
    module
        Where a test puts its monitor.
    clock, reset
        Of the component and its monitor; the reset is synchronous.
    component
    """

    def __init__(self, component: wiring.Component) -> None:
        self.component = component
        self.module = Module()
        self._domain = ClockDomain("sync")
        self.clock: Signal = self._domain.clk
        self.reset: Signal = self._domain.rst
        self.inputs: dict[str, Signal] = {}
        #: What a trace shows, by name; the first word of a line.
        self.shown: dict[str, Signal] = {"reset": self.reset}
        self.assumptions: list[Signal] = []
        self.violations: dict[str, Signal] = {}
        for path, member, value in component.signature.flatten(component):
            plain = Value.cast(value)
            if isinstance(plain, Signal) and len(plain):
                name = "__".join(map(str, path))
                self.shown[name] = plain
                if member.flow == wiring.In:
                    self.inputs[name] = plain

    def tie(self, name: str, value: ValueLike) -> None:
        """Drive the input ``name`` of the component, which is free otherwise."""
        self.module.d.comb += self.inputs.pop(name).eq(value)

    def hold(self, name: str, condition: ValueLike) -> None:
        """Keep the input ``name`` as it was in the cycle before, in cycles of ``condition``."""
        chosen = Signal.like(self.inputs[name], name=f"{name}_chosen")
        value = Signal.like(chosen, name=f"{name}_held")
        self.module.d.comb += value.eq(Mux(condition, self.before(value), chosen))
        self.tie(name, value)
        self.inputs[f"{name}_chosen"] = chosen

    def free(self, name: str, shape: Any = 1) -> Signal:
        """Return a signal with any value in every cycle."""
        signal = Signal(shape, name=name)
        self.inputs[name] = self.shown[name] = signal
        return signal

    def constant(self, name: str, shape: Any = 1) -> Signal:
        """Return a signal with any value, which changes in cycles of reset only."""
        chosen = self.free(f"{name}_chosen", shape)
        del self.shown[f"{name}_chosen"]
        signal = Signal(shape, name=name, reset_less=True)
        self.module.d.sync += signal.eq(Mux(self.reset, chosen, signal))
        self.shown[name] = signal
        return signal

    def before(self, value: ValueLike) -> Signal:
        """Return the value of the cycle before; 0 after a reset."""
        plain = Value.cast(value)
        signal = Signal.like(plain, name="before", init=0)
        self.module.d.sync += signal.eq(plain)
        return signal

    def assume(self, condition: ValueLike) -> None:
        """Look only at behaviours in which ``condition`` holds in every cycle so far."""
        signal = Signal(name="assumed")
        self.module.d.comb += signal.eq(Value.cast(condition).bool() | self.reset)
        self.assumptions.append(signal)

    def check(self, claim: str, condition: ValueLike) -> None:
        """Claim that ``condition`` holds in every cycle."""
        signal = Signal(name=f"violation_{len(self.violations)}")
        self.module.d.comb += signal.eq(~Value.cast(condition).bool() & ~self.reset)
        self.violations[claim] = signal

    def assume_stream_rule(self, *names: str) -> None:
        """Let ``valid`` and payload of these input streams stay until the transfer.

        They are driven so, which a solver understands more easily than an assumption.
        """
        for name in names:
            stream = self.stream(name)
            waiting = self.before(stream.valid & ~stream.ready)
            chosen = Signal(name=f"{name}__valid_chosen")
            self.tie(f"{name}__valid", chosen | waiting)
            self.inputs[f"{name}__valid_chosen"] = chosen
            if f"{name}__payload" in self.inputs:
                self.hold(f"{name}__payload", waiting)

    def check_stream_rule(
        self, *names: str, payload: ValueLike | None = None, ready: ValueLike | None = None
    ) -> None:
        """Claim of these output streams: ``valid`` and payload stay until the transfer.

        With ``payload``, only these bits of it are looked at. With ``ready``, this is what decides
        on a transfer, whatever the component sees.
        """
        for name in names:
            rule = self._stream_rule(self.stream(name), payload, ready)
            self.check(f"{name} stays until its transfer", rule)

    def stream(self, name: str) -> Any:
        """Return the stream of this name; members and elements are joined by two underscores."""
        found: Any = self.component
        for part in name.split("__"):
            found = found[int(part)] if part.isdigit() else getattr(found, part)
        return found

    def _stream_rule(
        self, stream: Any, part: ValueLike | None = None, ready: ValueLike | None = None
    ) -> Value:
        payload = Value.cast(stream.payload if part is None else part)
        waiting = self.before(stream.valid & ~Value.cast(stream.ready if ready is None else ready))
        return ~waiting | (stream.valid & (payload == self.before(payload)))

    @property
    def input_ports(self) -> dict[str, Signal]:
        """The free inputs by name, with the reset."""
        return {"reset": self.reset, **self.inputs}

    def top(self, *, formal: bool) -> Module:
        """Return the whole, for the solver or (without its statements) for a simulator."""
        m = Module()
        m.domains.sync = self._domain
        m.submodules.component = self.component
        m.submodules.monitor = self.module
        if formal:
            started = Signal(name="formal_started", reset_less=True)
            m.d.sync += started.eq(1)
            m.d.comb += Assume(started | self.reset)
            m.d.comb += [Assume(signal) for signal in self.assumptions]
            m.d.comb += [Assert(~signal) for signal in self.violations.values()]
        return m
