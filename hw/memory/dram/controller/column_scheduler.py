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
from hw.memory.dram.controller.timer import Timer
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
        banks = standard.banks

        with m.If(self.writing & ~self.has_write.any() & self.has_read.any()):
            m.d.sync += self.writing.eq(0)
        with m.If(~self.writing & ~self.has_read.any() & self.has_write.any()):
            m.d.sync += self.writing.eq(1)

        transferring = Signal()
        read_allowed, write_allowed = Signal(banks), Signal(banks)
        possible = Signal(banks)
        m.d.comb += [
            read_allowed.eq(self._allowed(m, transferring, to_write=False)),
            write_allowed.eq(self._allowed(m, transferring, to_write=True)),
            possible.eq(
                Mux(
                    self.writing,
                    self.wants_write & write_allowed,
                    self.wants_read & read_allowed,
                )
            ),
        ]
        chosen = Signal(banks)
        code = Signal(COMMAND_BITS)
        precharge = (chosen & self.auto_precharge).any()
        m.d.comb += [
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
        ]
        first = oldest(possible, self.older)
        if not standard.protocol.data_clock:
            m.d.comb += [
                chosen.eq(first),
                self.command.eq(Mux(chosen.any(), code, Command.NOP)),
                transferring.eq(self.grant & chosen.any()),
            ]
            return m

        announcement = Mux(self.writing, Command.CAS_WR, Command.CAS_RD)
        clock_off = self._clock_off(m, transferring)
        if config.gear == 2:
            m.d.comb += [
                chosen.eq(first),
                self.command.eq(Mux(chosen.any(), code, Command.NOP)),
                self.announcement.eq(Mux(chosen.any() & clock_off, announcement, Command.NOP)),
                transferring.eq(self.grant & chosen.any()),
            ]
            return m
        # What has been announced comes in the next cycle.
        announced = Signal(banks)
        announces = Signal()
        m.d.comb += [
            announces.eq(clock_off & ~announced.any()),
            chosen.eq(Mux(announced.any(), announced, first)),
            self.command.eq(Mux(chosen.any(), Mux(announces, announcement, code), Command.NOP)),
            transferring.eq(self.grant & chosen.any() & ~announces),
        ]
        m.d.sync += announced.eq(Mux(self.grant & announces, chosen, 0))
        return m

    def _allowed(self, m: Module, transferring: Value, *, to_write: bool) -> Value:
        """Return per bank whether the rank allows it a transfer of this direction."""
        standard, distances = self._config.standard, self._distances
        same, other = ("write", "read") if to_write else ("read", "write")
        same_now = transferring & (self.writing if to_write else ~self.writing)
        other_now = transferring & (~self.writing if to_write else self.writing)

        def busy(group: int) -> Value:
            first = group * standard.banks_per_group
            return self.transfer[first : first + standard.banks_per_group].any()

        def since(name: str, start: Value, **cycles: int) -> Timer:
            m.submodules[name] = timer = Timer(**cycles)
            m.d.comb += timer.start.eq(start)
            return timer

        turn = distances.column("tRTW") if to_write else distances.write_to_read("tWTR_S")
        passed = since(f"{other}_to_{same}", other_now, turn=turn).passed.all()
        allowed = []
        for stack in range(standard.stacks):
            own = range(stack * standard.groups_per_stack, (stack + 1) * standard.groups_per_stack)
            in_stack = Cat(busy(group) for group in own).any()
            near = since(
                f"{same}_stack_{stack}", same_now & in_stack, tCCD_S=distances.column("tCCD_S")
            )
            far = since(
                f"{same}_not_stack_{stack}", same_now & ~in_stack, tCCD_R=distances.column("tCCD_R")
            )
            of_stack = Signal(name=f"{same}_allowed_{stack}")
            m.d.comb += of_stack.eq(passed & near.passed.all() & far.passed.all())
            for group in own:
                of_group = since(
                    f"{same}_group_{group}",
                    same_now & busy(group),
                    tCCD_L=distances.column("tCCD_L"),
                ).passed.all()
                if not to_write:
                    of_group = (
                        of_group
                        & since(
                            f"write_to_read_group_{group}",
                            other_now & busy(group),
                            tWTR_L=distances.write_to_read("tWTR_L"),
                        ).passed.all()
                    )
                allowed.append((of_stack & of_group).replicate(standard.banks_per_group))
        return Cat(allowed)

    def _clock_off(self, m: Module, transferring: Value) -> Value:
        """Return whether a transfer of the present direction needs the data clock started."""
        expired = []
        for name, latency, now in (
            ("read", "tCL", transferring & ~self.writing),
            ("write", "tCWL", transferring & self.writing),
        ):
            # Off again after the last of these clocks.
            timer = Timer(off=self._distances.data_clock(latency) + 1)
            m.submodules[f"data_clock_{name}"] = timer
            m.d.comb += timer.start.eq(now)
            expired.append(timer["off"])
        return Mux(self.writing, expired[1], expired[0])
