"""Puts the commands of the pseudo-channels into the slots of the DRAM port."""

from amaranth.hdl import Elaboratable, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.memory.dram.commands import Command
from hw.memory.dram.controller.config import ControllerConfig
from hw.memory.dram.controller.distances import Distances
from hw.memory.dram.controller.one_hot import encode, select
from hw.memory.dram.controller.payloads import column_layout
from hw.memory.dram.controller.row_scheduler import row_command_layout
from hw.memory.dram.port import COMMAND_BITS, slot_layout


class CommandBus(wiring.Component):
    """Latency 1 cycle; a row command and a column command per cycle, as far as there are slots.

    Row commands go into phase 0, column commands into the phase of their pseudo-channel
    (`Distances`). Where they meet in a slot, the column command goes first. Pseudo-channels that
    want the same slot take turns.

    Parameters
    ----------
    config : ControllerConfig

    Members
    -------
    rows : In(pseudo-channels x row_command_layout), row_grants : Out(pseudo-channels)
    columns, announcements : In(pseudo-channels x COMMAND_BITS)
    bursts : In(pseudo-channels x column_layout), column_grants : Out(pseudo-channels)
    command : Out
        The slots of the DRAM port.
    """

    def __init__(self, config: ControllerConfig) -> None:
        self._config = config
        channels = config.standard.pseudo_channels
        slots = config.gear * config.standard.protocol.buses
        codes = data.ArrayLayout(COMMAND_BITS, channels)
        super().__init__(
            {
                "rows": In(data.ArrayLayout(row_command_layout(config), channels)),
                "row_grants": Out(channels),
                "columns": In(codes),
                "announcements": In(codes),
                "bursts": In(data.ArrayLayout(column_layout(config), channels)),
                "column_grants": Out(channels),
                "command": Out(data.ArrayLayout(slot_layout(config.standard), slots)),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        config, standard, gear = self._config, self._config.standard, self._config.gear
        protocol = standard.protocol
        channels = range(standard.pseudo_channels)
        row_valid, column_valid = Signal(len(channels)), Signal(len(channels))
        for i in channels:
            m.d.comb += [
                row_valid[i].eq(self.rows[i].command != Command.NOP),
                column_valid[i].eq(self.columns[i] != Command.NOP),
            ]

        column_shared = gear == 1
        m.d.comb += self.column_grants.eq(
            self._turn(m, "column", column_valid) if column_shared else column_valid
        )
        # What keeps row commands from their slot: the second cycle of an activation, or columns.
        blocked = Signal()
        if protocol.column_bus:
            if gear < standard.activate_cycles:
                m.d.sync += blocked.eq(
                    select(
                        self.row_grants,
                        [self.rows[i].command == Command.ACT for i in channels],
                    )
                )
        elif gear == 1:
            m.d.comb += blocked.eq(column_valid.any())
        else:
            m.d.comb += blocked.eq(self.announcements[0] != Command.NOP)
        m.d.comb += self.row_grants.eq(Mux(blocked, 0, self._turn(m, "row", row_valid)))

        slots = [Signal(slot_layout(standard), name=f"slot_{i}") for i in range(len(self.command))]
        row_channel = encode(self.row_grants)
        row = Signal(row_command_layout(config))
        m.d.comb += row.eq(select(self.row_grants, [Value.cast(self.rows[i]) for i in channels]))
        self._fill(m, slots[0], row.command, row_channel, row.bank, row=row.row)
        for phase in range(gear):
            granted = [
                self.column_grants[i] & (Distances(standard, gear, i).column_phase == phase)
                for i in channels
            ]
            if not protocol.column_bus and gear == 2 and phase == 0:
                # A CAS keeps the row command out of its slot.
                bank = self.bursts[0].bank
                with m.If(blocked):
                    self._fill(m, slots[0], self.announcements[0], Value.cast(0), bank)
                continue
            slot = slots[phase * protocol.buses + protocol.buses - 1]
            here = Signal(len(channels), name=f"columns_{phase}")
            burst = Signal(column_layout(config), name=f"burst_{phase}")
            m.d.comb += [
                *(here[i].eq(grant) for i, grant in enumerate(granted)),
                burst.eq(select(here, [Value.cast(self.bursts[i]) for i in channels])),
            ]
            code = select(here, [self.columns[i] for i in channels])
            with m.If(here.any()):
                self._fill(m, slot, code, encode(here), burst.bank, column=burst.column)
        m.d.sync += [taken.eq(slot) for taken, slot in zip(self.command, slots, strict=True)]
        return m

    def _fill(
        self,
        m: Module,
        slot: data.View,
        code: Value,
        channel: Value,
        bank: Value,
        row: Value | int = 0,
        column: Value | int = 0,
    ) -> None:
        per_group = self._config.standard.banks_per_group
        m.d.comb += [
            slot.command.eq(code),
            slot.pseudo_channel.eq(channel),
            slot.bank_group.eq(bank // per_group),
            slot.bank.eq(bank % per_group),
            slot.row.eq(row),
            slot.column.eq(column),
        ]

    def _turn(self, m: Module, name: str, valid: Value) -> Value:
        """Return which pseudo-channel may issue; the one that did last goes behind."""
        if len(valid) == 1:
            return valid
        last = Signal(name=f"last_{name}")
        granted = self.row_grants if name == "row" else self.column_grants
        with m.If(granted.any()):
            m.d.sync += last.eq(granted[1])
        first, second = valid
        turn = Mux(first & second, Mux(last, 0b01, 0b10), valid)
        return turn[: len(valid)]
