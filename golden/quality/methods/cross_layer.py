"""Cross-layer attention: neighbouring layers share keys and values."""

from dataclasses import dataclass
from typing import ClassVar

from golden.quality.interface import CacheMethod, CacheState, Prefill
from golden.quality.methods.fp16 import FP16

__all__ = ["CrossLayer"]


@dataclass(frozen=True, kw_only=True)
class CrossLayer(CacheMethod):
    """Layer l attends to the keys and values of layer ``share * floor(l / share)``, in FP16.

    Figure 2 of the paper ("CLA2" is ``share`` 2). Only producers write; every layer still reads, so
    what shrinks is the size of the cache, not the traffic of reads. The paper trains models with
    it: in a model that was not, this is what sharing without training costs. The prompt is attended
    to with each layer's own keys and values.

    Parameters
    ----------
    share
        Layers that share a cache, from 1 (none shared).
    """

    name: ClassVar[str] = "cross-layer"
    paper: ClassVar[str] = "Brandon et al., NeurIPS 2024, arXiv 2405.12981"

    share: int = 2

    def __post_init__(self) -> None:
        self._at_least(1, "share")

    def producer(self, layer: int) -> int:
        """First layer of the group."""
        return layer // self.share * self.share

    def start(self, prefill: Prefill) -> CacheState:
        """Keep everything."""
        return FP16().start(prefill)
