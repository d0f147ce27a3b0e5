"""Rotation and 4 bits."""

import pytest
import torch

from golden.quality.methods.quarot import QuaRot, hadamard, rounded
from tb.golden.quality.small import prompt, step


def test_hadamard() -> None:
    """By hand, its own inverse, and it leaves scores as they are."""
    assert hadamard(torch.tensor([1.0, 0.0, 0.0, 0.0])).tolist() == [0.5] * 4
    assert hadamard(torch.tensor([1.0, 2.0, 3.0, 4.0])).tolist() == [5.0, -1.0, -2.0, 0.0]
    x, y = torch.randn(2, 5, 64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(hadamard(hadamard(x)), x)
    torch.testing.assert_close(hadamard(x) @ hadamard(y).T, x @ y.T)


def test_quantiser() -> None:
    """-5 .. 10 in steps of 1: the zero point is 5. Clipped to half, -2.5 .. 5 in steps of 0.5."""
    x = torch.tensor([-5.0, 0.0, 0.4, 0.6, 10.0])
    assert rounded(x, 4, 1.0).tolist() == [-5.0, 0.0, 0.0, 1.0, 10.0]
    assert rounded(x, 4, 0.5).tolist() == [-2.5, 0.0, 0.5, 0.5, 5.0]
    # Steps of 1 from -0.6: the zero point 0.6 becomes 1, and -0.6 the level -1.
    assert rounded(torch.tensor([-0.6, 14.4]), 4, 1.0).tolist() == pytest.approx([-1.0, 14.0])
    # Zero is always a level: the range of positive numbers begins at it.
    assert rounded(torch.tensor([7.5, 15.0]), 4, 1.0).tolist() == [8.0, 15.0]
    assert rounded(torch.zeros(4), 4, 1.0).tolist() == [0.0] * 4


def test_rotation_spreads_outliers() -> None:
    """One channel 30 times the others: without the rotation it takes their levels."""
    keys = torch.randn(40, 64, generator=torch.Generator().manual_seed(1))
    keys[:, 5] *= 30.0

    def error(method: QuaRot) -> float:
        read = step(method.start(prompt(40, width=64, keys=keys)), 40, width=64).keys[0, 0, :40]
        gap = (read - keys)[:, torch.arange(64) != 5]
        return float(gap.abs().mean())

    assert error(QuaRot()) < 0.6 * error(QuaRot(rotate=False))


def test_traffic() -> None:
    """64 channels in 4 bits and a pair of scale and zero point: 36 B, contiguous."""
    reading = step(QuaRot().start(prompt(9, width=64)), 9, width=64)
    assert (reading.read, reading.written) == (2 * 384, 2 * 64)


def test_parameters() -> None:
    with pytest.raises(ValueError, match="bits must be 2 to 8, not 1"):
        QuaRot(bits=1)
    with pytest.raises(ValueError, match="clip must be above 0 and at most 1, not 0"):
        QuaRot(clip=0)
    with pytest.raises(ValueError, match="the head dimension must be a power of two, not 96"):
        QuaRot().start(prompt(4, width=96))
