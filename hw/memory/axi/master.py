"""A memory channel behind AXI4: stands in the place of a DRAM controller."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from hw.memory.axi.page_split import PageSplit
from hw.memory.axi.port import axi_port
from hw.memory.axi.read_side import ReadSide
from hw.memory.axi.write_side import WriteSide
from hw.memory.channel_port import channel_port


class AxiMaster(wiring.Component):
    """Latency 2 cycles, request to AR or AW, 1 for a word to W and an answer; one of each a cycle.

    A request becomes one INCR burst, or two where it crosses a multiple of 4 KiB. A read that is
    sent after the end of a write sees the data, as AXI4 promises it of reads after B.

    Parameters
    ----------
    id_bits : int
        Bits of the channel's ``id``, at least 1.
    gear : int
        Beats of 16 bytes in a clock: 1 (128 bits of data) or 2 (256).
    axi_id_bits : int
        Bits of the IDs on the bus, 1 to 8; 2**axi_id_bits reads may be under way, and as many
        writes. It has nothing to do with ``id_bits``.

    Members
    -------
    channel : In(channel_port)
        ``response.ready`` and ``written.ready`` must be high.
    awid, awaddr, ... rready
        The signals of AXI4, `axi_port`. The clock is ``clk``; ``rst`` is high in reset, the inverse
        of ARESETn. ``rready`` and ``bready`` are always 1.
    counters
        Those of both directions.

    Raises
    ------
    ValueError
        A parameter is not legal.
    """

    def __init__(self, *, id_bits: int, gear: int = 1, axi_id_bits: int = 4) -> None:
        if id_bits < 1:
            raise ValueError(f"id_bits must be at least 1, not {id_bits!r}")
        if gear not in (1, 2):
            raise ValueError(f"gear must be 1 or 2, not {gear!r}")
        if not 1 <= axi_id_bits <= 8:
            raise ValueError(f"axi_id_bits must be 1 to 8, not {axi_id_bits!r}")
        self._id_bits = id_bits
        self._reads = ReadSide(id_bits, gear=gear, axi_id_bits=axi_id_bits)
        self._writes = WriteSide(id_bits, gear=gear, axi_id_bits=axi_id_bits)
        self.counters = (*self._reads.counters, *self._writes.counters)
        self._port = axi_port(axi_id_bits, gear)
        super().__init__({"channel": In(channel_port(id_bits, gear)), **self._port})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.split = split = PageSplit(self._id_bits)
        m.submodules.reads = reads = self._reads
        m.submodules.writes = writes = self._writes
        channel = self.channel
        wiring.connect(m, wiring.flipped(channel.request), split.requests)
        wiring.connect(m, wiring.flipped(channel.write_data), writes.data)
        wiring.connect(m, reads.response, wiring.flipped(channel.response))
        wiring.connect(m, writes.written, wiring.flipped(channel.written))
        part = split.parts
        m.d.comb += [
            reads.parts.payload.eq(part.payload),
            writes.parts.payload.eq(part.payload),
            reads.parts.valid.eq(part.valid & ~part.payload.write),
            writes.parts.valid.eq(part.valid & part.payload.write),
        ]
        with m.If(part.payload.write):
            m.d.comb += part.ready.eq(writes.parts.ready)
        with m.Else():
            m.d.comb += part.ready.eq(reads.parts.ready)
        for name, member in self._port.items():
            side = reads if name.startswith(("ar", "r")) else writes
            own, inner = getattr(self, name), getattr(side, name)
            m.d.comb += inner.eq(own) if member.flow == In else own.eq(inner)
        return m
