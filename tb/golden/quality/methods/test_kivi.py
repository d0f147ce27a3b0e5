"""Keys by channel, values by token, the newest whole."""

import pytest
import torch

from golden.quality.methods.kivi import KIVI
from tb.golden.quality.small import prompt, step

#: In 2 bits over 0 .. 3.5 the step is 3.5 / 3, as FP16 1.1669921875.
STEP = 1.1669921875
RAMP = [0.0, 1.0, 2.0, 3.5]
CODED = [0.0, STEP, 2 * STEP, 3 * STEP]


def test_keys_are_quantised_along_tokens() -> None:
    """A channel's group is its values in four tokens; channels do not mix."""
    keys = torch.tensor([RAMP, [7.0, 0.0, 0.0, 0.0]]).repeat(2, 1).T.contiguous()
    state = KIVI(group=4, residual=4).start(prompt(4, width=4, keys=keys))
    read = step(state, 4, width=4).keys[0, 0, :4]
    assert read[:, 0].tolist() == pytest.approx(CODED)
    assert read[:, 1].tolist() == pytest.approx([7.0, 0.0, 0.0, 0.0], abs=2e-2)
    # Along the channels of a token the group would be (0, 7, 0, 7): 0 and 7 would stay exact.
    assert read[1, 0] != 1.0


def test_values_are_quantised_along_channels() -> None:
    prefill = prompt(5, width=4)
    prefill.value[0, 0, 0] = torch.tensor(RAMP)
    state = KIVI(group=4, residual=4).start(prefill)
    assert step(state, 5, width=4).values[0, 0, 0].tolist() == pytest.approx(CODED)


def test_newest_values_stay_whole() -> None:
    """With a residual of 4 the newest four, and from the next step on one token more is codes."""
    prefill = prompt(5, width=4)
    prefill.value[0, 0, :] = torch.tensor(RAMP)
    state = KIVI(group=4, residual=4).start(prefill)
    values = step(state, 5, width=4).values[0, 0]
    assert [row.tolist() == RAMP for row in values[:5]] == [False, False, True, True, True]
    values = step(state, 6, width=4).values[0, 0]
    assert [row.tolist() == RAMP for row in values[:5]] == [False, False, False, True, True]


def test_keys_wait_for_a_full_residual() -> None:
    """Prompt of 5: four are codes. Tokens 4 to 6 stay whole until token 7 completes the four."""
    keys = torch.tensor([0.0, 1.0, 2.0, 3.5, 0.0])[:, None].expand(5, 4)
    state = KIVI(group=4, residual=4).start(prompt(5, width=4, keys=keys))
    for position, level in ((5, 1.0), (6, 2.0)):
        read = step(state, position, width=4, key=torch.full((4,), level)).keys[0, 0, :, 0]
        assert read[4:].tolist() == [0.0, 1.0, 2.0][: position - 3]
        assert read[1] == pytest.approx(STEP)
    read = step(state, 7, width=4, key=torch.full((4,), 3.5)).keys[0, 0, :, 0]
    assert read.tolist() == pytest.approx(CODED * 2)


def test_traffic() -> None:
    """Codes of a group of 2 take half a byte, scale and minimum 4.

    Seven tokens of 4 channels: 2 key groups x 4 channels x 4.5 B = 36 B, two bursts; three tokens'
    values x 2 groups x 4.5 B = 27 B, one burst; 3 keys and 4 values whole, a burst each.
    """
    state = KIVI(group=2, residual=4).start(prompt(6, width=4))
    reading = step(state, 6, width=4)
    assert reading.read == 64 + 32 + 3 * 32 + 4 * 32
    # The token, 64 B, and the 9 B of the value that turned into codes.
    assert reading.written == 64 + 32
    # The eighth token completes the residual: four keys' groups, 36 B, are written.
    reading = step(state, 7, width=4)
    assert reading.read == 96 + 64 + 0 + 4 * 32
    assert reading.written == 64 + 32 + 64


def test_a_residual_just_full_writes_no_values() -> None:
    """Four tokens: the keys turn into codes, the four newest values stay."""
    reading = step(KIVI(group=2, residual=4).start(prompt(3, width=4)), 3, width=4)
    assert (reading.read, reading.written) == (64 + 4 * 32, 64 + 64)


def test_traffic_at_the_published_sizes() -> None:
    """64 channels, groups of 32, 2 bits: 16 B of codes and 8 B of scales per key or value."""
    reading = step(KIVI().start(prompt(1023, width=64)), 1023, width=64)
    # All 1024 keys are codes, 896 values are, 128 are not.
    assert reading.read == (1024 + 896) * 24 + 128 * 128


def test_more_bits_are_closer() -> None:
    keys = torch.randn(32, 32, generator=torch.Generator().manual_seed(0))
    errors = []
    for bits in (2, 4, 8):
        state = KIVI(bits=bits, residual=32).start(prompt(32, width=32, keys=keys))
        errors.append(float((step(state, 32, width=32).keys[0, 0, :32] - keys).abs().mean()))
    assert errors[0] > 3 * errors[1] > 30 * errors[2]


def test_parameters() -> None:
    with pytest.raises(ValueError, match="bits must be 2, 4 or 8, not 3"):
        KIVI(bits=3)
    with pytest.raises(ValueError, match="residual must be a multiple of group 32, not 100"):
        KIVI(residual=100)
    with pytest.raises(ValueError, match="group must divide the head dimension 8, not 32"):
        KIVI().start(prompt(4))
