"""Gives a growing cache its pages, as the host could: with commands."""

from amaranth.hdl import Elaboratable, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.counters import Counter
from hw.memory.kv_mmu.config import MmuConfig
from hw.memory.kv_mmu.formats import CommandStatus, Opcode
from hw.memory.kv_mmu.ports import COMMAND, REPLY, place_layout


def grow_request(config: MmuConfig) -> data.StructLayout:
    """The place of the first page, and the index behind the last one."""
    return data.StructLayout({"place": place_layout(config), "end": range(config.most_pages + 1)})


class PageGrower(wiring.Component):
    """One ALLOCATE after the other: 2 cycles a page and what the command takes.

    A page that is there already is left as it is, so a job that found no page can be sent again.

    Parameters
    ----------
    config

    Members
    -------
    request : In(stream of grow_request)
        Pages ``place.index`` to ``end`` - 1 of a region; none if that is no range.
    result : Out(stream of 1 bit)
        1 when there was no free page. What else goes wrong shows in the walk of the table.
    command : Out(stream of COMMAND), reply : In(stream of REPLY)
    counters
    """

    def __init__(self, config: MmuConfig) -> None:
        self._config = config
        self._grown = Counter("pages_grown", "pages that jobs and prompts allocated", unit="pages")
        self.counters = [self._grown]
        super().__init__(
            {
                "request": In(stream.Signature(grow_request(config))),
                "result": Out(stream.Signature(1)),
                "command": Out(stream.Signature(COMMAND)),
                "reply": In(stream.Signature(REPLY)),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        asked = Signal(grow_request(self._config))
        index = Signal(len(asked.end))
        command, place, status = self.command.payload, asked.place, self.reply.payload.status
        m.d.comb += [
            command.opcode.eq(Opcode.ALLOCATE),
            command.sequence.eq(place.sequence),
            command.layer.eq(place.layer),
            command.kv_head.eq(place.kv_head),
            command.region.eq(place.region),
            command.index.eq(index),
        ]
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.request.ready.eq(1)
                m.d.sync += [
                    asked.eq(self.request.payload),
                    index.eq(self.request.payload.place.index),
                    self.result.payload.eq(0),
                ]
                with m.If(self.request.valid):
                    m.next = "NEXT"
            with m.State("NEXT"):
                m.d.comb += self.command.valid.eq(index < asked.end)
                with m.If(~self.command.valid):
                    m.next = "ANSWER"
                with m.Elif(self.command.ready):
                    m.next = "REPLY"
            with m.State("REPLY"):
                m.d.comb += self.reply.ready.eq(1)
                with m.If(self.reply.valid):
                    m.d.comb += self._grown.event.eq(status == CommandStatus.OK)
                    m.d.sync += index.eq(index + 1)
                    m.next = "NEXT"
                    with m.If(status == CommandStatus.OUT_OF_PAGES):
                        m.d.sync += self.result.payload.eq(1)
                        m.next = "ANSWER"
            with m.State("ANSWER"):
                m.d.comb += self.result.valid.eq(1)
                with m.If(self.result.ready):
                    m.next = "IDLE"
        return m
