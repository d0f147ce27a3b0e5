"""The best row decides."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import TYPE_CHECKING

from hw.selection.policy import SelectionPolicy
from hw.selection.registry import register

if TYPE_CHECKING:
    from amaranth.hdl import Value
    from torch import Tensor


@register
class Maximum(SelectionPolicy):
    """A chunk that one query head needs is not voted out by the others."""

    name = "max"

    def bits(self, score_bits: int, rows: int) -> int:
        return score_bits

    def hardware(self, scores: Sequence[Value]) -> Value:
        # Not at the top: whoever only checks a configuration may have no Amaranth.
        from amaranth.hdl import Mux

        return reduce(lambda x, y: Mux(x >= y, x, y), scores)

    def twin(self, scores: Tensor) -> Tensor:
        return scores.amax(-1)

    def reference(self, scores: Tensor) -> Tensor:
        return scores.amax(-1)
