"""What the rank allows in the way of reads and writes."""

from amaranth.hdl import Cat, Elaboratable, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.memory.dram.controller.config import ControllerConfig
from hw.memory.dram.controller.distances import Distances
from hw.memory.dram.controller.timer import Timer


class TransferLimits(wiring.Component):
    """The timers of tCCD, of the turns from read to write and back, and of the data clock.

    Parameters
    ----------
    config : ControllerConfig
    distances : Distances

    Members
    -------
    reading, writing : In(bank groups)
        A read, a write of the group is issued in this cycle.
    next_cycle : In(1)
        What is asked is what the next cycle allows.
    may_read, may_write : Out(bank groups)
    read_clock_off, write_clock_off : Out(1)
        A read, a write in this cycle would find the data clock stopped.
    """

    def __init__(self, config: ControllerConfig, distances: Distances) -> None:
        self._config = config
        self._distances = distances
        groups = config.standard.bank_groups
        super().__init__(
            {
                "reading": In(groups),
                "writing": In(groups),
                "next_cycle": In(1),
                "may_read": Out(groups),
                "may_write": Out(groups),
                "read_clock_off": Out(1),
                "write_clock_off": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        distances = self._distances
        reads, writes = self.reading.any(), self.writing.any()
        turn = self._passed(m, "write_to_read", writes, distances.write_to_read("tWTR_S"))
        near = [
            self._passed(m, f"write_to_read_{i}", busy, distances.write_to_read("tWTR_L"))
            for i, busy in enumerate(self.writing)
        ]
        spaced = self._spaced(m, "read", self.reading)
        m.d.comb += self.may_read.eq(Cat(near) & spaced & turn.replicate(len(near)))
        turn = self._passed(m, "read_to_write", reads, distances.column("tRTW"))
        spaced = self._spaced(m, "write", self.writing)
        m.d.comb += self.may_write.eq(spaced & turn.replicate(len(near)))

        if self._config.standard.protocol.data_clock:
            for name, latency, start, stopped in (
                ("read", "tCL", reads, self.read_clock_off),
                ("write", "tCWL", writes, self.write_clock_off),
            ):
                # It stops after the last of these clocks.
                timer = Timer(stopped=distances.data_clock(latency) + 1)
                m.submodules[f"{name}_clock"] = timer
                m.d.comb += [timer.start.eq(start), stopped.eq(timer["stopped"])]
        return m

    def _passed(self, m: Module, name: str, start: Value, distance: int) -> Value:
        """Return whether a distance from an event is kept, in this cycle or the next."""
        m.submodules[name] = timer = Timer(now=distance, next=distance - 1)
        m.d.comb += timer.start.eq(start)
        return Mux(self.next_cycle, timer["next"], timer["now"])

    def _spaced(self, m: Module, kind: str, groups: Signal) -> Value:
        """Return per bank group whether transfers of one kind are far enough apart."""
        standard, distances = self._config.standard, self._distances
        size = standard.groups_per_stack
        spaced = []
        for stack in range(standard.stacks):
            own = groups[stack * size : (stack + 1) * size]
            in_stack = Signal(name=f"{kind}_in_stack_{stack}")
            elsewhere = Signal(name=f"{kind}_not_in_stack_{stack}")
            m.d.comb += [in_stack.eq(own.any()), elsewhere.eq(groups.any() & ~in_stack)]
            allowed = self._passed(
                m, f"{kind}_stack_{stack}", in_stack, distances.column("tCCD_S")
            ) & self._passed(m, f"{kind}_not_stack_{stack}", elsewhere, distances.column("tCCD_R"))
            spaced += [
                allowed
                & self._passed(m, f"{kind}_group_{stack}_{i}", busy, distances.column("tCCD_L"))
                for i, busy in enumerate(own)
            ]
        return Cat(spaced)
