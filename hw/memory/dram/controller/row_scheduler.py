"""Picks the next row command of a pseudo-channel."""

from amaranth.hdl import Cat, Elaboratable, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.memory.dram.commands import Command
from hw.memory.dram.controller.activation_limits import ActivationLimits
from hw.memory.dram.controller.age_matrix import oldest
from hw.memory.dram.controller.config import ControllerConfig
from hw.memory.dram.controller.distances import Distances
from hw.memory.dram.controller.one_hot import encode, select
from hw.memory.dram.controller.timer import Timer
from hw.memory.dram.port import COMMAND_BITS, field_bits


def row_command_layout(config: ControllerConfig) -> data.StructLayout:
    """A command of the row bus: code, bank, row."""
    return data.StructLayout(
        {
            "command": COMMAND_BITS,
            "bank": field_bits(config.standard.banks),
            "row": field_bits(config.standard.rows),
        }
    )


class RowScheduler(wiring.Component):
    """One command a cycle, chosen from the banks' wishes of the same cycle.

    The second half of an activation goes first, then a refresh, then the oldest activation that the
    rank allows, then the oldest precharge.

    Parameters
    ----------
    config : ControllerConfig
    distances : Distances

    Members
    -------
    older : In
        The order of age, see `AgeMatrix`.
    wants_activate, wants_precharge : In(banks)
    rows : In(banks x row)
        Row of the bank's job.
    refresh : In(1), target : In
        A refresh of set ``target`` is wanted and its banks are ready.
    command : Out(row_command_layout)
        The command, `NOP` if there is none.
    grant : In(1)
        The command is issued in this cycle.
    activate, activated, precharge, refreshing : Out(banks)
        What the grant means for the banks.
    """

    def __init__(self, config: ControllerConfig, distances: Distances) -> None:
        self._config = config
        self._distances = distances
        banks = config.standard.banks
        super().__init__(
            {
                "older": In(banks * banks),
                "wants_activate": In(banks),
                "wants_precharge": In(banks),
                "rows": In(data.ArrayLayout(field_bits(config.standard.rows), banks)),
                "refresh": In(1),
                "target": In(range(max(2, len(config.bank_sets)))),
                "command": Out(row_command_layout(config)),
                "grant": In(1),
                "activate": Out(banks),
                "activated": Out(banks),
                "precharge": Out(banks),
                "refreshing": Out(banks),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        config, distances, standard = self._config, self._distances, self._config.standard
        banks = standard.banks
        split = standard.protocol.split_activate
        m.submodules.limits = limits = ActivationLimits(config, distances)
        m.submodules.since_precharge = since_precharge = Timer(tPPD=distances.row("tPPD"))

        # Banks that a refresh would refresh, and their groups.
        targets = Signal(banks)
        for i, members in enumerate(config.bank_sets):
            with m.If(self.target == i):
                m.d.comb += targets.eq(sum(1 << bank for bank in members))

        def by_group(mask: Signal) -> list[Signal]:
            per_group = standard.banks_per_group
            return [mask[i : i + per_group] for i in range(0, banks, per_group)]

        allowed = Cat(
            limits.may_activate[bank // standard.banks_per_group] for bank in range(banks)
        )
        to_activate, activate = Signal(banks), Signal(banks)
        to_precharge, precharge = Signal(banks), Signal(banks)
        m.d.comb += [
            to_activate.eq(self.wants_activate & allowed),
            activate.eq(oldest(to_activate, self.older)),
            to_precharge.eq(Mux(since_precharge["tPPD"], self.wants_precharge, 0)),
            precharge.eq(oldest(to_precharge, self.older)),
            limits.target_groups.eq(Cat(group.any() for group in by_group(targets))),
            limits.activated.eq(Cat(group.any() for group in by_group(self.activated))),
            limits.refreshing.eq(self.refreshing.any()),
            since_precharge.start.eq(self.precharge.any()),
        ]

        # The bank whose activation has begun and not ended.
        half = Signal(banks)
        kinds = (
            (Command.ACT2, half, half.any()),
            (
                Command.REFPB if config.per_bank_refresh else Command.REFAB,
                targets & -targets,
                self.refresh & limits.may_refresh,
            ),
            (Command.ACT1 if split else Command.ACT, activate, activate.any()),
            (Command.PRE, precharge, precharge.any()),
        )
        kind = Signal(len(kinds))
        possible = Cat(condition for _, _, condition in kinds)
        bank = Signal(banks)
        m.d.comb += [
            kind.eq(possible & -possible),
            bank.eq(select(kind, [place for _, place, _ in kinds])),
            self.command.command.eq(select(kind, [code for code, _, _ in kinds])),
            self.command.bank.eq(encode(bank)),
            self.command.row.eq(select(bank, self.rows)),
        ]
        granted = [Mux(self.grant & kind[i], place, 0) for i, (_, place, _) in enumerate(kinds)]
        m.d.comb += [
            self.refreshing.eq(Mux(self.grant & kind[1], targets, 0)),
            self.activate.eq(granted[2]),
            self.activated.eq(granted[0] if split else granted[2]),
            self.precharge.eq(granted[3]),
        ]
        if split:
            with m.If(self.grant):
                m.d.sync += half.eq(self.activate)
        return m
