"""Twin of the scale bank: integer sums to fixed point (docs/contracts.md, row "scaled, y")."""

from torch import Tensor

from golden.twin.numbers import fp16_fields, round_half_up, saturate
from hw.constants import SCALED_BIAS, SCALED_BITS


def scale_bank(a: Tensor, b: Tensor, scale: Tensor, minimum: Tensor) -> Tensor:
    """``scale * a + minimum * b``, each term rounded half up, the sum saturated to 46 bits.

    Parameters
    ----------
    a, b
        Sums, int64 ``[..., rows, 4]``: ``a`` signed 29, ``b`` signed 20 bits.
    scale, minimum
        FP16 bit patterns ``[..., 4]``, one of each per lane; the sign of a scale is ignored.

    Returns
    -------
    Tensor
        ``[..., rows, 4]``; LSB 2**-8 for key sums, 2**-20 for value sums.
    """
    _, scale_mantissa, scale_exponent = fp16_fields(scale[..., None, :])
    sign, mantissa, exponent = fp16_fields(minimum[..., None, :])
    scaled = round_half_up(scale_mantissa * a, SCALED_BIAS - scale_exponent)
    offset = round_half_up(sign * mantissa * b, SCALED_BIAS - exponent)
    return saturate(scaled + offset, SCALED_BITS)
