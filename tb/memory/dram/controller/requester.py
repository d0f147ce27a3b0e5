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

REQUEST_LAYOUT = data.StructLayout(
    {"address": ADDRESS_BITS, "bursts_less_one": BURSTS_LESS_ONE_BITS, "write": 1}
)


class Requester(wiring.Component):
    """Request number n gets the id ``n mod limit`` and waits until the last one with it is over.

    Parameters
    ----------
    config : ControllerConfig
    window
        Requests under way at most.

    Members
    -------
    limit : In
        Fewer requests under way, 1 to ``window``; constant.
    request : In(stream of REQUEST_LAYOUT), data : In(stream)
    channel : Out(channel_port)
    response, written : Out(stream)
        What comes back, in the order in which it comes; a test must always be ready.
    """

    def __init__(self, config: ControllerConfig, window: int) -> None:
        self._config = config
        self._window = window
        bits, gear = config.id_bits, config.gear
        super().__init__(
            {
                "limit": In(range(self._window + 1), init=self._window),
                "request": In(stream.Signature(REQUEST_LAYOUT)),
                "data": In(stream.Signature(write_data(gear))),
                "channel": Out(channel_port(bits, gear)),
                "response": Out(stream.Signature(channel_response(bits, gear))),
                "written": Out(stream.Signature(channel_written(bits))),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        """Give ids, count what is left of each."""
        m = Module()
        words = BURST_BYTES // (16 * self._config.gear)
        left = Array(Signal(8, name=f"left_{i}") for i in range(self._window))
        turn = Signal(range(self._window))
        given, asked = self.request, self.channel.request
        free = left[turn] == 0
        m.d.comb += [
            asked.valid.eq(given.valid & free),
            asked.payload.address.eq(given.payload.address),
            asked.payload.bursts_less_one.eq(given.payload.bursts_less_one),
            asked.payload.write.eq(given.payload.write),
            asked.payload.id.eq(turn),
            given.ready.eq(asked.ready & free),
        ]
        connect(m, flipped(self.data), flipped(self.channel.write_data))
        connect(m, flipped(self.channel.response), flipped(self.response))
        connect(m, flipped(self.channel.written), flipped(self.written))
        sent = Signal()
        m.d.comb += sent.eq(asked.valid & asked.ready)
        for i in range(self._window):
            came = self.response.valid & (self.response.payload.id == i)
            done = self.written.valid & (self.written.payload.id == i)
            with m.If(sent & (turn == i)):
                size = (given.payload.bursts_less_one + 1) * words
                m.d.sync += left[i].eq(Mux(given.payload.write, 1, size))
            with m.Else():
                m.d.sync += left[i].eq(left[i] - came - done)
        with m.If(sent):
            m.d.sync += turn.eq(Mux(turn + 1 == self.limit, 0, turn + 1))
        return m
