"""Addresses of nested loops with constant strides."""

from collections.abc import Sequence
from itertools import accumulate
from operator import and_

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class AddressWalk(wiring.Component):
    """The address of the current pass through nested loops; one step a cycle, latency 1.

    Parameters
    ----------
    loops : sequence of (count, stride)
        Innermost first: passes, at least 1, and what each adds to the address.
    bits : int
        Bits of the address.

    Members
    -------
    start : In(1)
        Begins with the first pass at ``base``; goes before ``step``.
    base : In(bits)
    step : In(1)
        Goes on to the next pass; after the last one ``start`` is due.
    address : Out(bits)
    ends : Out
        A bit for each loop: this is its last pass, and that of all loops in it.

    Raises
    ------
    ValueError
        There is no loop, or a count is below 1.
    """

    def __init__(self, loops: Sequence[tuple[int, int]], *, bits: int) -> None:
        if not loops or any(count < 1 for count, _ in loops):
            raise ValueError(f"loops must have one of at least 1 pass each, not {loops!r}")
        self._loops = tuple(loops)
        self._bits = bits
        super().__init__(
            {
                "start": In(1),
                "base": In(bits),
                "step": In(1),
                "address": Out(bits),
                "ends": Out(len(loops)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        ends: list[Value] = []
        increments = []
        # Going on with a loop takes back what the loops in it have added.
        back = 0
        carry: Value = Const(1, 1)
        for number, (count, stride) in enumerate(self._loops):
            increments.append(stride - back)
            back += (count - 1) * stride
            if count == 1:
                ends.append(Const(1, 1))
                continue
            place = Signal(range(count), name=f"place_{number}")
            end = Signal(name=f"end_{number}")
            m.d.comb += end.eq(place == count - 1)
            with m.If(self.start):
                m.d.sync += place.eq(0)
            with m.Elif(self.step & carry):
                m.d.sync += place.eq(Mux(end, 0, place + 1))
            ends.append(end)
            carry = carry & end
        increment: Value = Const(0, self._bits)
        for end, amount in reversed(list(zip(ends, increments, strict=True))):
            increment = Mux(end, increment, Const(amount % (1 << self._bits), self._bits))
        m.d.comb += self.ends.eq(Cat(*accumulate(ends, and_)))
        with m.If(self.start):
            m.d.sync += self.address.eq(self.base)
        with m.Elif(self.step):
            m.d.sync += self.address.eq(self.address + increment)
        return m
