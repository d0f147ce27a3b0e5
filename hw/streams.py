"""Small stream parts that every unit may use."""

from functools import reduce
from operator import and_

from amaranth.hdl import Module, Shape, ShapeLike
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFO, SyncFIFOBuffered
from amaranth.lib.wiring import In, Out


class StreamRegister(wiring.Component):
    """One register in a stream: latency 1 cycle, one item per cycle.

    While the register is full ``ready`` passes combinationally from ``output`` to ``input``.

    Parameters
    ----------
    shape : shape-like
        Payload of both streams.

    Members
    -------
    input, output : stream
    """

    def __init__(self, shape: ShapeLike) -> None:
        super().__init__(
            {"input": In(stream.Signature(shape)), "output": Out(stream.Signature(shape))}
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.comb += self.input.ready.eq(~self.output.valid | self.output.ready)
        with m.If(self.input.ready):
            m.d.sync += self.output.valid.eq(self.input.valid)
            with m.If(self.input.valid):
                m.d.sync += self.output.payload.eq(self.input.payload)
        return m


class StreamFIFO(wiring.Component):
    """A first-in first-out queue: latency 1 cycle, above `REGISTERS` items 2; one item per cycle.

    A short queue is read combinationally, so it becomes registers. A longer one has a registered
    read, so it can become a memory block. ``ready`` and ``valid`` follow from registers in both.

    Parameters
    ----------
    shape : shape-like
        Payload of both streams.
    depth : int
        Items that it holds, at least 2.

    Members
    -------
    input, output : stream

    Raises
    ------
    ValueError
        ``depth`` is below 2.
    """

    #: The deepest queue that is made of registers.
    REGISTERS = 8

    def __init__(self, shape: ShapeLike, *, depth: int) -> None:
        if depth < 2:
            raise ValueError(f"depth must be at least 2, not {depth!r}")
        self._depth = depth
        super().__init__(
            {"input": In(stream.Signature(shape)), "output": Out(stream.Signature(shape))}
        )

    @property
    def depth(self) -> int:
        """Items that it holds."""
        return self._depth

    def elaborate(self, platform: object) -> Module:
        m = Module()
        width = Shape.cast(self.input.payload.shape()).width
        make = SyncFIFO if self._depth <= self.REGISTERS else SyncFIFOBuffered
        m.submodules.queue = queue = make(width=width, depth=self._depth)
        m.d.comb += [
            queue.w_data.eq(self.input.payload),
            queue.w_en.eq(self.input.valid),
            self.input.ready.eq(queue.w_rdy),
            self.output.payload.eq(queue.r_data),
            self.output.valid.eq(queue.r_rdy),
            queue.r_en.eq(self.output.ready),
        ]
        return m


def fork(m: Module, source: stream.Interface, *sinks: stream.Interface) -> None:
    """Move an item of ``source`` in the cycle in which all of ``sinks`` take it: no latency.

    Payloads are the caller's to connect. A sink's ``ready`` must not follow from its ``valid``.
    """
    for sink in sinks:
        others = [other.ready for other in sinks if other is not sink]
        m.d.comb += sink.valid.eq(reduce(and_, others, source.valid))
    m.d.comb += source.ready.eq(reduce(and_, [sink.ready for sink in sinks]))
