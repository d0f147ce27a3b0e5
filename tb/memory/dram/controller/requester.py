"""Keeps a window of requests under way at a channel port, as a reorder buffer would."""

from amaranth.hdl import Array, Elaboratable, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.config import BURST_BYTES
from hw.memory.channel_port import (
    channel_port,
    channel_response,
    channel_written,
)
from hw.memory.dram.controller import ControllerConfig
from hw.memory.port import ADDRESS_BITS, BURSTS_LESS_ONE_BITS, write_data

#: Bits of the number of a request's slot.
SLOT_BITS = 4
REQUEST_LAYOUT = data.StructLayout(
    {
        "address": ADDRESS_BITS,
        "bursts_less_one": BURSTS_LESS_ONE_BITS,
        "write": 1,
        "slot": SLOT_BITS,
    }
)
#: Clocks that a wait is counted up to.
WAIT_BITS = 16


class Requester(wiring.Component):
    """A request's id is its slot; it waits until the last one in this slot is over.

    Parameters
    ----------
    config : ControllerConfig
    window
        Slots: requests under way at most.

    Members
    -------
    request : In(stream of REQUEST_LAYOUT), data : In(stream)
    channel : Out(channel_port)
    response, written : Out(stream)
        What comes back, in the order in which it comes; a test must always be ready.
    longest_wait : Out(window x WAIT_BITS)
        Per slot the most clocks from when a request was offered to its last answer.
    """

    def __init__(self, config: ControllerConfig, window: int) -> None:
        self._config = config
        self._window = window
        bits, gear = config.id_bits, config.gear
        super().__init__(
            {
                "request": In(stream.Signature(REQUEST_LAYOUT)),
                "data": In(stream.Signature(write_data(gear))),
                "channel": Out(channel_port(bits, gear)),
                "response": Out(stream.Signature(channel_response(bits, gear))),
                "written": Out(stream.Signature(channel_written(bits))),
                "longest_wait": Out(data.ArrayLayout(WAIT_BITS, window)),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        """Give ids, count what is left of each."""
        m = Module()
        words = BURST_BYTES // (16 * self._config.gear)
        left = Array(Signal(8, name=f"left_{i}") for i in range(self._window))
        given, asked = self.request, self.channel.request
        slot = given.payload.slot
        free = left[slot] == 0
        m.d.comb += [
            asked.valid.eq(given.valid & free),
            asked.payload.address.eq(given.payload.address),
            asked.payload.bursts_less_one.eq(given.payload.bursts_less_one),
            asked.payload.write.eq(given.payload.write),
            asked.payload.id.eq(slot),
            given.ready.eq(asked.ready & free),
        ]
        connect(m, flipped(self.data), flipped(self.channel.write_data))
        connect(m, flipped(self.channel.response), flipped(self.response))
        connect(m, flipped(self.channel.written), flipped(self.written))
        for i in range(self._window):
            came = self.response.valid & (self.response.payload.id == i)
            done = self.written.valid & (self.written.payload.id == i)
            wait = Signal(WAIT_BITS, name=f"wait_{i}")
            offered = Signal(name=f"offered_{i}")
            pending = Signal(name=f"pending_{i}")
            m.d.comb += offered.eq(asked.valid & (slot == i))
            with m.If(offered & asked.ready):
                size = (given.payload.bursts_less_one + 1) * words
                m.d.sync += left[i].eq(Mux(given.payload.write, 1, size))
            with m.Else():
                m.d.sync += left[i].eq(left[i] - came - done)
            m.d.sync += [
                pending.eq(offered & ~asked.ready),
                wait.eq(Mux(pending | (left[i] != 0), wait + ~wait.all(), offered)),
            ]
            with m.If(wait > self.longest_wait[i]):
                m.d.sync += self.longest_wait[i].eq(wait)
        return m
