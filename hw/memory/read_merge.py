"""Several readers behind one read port."""

from amaranth.hdl import Const, Elaboratable, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.memory.port import port_request, read_port
from hw.memory.round_robin import RoundRobin
from hw.streams import StreamRegister


class ReadMerge(wiring.Component):
    """A request a cycle, 1 cycle later than its reader's; answers pass in the cycle they come.

    Parameters
    ----------
    readers : int
        At least 2.
    tag_bits : int
        Bits of the tags of each reader; above them the memory's have the number of the reader.

    Members
    -------
    readers : In(read_port) per reader
    memory : Out(read_port)

    Raises
    ------
    ValueError
        ``readers`` is below 2.
    """

    def __init__(self, readers: int, *, tag_bits: int) -> None:
        if readers < 2:
            raise ValueError(f"readers must be at least 2, not {readers!r}")
        self._readers = readers
        self._tag_bits = tag_bits
        number_bits = (readers - 1).bit_length()
        super().__init__(
            {
                "readers": In(read_port(tag_bits)).array(readers),
                "memory": Out(read_port(tag_bits + number_bits)),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        tag_bits = len(self.memory.request.payload.tag)
        m.submodules.turn = turn = RoundRobin(self._readers)
        m.submodules.register = register = StreamRegister(port_request(tag_bits))
        connect(m, register.output, flipped(self.memory.request))
        response = self.memory.response
        m.d.comb += [turn.enable.eq(register.input.ready), response.ready.eq(1)]
        number = response.payload.tag[self._tag_bits :]
        for i, reader in enumerate(self.readers):
            request = reader.request
            m.d.comb += [
                turn.waiting[i].eq(request.valid),
                request.ready.eq(turn.grant[i]),
                reader.response.valid.eq(response.valid & (number == i)),
                reader.response.payload.data.eq(response.payload.data),
                reader.response.payload.tag.eq(response.payload.tag),
                reader.response.payload.beat.eq(response.payload.beat),
                reader.response.payload.error.eq(response.payload.error),
            ]
            with m.If(turn.grant[i]):
                m.d.comb += [
                    register.input.valid.eq(1),
                    register.input.payload.address.eq(request.payload.address),
                    register.input.payload.bursts_less_one.eq(request.payload.bursts_less_one),
                    register.input.payload.tag.eq(
                        request.payload.tag | Const(i << self._tag_bits, tag_bits)
                    ),
                ]
        return m
