"""The host and the grower of caches share the command unit."""

from amaranth.hdl import Elaboratable, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.memory.kv_mmu.ports import COMMAND, REPLY


class CommandShare(wiring.Component):
    """No latency; one command at a time. If both wait, the one whose turn was not the last.

    Members
    -------
    host, grower : In(stream of COMMAND)
    host_reply, grower_reply : Out(stream of REPLY)
        In the order of each one's commands.
    command : Out(stream of COMMAND), reply : In(stream of REPLY)
        Of the command unit.
    """

    def __init__(self) -> None:
        command, reply = stream.Signature(COMMAND), stream.Signature(REPLY)
        super().__init__(
            {
                "host": In(command),
                "grower": In(command),
                "host_reply": Out(reply),
                "grower_reply": Out(reply),
                "command": Out(command),
                "reply": In(reply),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        #: Whose command is under way or waits, and whose was the last one.
        busy, fixed, turn, owner = Signal(), Signal(), Signal(), Signal()
        m.d.comb += turn.eq(
            Mux(fixed, owner, self.grower.valid & ~(self.host.valid & owner)),
        )
        moved = self.command.valid & self.command.ready
        m.d.comb += [
            self.command.valid.eq(~busy & Mux(turn, self.grower.valid, self.host.valid)),
            self.command.payload.eq(Mux(turn, self.grower.payload, self.host.payload)),
            self.host.ready.eq(self.command.ready & ~busy & ~turn),
            self.grower.ready.eq(self.command.ready & ~busy & turn),
            self.host_reply.payload.eq(self.reply.payload),
            self.grower_reply.payload.eq(self.reply.payload),
            self.host_reply.valid.eq(self.reply.valid & ~owner),
            self.grower_reply.valid.eq(self.reply.valid & owner),
            self.reply.ready.eq(Mux(owner, self.grower_reply.ready, self.host_reply.ready)),
        ]
        with m.If(self.command.valid):
            m.d.sync += [owner.eq(turn), fixed.eq(~self.command.ready)]
        with m.If(moved):
            m.d.sync += busy.eq(1)
        with m.If(self.reply.valid & self.reply.ready):
            m.d.sync += busy.eq(0)
        return m
