"""Parts of a design that are emitted once and instantiated as often as needed."""

from typing import Any

from amaranth.hdl import ClockSignal, Elaboratable, Instance, ResetSignal, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In


class SharedModule(wiring.Component):
    """Stands for one of several equal parts: no latency, the ports of the part.

    It becomes an instance of module ``name``. `hw.tools.sharing.convert` adds that module to the
    text, once for all of its instances.

    Parameters
    ----------
    name : str
        Of the module, the same for all instances and for no other part.
    part : wiring.Component
        A clocked component, one object for all instances. It is never a submodule itself.

    Members
    -------
    Those of ``part``.

    Raises
    ------
    TypeError
        In elaboration: the platform does not collect shared modules.
    """

    def __init__(self, name: str, part: wiring.Component) -> None:
        self._name = name
        self._part = part
        super().__init__(part.signature)

    def elaborate(self, platform: Any) -> Elaboratable:
        share = getattr(platform, "share", None)
        if share is None:
            raise TypeError(f"{self._name} must be emitted by hw.tools.sharing, not on its own")
        share(self._name, self._part)
        ports: dict[str, object] = {}
        for path, member, value in self.signature.flatten(self):
            plain = Value.cast(value)
            # Neither constants, such as the ready of a stream that always is, nor empty payloads.
            if isinstance(plain, Signal) and len(plain):
                side = "i" if member.flow == In else "o"
                ports[f"{side}_{'__'.join(map(str, path))}"] = value
        return Instance(self._name, i_clk=ClockSignal(), i_rst=ResetSignal(), **ports)
