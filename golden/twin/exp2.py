"""Integer twin of the exp2 unit (docs/contracts.md, section 4, row "probability")."""

import torch
from torch import Tensor

from hw.constants import EXP2_OFFSET, EXP2_SLOPE


def exp2_fraction(fraction: Tensor) -> Tensor:
    """``2**f`` with 14 fraction bits, 16384 to 32758, of fractions f in units of 2**-12.

    ``fraction`` is int64 of any shape, 0 to 4095; the result has its shape.
    """
    segment, step = fraction >> 8, fraction & 255
    return torch.tensor(EXP2_OFFSET)[segment] + (torch.tensor(EXP2_SLOPE)[segment] * step >> 8)
