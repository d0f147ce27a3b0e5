"""All rows have the same weight."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, log2
from typing import TYPE_CHECKING

from hw.selection.policy import SelectionPolicy
from hw.selection.registry import register

if TYPE_CHECKING:
    from amaranth.hdl import Value
    from torch import Tensor


@register
class Mean(SelectionPolicy):
    """The sum of the rows in hardware: it orders the chunks as their mean does."""

    name = "mean"

    def bits(self, score_bits: int, rows: int) -> int:
        return score_bits + ceil(log2(rows))

    def hardware(self, scores: Sequence[Value]) -> Value:
        return sum(scores[1:], start=scores[0])

    def twin(self, scores: Tensor) -> Tensor:
        return scores.sum(-1)

    def reference(self, scores: Tensor) -> Tensor:
        return scores.mean(-1)
