"""Unit-test harness: `simulate` a component; `build` and `run` for a bench with its own top."""

from tb.harness.builder import Build, BuildError, build
from tb.harness.driver import DRIVERS, Driver, DriverError, Speed
from tb.harness.elaborate import PortError, elaborate
from tb.harness.errors import HarnessError
from tb.harness.execution import SimulationError, run, run_native
from tb.harness.payload import pack, payload_widths, unpack
from tb.harness.request import Stall
from tb.harness.simulate import Run, simulate
from tb.harness.toolchain import ToolchainError
from tb.harness.verdict import ExtraItems, Hang, StreamRuleBroken

__all__ = [
    "DRIVERS",
    "Build",
    "BuildError",
    "Driver",
    "DriverError",
    "ExtraItems",
    "Hang",
    "HarnessError",
    "PortError",
    "Run",
    "SimulationError",
    "Speed",
    "Stall",
    "StreamRuleBroken",
    "ToolchainError",
    "build",
    "elaborate",
    "pack",
    "payload_widths",
    "run",
    "run_native",
    "simulate",
    "unpack",
]
