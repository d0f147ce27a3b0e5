"""Several writers behind one write port."""

from amaranth.hdl import Const, Elaboratable, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.memory.arbiter.write_order import WriteOrder
from hw.memory.port import port_request, write_port
from hw.memory.round_robin import RoundRobin
from hw.streams import StreamRegister

#: Requests whose data may be outstanding.
_DEPTH = 4


class WriteMerge(wiring.Component):
    """A request and a beat a cycle, each 1 cycle later than its writer's.

    Data pass in the order of the requests.

    Parameters
    ----------
    writers : int
        At least 2.
    tag_bits : int
        Bits of the tags of each writer; above them the memory's have the number of the writer.

    Members
    -------
    writers : In(write_port) per writer
    memory : Out(write_port)

    Raises
    ------
    ValueError
        ``writers`` is below 2.
    """

    def __init__(self, writers: int, *, tag_bits: int) -> None:
        if writers < 2:
            raise ValueError(f"writers must be at least 2, not {writers!r}")
        self._writers = writers
        self._tag_bits = tag_bits
        number_bits = (writers - 1).bit_length()
        super().__init__(
            {
                "writers": In(write_port(tag_bits)).array(writers),
                "memory": Out(write_port(tag_bits + number_bits)),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        tag_bits = len(self.memory.request.payload.tag)
        m.submodules.turn = turn = RoundRobin(self._writers)
        m.submodules.register = register = StreamRegister(port_request(tag_bits))
        m.submodules.order = order = WriteOrder(self._writers, gear=1, depth=_DEPTH)
        connect(m, register.output, flipped(self.memory.request))
        connect(m, order.output, flipped(self.memory.data))
        written = self.memory.written
        number = written.payload.tag[self._tag_bits :]
        granted = order.granted
        m.d.comb += [
            turn.enable.eq(register.input.ready & granted.ready),
            register.input.valid.eq(turn.grant.any()),
            granted.valid.eq(turn.grant.any()),
            written.ready.eq(1),
        ]
        for i, writer in enumerate(self.writers):
            request = writer.request
            connect(m, flipped(writer.data), order.data[i])
            m.d.comb += [
                turn.waiting[i].eq(request.valid),
                request.ready.eq(turn.grant[i]),
                writer.written.valid.eq(written.valid & (number == i)),
                writer.written.payload.tag.eq(written.payload.tag),
                writer.written.payload.error.eq(written.payload.error),
            ]
            with m.If(turn.grant[i]):
                m.d.comb += [
                    register.input.payload.address.eq(request.payload.address),
                    register.input.payload.bursts_less_one.eq(request.payload.bursts_less_one),
                    register.input.payload.tag.eq(
                        request.payload.tag | Const(i << self._tag_bits, tag_bits)
                    ),
                    granted.payload.client.eq(i),
                    granted.payload.bursts.eq(request.payload.bursts_less_one + 1),
                ]
        return m
