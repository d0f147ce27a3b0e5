"""Serves the commands of the host: sequences, pages, the layer map."""

from amaranth.hdl import Elaboratable, Module, Signal, Value, ValueLike
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.memory.kv_mmu.config import MmuConfig
from hw.memory.kv_mmu.formats import CommandStatus, Opcode, Region
from hw.memory.kv_mmu.page_pool import PoolOperation, pool_request, pool_result
from hw.memory.kv_mmu.ports import COMMAND, REPLY, layer_change, place_layout
from hw.memory.kv_mmu.table import entry_address, region_constant
from hw.memory.kv_mmu.table_entry import entry_request, entry_result


class CommandUnit(wiring.Component):
    """One command at a time: 3 cycles, and what the table and the pages take.

    ALLOCATE reads the entry, takes a page, and writes the entry; FREE takes a cycle per page of the
    channel. Every command is answered, in order; all but those answered OK have changed nothing.
    The reply to ALLOCATE comes after the entry is written: a job that is sent then finds the page.

    Parameters
    ----------
    config

    Members
    -------
    command : In(stream of COMMAND)
    reply : Out(stream of REPLY)
    pool, pooled
        The page pool's request and result.
    check : Out(stream)
        ``page`` and ``place`` for the pool's check port; taken in a cycle in which it is free.
    match : In(1)
        The pool's answer, in the cycle after.
    entry, entry_read
        Request and result of the table entries.
    in_flight : In
        Per sequence, whether a job of it has been taken and not completed.
    live : Out
        Per sequence, whether it lives; from the cycle on after a FREE was found legal it does not.
    layer_change : Out
        A change of the layer map, for one cycle.
    """

    def __init__(self, config: MmuConfig) -> None:
        self._config = config
        check = data.StructLayout({"page": config.page_bits, "place": place_layout(config)})
        super().__init__(
            {
                "command": In(stream.Signature(COMMAND)),
                "reply": Out(stream.Signature(REPLY)),
                "pool": Out(stream.Signature(pool_request(config))),
                "pooled": In(stream.Signature(pool_result(config))),
                "check": Out(stream.Signature(check)),
                "match": In(1),
                "entry": Out(stream.Signature(entry_request(config))),
                "entry_read": In(stream.Signature(entry_result(config))),
                "in_flight": In(config.sequences),
                "live": Out(config.sequences),
                "layer_change": Out(layer_change(config)),
            }
        )

    def _in_range(self, command: data.View) -> Value:
        """Return whether every number that the opcode looks at is legal."""
        config, attention = self._config, self._config.attention
        entries = {region: config.region_entries(region) for region in Region}
        maps = (command.opcode == Opcode.ALLOCATE) | (command.opcode == Opcode.LOOKUP)
        sets = command.opcode == Opcode.SET_LAYER
        # A region of no name has no entries.
        in_region = command.index < region_constant(command.region, entries)
        return (
            (sets | (command.sequence < config.sequences))
            & (~(maps | sets) | (command.layer < attention.layers))
            & (~maps | ((command.kv_head < attention.kv_heads) & in_region))
            & (~sets | (command.index < attention.layers))
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        config = self._config
        command = Signal(COMMAND)
        reply = self.reply.payload
        place = Signal(place_layout(config))
        page = Signal(config.page_bits)
        allocates = command.opcode == Opcode.ALLOCATE
        alive = self.live.bit_select(place.sequence, 1)
        m.d.comb += [
            place.sequence.eq(command.sequence),
            place.layer.eq(command.layer),
            place.kv_head.eq(command.kv_head),
            Value.cast(place.region).eq(command.region),
            place.index.eq(command.index),
            self.layer_change.layer.eq(command.layer),
            self.layer_change.kv_layer.eq(command.index),
            self.pool.payload.place.eq(place),
            self.check.payload.place.eq(place),
            self.check.payload.page.eq(page),
            self.entry.payload.page.eq(page),
        ]
        m.d.sync += self.entry.payload.address.eq(entry_address(config, place))

        def answer(status: ValueLike, value: ValueLike = 0) -> None:
            m.d.sync += [reply.status.eq(status), reply.value.eq(value)]
            m.next = "REPLY"

        def ask_pool(operation: PoolOperation, following: str) -> None:
            m.d.comb += [self.pool.valid.eq(1), self.pool.payload.operation.eq(operation)]
            with m.If(self.pool.ready):
                m.next = following

        def not_mapped() -> None:
            with m.If(allocates):
                m.next = "TAKE"
            with m.Else():
                answer(CommandStatus.NOT_MAPPED)

        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.command.ready.eq(1)
                with m.If(self.command.valid):
                    m.d.sync += command.eq(self.command.payload)
                    m.next = "DECODE"
            with m.State("DECODE"):
                with m.If(command.opcode > max(Opcode)):
                    answer(CommandStatus.OPCODE)
                with m.Elif(~self._in_range(command)):
                    answer(CommandStatus.RANGE)
                with m.Elif(command.opcode == Opcode.SET_LAYER):
                    m.d.comb += self.layer_change.enable.eq(1)
                    answer(CommandStatus.OK)
                with m.Elif(command.opcode == Opcode.CREATE):
                    with m.If(alive):
                        answer(CommandStatus.SEQUENCE_EXISTS)
                    with m.Else():
                        m.d.sync += alive.eq(1)
                        answer(CommandStatus.OK)
                with m.Elif(~alive):
                    answer(CommandStatus.NO_SEQUENCE)
                with m.Elif(command.opcode == Opcode.FREE):
                    with m.If(self.in_flight.bit_select(place.sequence, 1)):
                        answer(CommandStatus.BUSY)
                    with m.Else():
                        m.d.sync += alive.eq(0)
                        m.next = "RELEASE"
                with m.Else():
                    m.next = "READ"
            with m.State("READ"):
                m.d.comb += self.entry.valid.eq(1)
                with m.If(self.entry.ready):
                    m.next = "LOOK"
            with m.State("LOOK"):
                m.d.comb += self.entry_read.ready.eq(1)
                m.d.sync += page.eq(self.entry_read.payload.page)
                with m.If(self.entry_read.valid):
                    with m.If(self.entry_read.payload.error):
                        answer(CommandStatus.TABLE_ERROR)
                    with m.Elif(self.entry_read.payload.valid):
                        m.next = "CHECK"
                    with m.Else():
                        not_mapped()
            with m.State("CHECK"):
                m.d.comb += self.check.valid.eq(1)
                with m.If(self.check.ready):
                    m.next = "MATCH"
            with m.State("MATCH"):
                with m.If(self.match):
                    with m.If(allocates):
                        answer(CommandStatus.ALREADY_MAPPED, page)
                    with m.Else():
                        answer(CommandStatus.OK, page)
                with m.Else():
                    not_mapped()
            with m.State("TAKE"):
                ask_pool(PoolOperation.TAKE, "TAKEN")
            with m.State("TAKEN"):
                m.d.comb += self.pooled.ready.eq(1)
                m.d.sync += page.eq(self.pooled.payload.value)
                with m.If(self.pooled.valid):
                    with m.If(self.pooled.payload.done):
                        m.next = "WRITE"
                    with m.Else():
                        answer(CommandStatus.OUT_OF_PAGES)
            with m.State("WRITE"):
                m.d.comb += [self.entry.valid.eq(1), self.entry.payload.write.eq(1)]
                with m.If(self.entry.ready):
                    m.next = "WRITTEN"
            with m.State("WRITTEN"):
                m.d.comb += self.entry_read.ready.eq(1)
                with m.If(self.entry_read.valid):
                    with m.If(self.entry_read.payload.error):
                        m.next = "UNDO"
                    with m.Else():
                        answer(CommandStatus.OK, page)
            with m.State("UNDO"):
                ask_pool(PoolOperation.UNDO, "UNDONE")
            with m.State("UNDONE"):
                m.d.comb += self.pooled.ready.eq(1)
                with m.If(self.pooled.valid):
                    answer(CommandStatus.TABLE_ERROR)
            with m.State("RELEASE"):
                ask_pool(PoolOperation.RELEASE, "RELEASED")
            with m.State("RELEASED"):
                m.d.comb += self.pooled.ready.eq(1)
                with m.If(self.pooled.valid):
                    answer(CommandStatus.OK, self.pooled.payload.value)
            with m.State("REPLY"):
                m.d.comb += self.reply.valid.eq(1)
                with m.If(self.reply.ready):
                    m.next = "IDLE"
        return m
