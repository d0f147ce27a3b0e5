"""A memory channel behind AXI4 (docs/memory.md, section 3)."""

from hw.memory.axi.master import AxiMaster

__all__ = ["AxiMaster"]
