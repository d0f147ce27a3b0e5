"""Counts the clocks since an event."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class Timer(wiring.Component):
    """Says, for each of some distances, whether it lies behind the last event; true after reset.

    Parameters
    ----------
    distances
        Clocks of the logic from the event on, by name. A command that must come at least ``n``
        clocks after one in clock t may be issued in clock t + n; a distance below 2 is always kept.

    Members
    -------
    start : In(1)
        The event happens in this clock.
    passed : Out, a bit per distance, in the order of ``distances``
        Whether the distance is kept in this clock. ``[name]`` picks one.
    """

    def __init__(self, **distances: int) -> None:
        self._distances = distances
        super().__init__({"start": In(1), "passed": Out(len(distances))})

    def __getitem__(self, name: str) -> Signal:
        """Return whether the distance called ``name`` is kept."""
        return self.passed[list(self._distances).index(name)]

    def elaborate(self, platform: object) -> Module:
        m = Module()
        longest = max(self._distances.values())
        if longest < 2:
            m.d.comb += self.passed.eq(-1)
            return m
        left = Signal(range(longest))
        with m.If(self.start):
            m.d.sync += left.eq(longest - 1)
        with m.Elif(left != 0):
            m.d.sync += left.eq(left - 1)
        for i, distance in enumerate(self._distances.values()):
            m.d.comb += self.passed[i].eq(left <= min(longest - distance, longest - 1))
        return m
