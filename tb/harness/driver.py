"""Who toggles the clock of a simulation: cocotb, or a small C++ program.

Stimulus, recording and checks lie in the SystemVerilog around the design, so the choice changes
neither; it changes how long a run takes to start and what each of its cycles costs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from tb.harness.errors import HarnessError

Driver: TypeAlias = Literal["cocotb", "native"]
"""``cocotb`` has waves and Python in the simulation; ``native`` is for long runs."""

DRIVERS: tuple[Driver, ...] = get_args(Driver)
"""Every driver; ``make sim`` takes the first unless another is asked for."""


class DriverError(HarnessError):
    """A driver that does not exist, or one that cannot do what is asked for."""


@dataclass(frozen=True)
class Speed:
    """How fast a simulation ran, start and end of the simulator left out.

    Parameters
    ----------
    cycles
        All cycles simulated, with resets and drain.
    seconds
        Wall-clock time that they took.
    cpu_seconds
        Processor time that they took, less dependent on what else the machine does.
    """

    cycles: int
    seconds: float
    cpu_seconds: float

    @property
    def cycles_per_second(self) -> float:
        """Cycles per second of wall-clock time."""
        return self.cycles / max(self.seconds, 1e-9)

    @property
    def cycles_per_cpu_second(self) -> float:
        """Cycles per second of processor time."""
        return self.cycles / max(self.cpu_seconds, 1e-9)


def check_driver(driver: str, *, waves: bool) -> None:
    """Refuse a driver that does not exist or that cannot record waves.

    Raises
    ------
    DriverError
        The message says what there is.
    """
    if driver not in DRIVERS:
        raise DriverError(f"no driver {driver!r}; there are: {', '.join(DRIVERS)}")
    if waves and driver == "native":
        raise DriverError("the driver 'native' records no waves: take 'cocotb'")
