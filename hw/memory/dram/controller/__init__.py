"""The DRAM controller (docs/memory.md): requests of a channel in, commands and data out."""

from hw.memory.dram.controller.config import ControllerConfig
from hw.memory.dram.controller.controller import DramController

__all__ = ["ControllerConfig", "DramController"]
