"""A selection policy of one's own: the two best rows decide together.

KVFORGE_MODULES=docs.examples.best_two makes it known to every command.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hw.selection import SelectionPolicy, register

if TYPE_CHECKING:  # `make verilog` runs without torch, host software without Amaranth
    from amaranth.hdl import Value
    from torch import Tensor


@register
class BestTwo(SelectionPolicy):
    """The sum of the two largest scores; with one row, its score."""

    name = "best_two"

    def bits(self, score_bits: int, rows: int) -> int:
        """Return one bit more for the sum."""
        return score_bits + (rows > 1)

    def hardware(self, scores: Sequence[Value]) -> Value:
        """Carry the best and the second best from row to row."""
        from amaranth.hdl import Mux

        best, second = scores[0], None
        for score in scores[1:]:
            ahead = score >= best
            behind = Mux(ahead, best, score)
            second = behind if second is None else Mux(behind >= second, behind, second)
            best = Mux(ahead, score, best)
        return best if second is None else best + second

    def twin(self, scores: Tensor) -> Tensor:
        """Sort the rows, another way than the hardware's."""
        return scores.sort(-1).values[..., -2:].sum(-1)

    def reference(self, scores: Tensor) -> Tensor:
        """Do the same in real numbers."""
        return scores.topk(min(2, scores.shape[-1]), -1).values.sum(-1)
