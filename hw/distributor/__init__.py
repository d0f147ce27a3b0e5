"""Jobs to slices, and results back in order (docs/memory.md, section 4)."""

from hw.distributor.distributor import JobDistributor

__all__ = ["JobDistributor"]
