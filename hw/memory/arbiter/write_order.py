"""The data of writers, in the order in which their requests were granted."""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.memory.port import BURST_BEATS, REQUEST_BURSTS, write_data
from hw.streams import StreamFIFO, StreamRegister


class WriteOrder(wiring.Component):
    """A word leaves a cycle after it was taken, at the earliest; one word a cycle.

    Parameters
    ----------
    clients : int
        Writers, at least 1.
    gear : int
        Beats of a word: 1 or 2.
    depth : int
        Requests whose data may be outstanding, at least 2.

    Members
    -------
    granted : In(stream)
        ``client`` and ``bursts`` (1 to 16) of each request, in order.
    data : In(stream of write_data), per client
        Its words. A word is taken only when the requests before it have theirs.
    output : Out(stream of write_data)
    """

    def __init__(self, clients: int, *, gear: int, depth: int) -> None:
        self._clients = clients
        self._gear = gear
        self._depth = depth
        words = stream.Signature(write_data(gear))
        super().__init__(
            {
                "granted": In(
                    stream.Signature(
                        data.StructLayout(
                            {"client": range(max(2, clients)), "bursts": range(REQUEST_BURSTS + 1)}
                        )
                    )
                ),
                "data": In(words).array(clients),
                "output": Out(words),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.order = order = StreamFIFO(self.granted.payload.shape(), depth=self._depth)
        m.submodules.register = register = StreamRegister(write_data(self._gear))
        wiring.connect(m, wiring.flipped(self.granted), order.input)
        wiring.connect(m, register.output, wiring.flipped(self.output))

        words_of_burst = BURST_BEATS // self._gear
        head = order.output
        word = Signal(range(REQUEST_BURSTS * words_of_burst))
        moved, final = Signal(), Signal()
        m.d.comb += [
            moved.eq(register.input.valid & register.input.ready),
            final.eq(word + 1 == head.payload.bursts * words_of_burst),
            head.ready.eq(moved & final),
        ]
        for i in range(self._clients):
            source = self.data[i]
            mine = Signal(name=f"turn_of_{i}")
            m.d.comb += mine.eq(head.valid & (head.payload.client == i))
            with m.If(mine):
                m.d.comb += [
                    register.input.valid.eq(source.valid),
                    register.input.payload.eq(source.payload),
                    source.ready.eq(register.input.ready),
                ]
        with m.If(moved):
            m.d.sync += word.eq(word + 1)
            with m.If(final):
                m.d.sync += word.eq(0)
        return m
