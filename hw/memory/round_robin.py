"""Whose turn it is."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class RoundRobin(wiring.Component):
    """Grants one of those that wait, in the same cycle: the first behind the one granted last.

    One that waits sees at most ``count - 1`` grants to others before its own.

    Parameters
    ----------
    count : int
        At least 1.

    Members
    -------
    waiting : In(count)
    enable : In(1)
        Without it there is no grant.
    grant : Out(count)
        One of the bits of ``waiting``, or none.

    Raises
    ------
    ValueError
        ``count`` is below 1.
    """

    def __init__(self, count: int) -> None:
        if count < 1:
            raise ValueError(f"count must be at least 1, not {count!r}")
        self._count = count
        super().__init__({"waiting": In(count), "enable": In(1), "grant": Out(count)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        #: Those behind the one that was granted last.
        later = Signal(self._count)
        pool = Signal(self._count)
        first = Signal(self._count)
        ahead = self.waiting & later
        m.d.comb += [
            pool.eq(Mux(ahead.any(), ahead, self.waiting)),
            first.eq(pool & (~pool + 1)),
            self.grant.eq(Mux(self.enable, first, 0)),
        ]
        with m.If(self.grant.any()):
            m.d.sync += later.eq(~((self.grant << 1) - 1))
        return m
