"""The interface of a selection policy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

# A configuration is checked without Amaranth, and Verilog is written without torch.
if TYPE_CHECKING:
    from amaranth.hdl import Value
    from torch import Tensor


class SelectionPolicy(ABC):
    """One score per chunk from the chunk's scores in every row.

    The selector keeps the chunks with the largest, so only the order of the scores counts: those of
    the reference may be another positive multiple than those of twin and hardware.
    """

    #: What ``group_combine`` of a configuration says; it is part of the config hash.
    name: ClassVar[str]

    @abstractmethod
    def bits(self, score_bits: int, rows: int) -> int:
        """Signed bits that hold every selection score of ``rows`` scores of ``score_bits`` bits."""

    @abstractmethod
    def hardware(self, scores: Sequence[Value]) -> Value:
        """Combinational: the selection score of one chunk, from one signed value per row.

        What does not fit `bits` is cut off at the top.
        """

    @abstractmethod
    def twin(self, scores: Tensor) -> Tensor:
        """The same number in integers: int64 ``[..., rows]`` to int64 ``[...]``."""

    @abstractmethod
    def reference(self, scores: Tensor) -> Tensor:
        """The policy on real numbers: float64 ``[..., rows]`` to float64 ``[...]``."""
