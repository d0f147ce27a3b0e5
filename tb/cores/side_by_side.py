"""Several components in one simulation: one build and one run serve all of them."""

from __future__ import annotations

from collections.abc import Mapping

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out


class SideBySide(wiring.Component):
    """Components that have nothing to do with each other.

    Parameters
    ----------
    components
        By name. Port ``x`` of component ``name`` is ``name__x`` in a simulation.
    """

    def __init__(self, components: Mapping[str, wiring.Component]) -> None:
        self._components = dict(components)
        super().__init__({name: Out(each.signature) for name, each in self._components.items()})

    def elaborate(self, platform: object) -> Module:
        """Connect every component to its ports."""
        del platform
        m = Module()
        for name, component in self._components.items():
            m.submodules[name] = component
            wiring.connect(m, wiring.flipped(getattr(self, name)), component)
        return m
