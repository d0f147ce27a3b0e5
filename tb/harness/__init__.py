"""Unit-test harness: `simulate` a component; `build` and `run` for a bench with its own top."""

from tb.harness.builder import Build, BuildError, SimulationError, build, run
from tb.harness.elaborate import PortError, elaborate
from tb.harness.payload import pack, unpack
from tb.harness.simulate import ExtraItems, Hang, Run, Stall, StreamRuleBroken, simulate

__all__ = [
    "Build",
    "BuildError",
    "ExtraItems",
    "Hang",
    "PortError",
    "Run",
    "SimulationError",
    "Stall",
    "StreamRuleBroken",
    "build",
    "elaborate",
    "pack",
    "run",
    "simulate",
    "unpack",
]
