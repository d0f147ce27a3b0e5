"""Small components that the harness's own tests run: one that misbehaves on demand."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.lib import fifo, stream, wiring
from amaranth.lib.wiring import In, Out

DROPPED_ITEM = 3
"""Index of the item that a `Passage` with the fault DROP loses."""


class Fault(IntEnum):
    """What a `Passage` can be told to do wrong."""

    NONE = 0
    #: One item is lost.
    DROP = 1
    #: The last item of every four is sent twice.
    REPEAT = 2
    #: ``valid`` is taken back after a cycle without ``ready``.
    WITHDRAW = 3
    #: The payload is inverted after a cycle without ``ready``.
    CHANGE = 4
    #: No item is ever taken.
    DEAF = 5


class Passage(wiring.Component):
    """A queue of four items that passes its input on, XORed with a mask; latency two cycles.

    Parameters
    ----------
    width
        Bits of an item, at least 4.

    Members
    -------
    items : In(stream)
        What goes in.
    passed : Out(stream)
        What comes out.
    mask : In(4)
        XORed into the low bits of every item.
    fault : In(Fault)
        What to do wrong.
    count : Out(16)
        Items passed since reset.
    kept_count : Out(16)
        The same, but wrongly kept over a reset.
    """

    def __init__(self, *, width: int) -> None:
        if width < 4:
            raise ValueError(f"width must be at least 4, not {width!r}")
        self._width = width
        super().__init__(
            {
                "items": In(stream.Signature(width)),
                "passed": Out(stream.Signature(width)),
                "mask": In(4, init=0b0001),
                "fault": In(Fault),
                "count": Out(16),
                "kept_count": Out(16),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the queue and the faults around it."""
        del platform
        m = Module()
        m.submodules.queue = queue = fifo.SyncFIFOBuffered(width=self._width, depth=4)
        kept_count = Signal(16, reset_less=True)
        arrived = Signal(16)
        waiting = Signal()
        again = Signal()
        taken = self.passed.valid & self.passed.ready
        m.d.sync += waiting.eq(self.passed.valid & ~self.passed.ready)
        m.d.comb += [
            queue.w_data.eq(self.items.payload ^ self.mask),
            queue.w_en.eq(self.items.valid),
            self.items.ready.eq(queue.w_rdy),
            self.passed.payload.eq(queue.r_data),
            self.passed.valid.eq(queue.r_rdy),
            queue.r_en.eq(self.passed.ready),
            self.kept_count.eq(kept_count),
        ]
        with m.If(taken):
            m.d.sync += [self.count.eq(self.count + 1), kept_count.eq(kept_count + 1)]
        with m.If(self.items.valid & self.items.ready):
            m.d.sync += arrived.eq(arrived + 1)
        with m.Switch(self.fault):
            with m.Case(Fault.DROP):
                with m.If(arrived == DROPPED_ITEM):
                    m.d.comb += queue.w_en.eq(0)
            with m.Case(Fault.REPEAT):
                last_of_four = self.count[:2] == 3
                with m.If(taken):
                    m.d.sync += again.eq(~again & last_of_four)
                with m.If(last_of_four & ~again):
                    m.d.comb += queue.r_en.eq(0)
            with m.Case(Fault.WITHDRAW):
                with m.If(waiting):
                    m.d.comb += [self.passed.valid.eq(0), queue.r_en.eq(0)]
            with m.Case(Fault.CHANGE):
                with m.If(waiting):
                    m.d.comb += self.passed.payload.eq(~queue.r_data)
            with m.Case(Fault.DEAF):
                m.d.comb += [self.items.ready.eq(0), queue.w_en.eq(0)]
        return m


class Splitter(wiring.Component):
    """Combinational: sends the low half of every item to lane 0, the high half to lane 1.

    Parameters
    ----------
    width
        Bits of an item, even and at least 2.
    drive_parity
        Whether the output ``parity`` is driven (not driving it is the fault under test).

    Members
    -------
    items : In(stream)
        What goes in.
    lane : Out(stream), twice
        The halves; always ready by declaration.
    parity : Out(1)
        Parity of the item on the bus.
    """

    def __init__(self, *, width: int, drive_parity: bool = True) -> None:
        if width < 2 or width % 2:
            raise ValueError(f"width must be even and at least 2, not {width!r}")
        self._half = width // 2
        self._drive_parity = drive_parity
        super().__init__(
            {
                "items": In(stream.Signature(width)),
                "lane": Out(stream.Signature(width // 2, always_ready=True)).array(2),
                "parity": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Wire the halves through."""
        del platform
        m = Module()
        m.d.comb += self.items.ready.eq(1)
        for index in range(2):
            low = index * self._half
            m.d.comb += [
                self.lane[index].valid.eq(self.items.valid),
                self.lane[index].payload.eq(self.items.payload[low : low + self._half]),
            ]
        if self._drive_parity:
            m.d.comb += self.parity.eq(self.items.payload.xor())
        return m
