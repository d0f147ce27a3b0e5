"""The AXI4 master between two streams of a channel and the memory model."""

from __future__ import annotations

from amaranth.hdl import ClockSignal, Instance, Module, Mux, ResetSignal, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import BEAT_BYTES
from hw.memory.axi import AxiMaster
from hw.memory.axi.port import axi_port
from hw.memory.channel_port import channel_request, channel_response, channel_written
from hw.memory.port import BURST_BEATS, write_data

ID_BITS = 12
MEMORY_BYTES = 1 << 16

#: A request, and whether it waits until everything before it has ended.
ITEM = data.StructLayout({"request": channel_request(ID_BITS), "fence": 1})


class AxiBench(wiring.Component):
    """Requests with fences, words, answers and ends of writes; the other end is the model."""

    def __init__(self, gear: int, axi_id_bits: int) -> None:
        self._gear = gear
        self._axi_id_bits = axi_id_bits
        super().__init__(
            {
                "items": In(stream.Signature(ITEM)),
                "words": In(stream.Signature(write_data(gear))),
                "response": Out(stream.Signature(channel_response(ID_BITS, gear))),
                "written": Out(stream.Signature(channel_written(ID_BITS))),
                "read_bursts": Out(32),
                "write_bursts": Out(32),
                "reads_at_once": Out(32),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Hold what waits for a fence, and connect the rest."""
        m = Module()
        gear = self._gear
        m.submodules.master = master = AxiMaster(
            id_bits=ID_BITS, gear=gear, axi_id_bits=self._axi_id_bits
        )
        channel = master.channel
        wiring.connect(m, wiring.flipped(self.words), channel.write_data)
        wiring.connect(m, channel.response, wiring.flipped(self.response))
        wiring.connect(m, channel.written, wiring.flipped(self.written))

        # Words of answers and ends of writes that are to come.
        under_way = Signal(16)
        item = self.items.payload
        may_go = ~item.fence | (under_way == 0)
        sent = channel.request.valid & channel.request.ready
        words = (item.request.bursts_less_one + 1) * (BURST_BEATS // gear)
        m.d.comb += [
            channel.request.payload.eq(item.request),
            channel.request.valid.eq(self.items.valid & may_go),
            self.items.ready.eq(channel.request.ready & may_go),
        ]
        m.d.sync += under_way.eq(
            under_way
            + Mux(sent, Mux(item.request.write, 1, words), 0)
            - channel.response.valid
            - channel.written.valid
        )
        ports: dict[str, object] = {}
        for name, member in axi_port(self._axi_id_bits, gear).items():
            ports[("i_" if member.flow == Out else "o_") + name] = getattr(master, name)
        m.submodules.memory = Instance(
            "axi_memory",
            p_BYTES=MEMORY_BYTES,
            p_WORD_BYTES=gear * BEAT_BYTES,
            p_ID_BITS=self._axi_id_bits,
            i_clk=ClockSignal(),
            i_rst=ResetSignal(),
            o_read_bursts=self.read_bursts,
            o_write_bursts=self.write_bursts,
            o_reads_at_once=self.reads_at_once,
            **ports,
        )
        return m
