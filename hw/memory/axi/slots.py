"""The requests under way at an AXI4 port: a slot is an ID on the bus."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class Slots(wiring.Component):
    """The lowest free slot in the same cycle; a slot that was given back is free a cycle later.

    The second part of a request gets the slot of the first.

    Parameters
    ----------
    bits : int
        Bits of a slot's number; there are 2**bits slots.

    Members
    -------
    first, take : In(1)
        The part at hand is the first of its request; it is sent in this cycle.
    available : Out(1)
    slot : Out(bits)
        Whether there is a slot for it, and which.
    give_back, back : In(1), In(bits)
        A slot is free again.
    busy : Out(2**bits)
    """

    def __init__(self, bits: int) -> None:
        self._bits = bits
        super().__init__(
            {
                "first": In(1),
                "take": In(1),
                "available": Out(1),
                "slot": Out(bits),
                "give_back": In(1),
                "back": In(bits),
                "busy": Out(1 << bits),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        free, current = Signal(self._bits), Signal(self._bits)
        for slot in reversed(range(1 << self._bits)):
            with m.If(~self.busy[slot]):
                m.d.comb += free.eq(slot)
        taken, given = Signal.like(self.busy), Signal.like(self.busy)
        m.d.comb += [
            self.available.eq(~self.first | ~self.busy.all()),
            self.slot.eq(Mux(self.first, free, current)),
            taken.eq(self.take << self.slot),
            given.eq(self.give_back << self.back),
        ]
        m.d.sync += self.busy.eq((self.busy & ~given) | taken)
        with m.If(self.take):
            m.d.sync += current.eq(self.slot)
        return m
