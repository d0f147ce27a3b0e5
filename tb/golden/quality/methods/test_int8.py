"""The dense 8-bit cache."""

import torch

from golden.quality.methods.int8 import INT8
from golden.reference.quantiser import symmetric_codes, symmetric_values
from tb.golden.quality.small import prompt, random_prompt, step


def test_numbers() -> None:
    """A largest key of 127 makes the scale 128, so that integers are exact and later keys clamp."""
    keys = torch.tensor([[127.0, -3.0, 2.4, 2.6], [0.0, 1.0, -127.0, 5.0]])
    state = INT8().start(prompt(2, width=4, keys=keys))
    reading = step(state, 2, width=4, key=torch.tensor([300.0, -300.0, 7.0, 0.4]))
    assert reading.keys[0, 0].tolist() == [
        [127.0, -3.0, 2.0, 3.0],
        [0.0, 1.0, -127.0, 5.0],
        [127.0, -127.0, 7.0, 0.0],
    ]


def test_prompt_is_that_of_the_reference() -> None:
    prefill = random_prompt(6)
    reading = (
        INT8()
        .start(prefill)
        .step(prefill.query[..., 0, :], prefill.key[..., 0, :], prefill.value[..., 0, :])
    )
    codes, scale = symmetric_codes(prefill.key.flatten(-2), 8)
    expected = symmetric_values(codes, scale, 8).view_as(prefill.key)
    torch.testing.assert_close(reading.keys[..., :6, :].double(), expected, atol=1e-6, rtol=0)
    # A head of its own scale: another head's scale gives other numbers.
    codes, scale = symmetric_codes(prefill.key.flatten(), 8)
    other = symmetric_values(codes, scale, 8).view_as(prefill.key)
    assert not torch.allclose(reading.keys[..., :6, :].double(), other, atol=1e-6, rtol=0)


def test_traffic() -> None:
    """7 tokens of 64 codes, keys and values, and the two scales in a burst; half of FP16."""
    reading = step(INT8().start(prompt(6, width=64)), 6, width=64)
    assert (reading.read, reading.written) == (2 * 7 * 64 + 32, 2 * 64)
    # 3 tokens of 8 codes are less than a burst.
    reading = step(INT8().start(prompt(2)), 2)
    assert (reading.read, reading.written) == (2 * 32 + 32, 2 * 32)
