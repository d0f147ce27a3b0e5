"""Unit-test harness: `simulate` a component; `build` and `run` for a bench with its own top."""

from tb.harness.builder import Build, BuildError, SimulationError, build, run
from tb.harness.elaborate import PortError, elaborate
from tb.harness.errors import HarnessError
from tb.harness.payload import pack, unpack
from tb.harness.request import Stall
from tb.harness.simulate import Run, simulate
from tb.harness.toolchain import ToolchainError
from tb.harness.verdict import ExtraItems, Hang, StreamRuleBroken

__all__ = [
    "Build",
    "BuildError",
    "ExtraItems",
    "Hang",
    "HarnessError",
    "PortError",
    "Run",
    "SimulationError",
    "Stall",
    "StreamRuleBroken",
    "ToolchainError",
    "build",
    "elaborate",
    "pack",
    "run",
    "simulate",
    "unpack",
]
