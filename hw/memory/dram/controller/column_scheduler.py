"""Picks the next read or write of a pseudo-channel."""

from amaranth.hdl import Cat, Elaboratable, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.memory.dram.commands import Command
from hw.memory.dram.controller.age_matrix import oldest
from hw.memory.dram.controller.config import ControllerConfig
from hw.memory.dram.controller.distances import Distances
from hw.memory.dram.controller.one_hot import encode, select
from hw.memory.dram.controller.payloads import column_layout
from hw.memory.dram.controller.transfer_limits import TransferLimits
from hw.memory.dram.port import COMMAND_BITS


class ColumnScheduler(wiring.Component):
    """One command a cycle, chosen from the banks' wishes of the same cycle.

    The oldest bank goes first among those that the rank allows. A bank group rests for tCCD_L after
    its turn while others need tCCD_S only, so the bank groups take turns. Reads and writes do not
    mix: the direction changes when no current job of the old direction is left.

    A standard with a data clock gets a CAS command in the cycle before a transfer when the clock is
    off; at gear 2 in the phase before.

    Parameters
    ----------
    config : ControllerConfig
    distances : Distances

    Members
    -------
    older : In
        The order of age, see `AgeMatrix`.
    wants_read, wants_write, auto_precharge, has_read, has_write : In(banks)
        See `BankMachine`.
    bursts : In(banks x column_layout)
        What each bank would transfer; ``bank`` and ``precharge`` are not looked at.
    command : Out(COMMAND_BITS)
        The command, `NOP` if there is none.
    announcement : Out(COMMAND_BITS)
        At gear 2, the CAS in the phase before the command, or `NOP`.
    burst : Out(column_layout)
        What the command is about.
    grant : In(1)
        The command (and the announcement) is issued in this cycle.
    transfer : Out(banks)
        The bank whose read or write is granted.
    writing : Out(1)
        The direction.
    """

    def __init__(self, config: ControllerConfig, distances: Distances) -> None:
        self._config = config
        self._distances = distances
        banks = config.standard.banks
        burst = column_layout(config)
        super().__init__(
            {
                "older": In(banks * banks),
                "wants_read": In(banks),
                "wants_write": In(banks),
                "auto_precharge": In(banks),
                "has_read": In(banks),
                "has_write": In(banks),
                "bursts": In(data.ArrayLayout(burst, banks)),
                "command": Out(COMMAND_BITS),
                "announcement": Out(COMMAND_BITS),
                "burst": Out(burst),
                "grant": In(1),
                "transfer": Out(banks),
                "writing": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        config, standard = self._config, self._config.standard
        banks, per_group = standard.banks, standard.banks_per_group
        m.submodules.limits = limits = TransferLimits(config, self._distances)

        with m.If(self.writing & ~self.has_write.any() & self.has_read.any()):
            m.d.sync += self.writing.eq(0)
        with m.If(~self.writing & ~self.has_read.any() & self.has_write.any()):
            m.d.sync += self.writing.eq(1)

        def per_bank(groups: Value) -> Value:
            return Cat(group.replicate(per_group) for group in groups)

        possible = Signal(banks)
        chosen = Signal(banks)
        code = Signal(COMMAND_BITS)
        transferring = Signal()
        precharge = Signal()
        groups = Signal(standard.bank_groups)
        m.d.comb += [
            possible.eq(
                Mux(
                    self.writing,
                    self.wants_write & per_bank(limits.may_write),
                    self.wants_read & per_bank(limits.may_read),
                )
            ),
            precharge.eq((chosen & self.auto_precharge).any()),
            code.eq(
                Mux(
                    self.writing,
                    Mux(precharge, Command.WRA, Command.WR),
                    Mux(precharge, Command.RDA, Command.RD),
                )
            ),
            self.burst.eq(select(chosen, [Value.cast(burst) for burst in self.bursts])),
            self.burst.bank.eq(encode(chosen)),
            self.burst.precharge.eq(precharge),
            self.transfer.eq(Mux(transferring, chosen, 0)),
            groups.eq(
                Cat(self.transfer[i : i + per_group].any() for i in range(0, banks, per_group))
            ),
            limits.reading.eq(Mux(self.writing, 0, groups)),
            limits.writing.eq(Mux(self.writing, groups, 0)),
        ]
        first = oldest(possible, self.older)
        announcement = Mux(self.writing, Command.CAS_WR, Command.CAS_RD)
        clock_off = Mux(self.writing, limits.write_clock_off, limits.read_clock_off)
        if standard.protocol.data_clock and config.gear == 1:
            # What is announced comes in the next cycle.
            announced = Signal(banks)
            announces = Signal()
            m.d.comb += [
                announces.eq(clock_off & ~announced.any()),
                limits.next_cycle.eq(announces),
                chosen.eq(Mux(announced.any(), announced, first)),
                self.command.eq(Mux(chosen.any(), Mux(announces, announcement, code), Command.NOP)),
                transferring.eq(self.grant & chosen.any() & ~announces),
            ]
            m.d.sync += announced.eq(Mux(self.grant & announces, chosen, 0))
            return m
        m.d.comb += [
            chosen.eq(first),
            self.command.eq(Mux(chosen.any(), code, Command.NOP)),
            transferring.eq(self.grant & chosen.any()),
        ]
        if standard.protocol.data_clock:
            m.d.comb += self.announcement.eq(
                Mux(chosen.any() & clock_off, announcement, Command.NOP)
            )
        return m
