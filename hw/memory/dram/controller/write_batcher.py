"""When writes interrupt reads."""

from amaranth.hdl import Elaboratable, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.memory.dram.controller.config import ControllerConfig

#: Clocks without a read after which waiting writes use the time.
IDLE_CLOCKS = 16


class WriteBatcher(wiring.Component):
    """Decides, from one cycle to the next, whether banks take writes or reads.

    Writes are taken when ``write_batch`` bursts are pending, when some have waited for
    ``write_age`` clocks, or when there was nothing to read for a while; and until none is pending,
    or as many as the write buffer holds have been written while reads wait.

    Parameters
    ----------
    config : ControllerConfig

    Members
    -------
    pending : In
        Bursts that could be written.
    launch : In(1)
        One of them is.
    reads_wait : In(1)
        Some read has not been issued.
    take_writes : Out(1)
    """

    def __init__(self, config: ControllerConfig) -> None:
        self._config = config
        super().__init__(
            {
                "pending": In(range(config.write_buffer + 1)),
                "launch": In(1),
                "reads_wait": In(1),
                "take_writes": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        config = self._config
        age = Signal(range(config.write_age + 1))
        quiet = Signal(range(IDLE_CLOCKS + 1))
        left = Signal(range(config.write_buffer + 1))
        some = self.pending != 0
        enough = self.pending >= config.write_batch
        old = age == config.write_age
        m.d.sync += quiet.eq(Mux(self.reads_wait, 0, Mux(quiet == IDLE_CLOCKS, quiet, quiet + 1)))
        with m.If(self.take_writes):
            m.d.sync += [
                age.eq(0),
                left.eq(left - (self.launch & (left != 0))),
                self.take_writes.eq(some & ((left != 0) | ~self.reads_wait)),
            ]
        with m.Else():
            m.d.sync += [
                age.eq(Mux(some, Mux(old, age, age + 1), 0)),
                left.eq(config.write_buffer),
                self.take_writes.eq(enough | (some & (old | (quiet == IDLE_CLOCKS)))),
            ]
        return m
