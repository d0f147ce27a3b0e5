"""The uncompressed cache."""

import torch

from golden.quality.methods.fp16 import FP16
from tb.golden.quality.small import attended, prompt, random_prompt, step


def test_reads_everything() -> None:
    state = FP16().start(prompt(3))
    assert attended(step(state, 3)) == [0, 1, 2, 3]
    assert attended(step(state, 4)) == [0, 1, 2, 3, 4]


def test_traffic() -> None:
    """64 channels of FP16 are 128 B, keys and values 256 B a token; 8 channels fill a burst."""
    reading = step(FP16().start(prompt(10, width=64)), 10, width=64)
    assert (reading.read, reading.written) == (11 * 256, 256)
    reading = step(FP16().start(prompt(10, width=8)), 10, width=8)
    assert (reading.read, reading.written) == (11 * 64, 64)


def test_traffic_of_all_caches() -> None:
    """Two sequences with two KV heads; their query heads share what is read."""
    prefill = random_prompt(10, width=64, rows=4)
    reading = (
        FP16()
        .start(prefill)
        .step(prefill.query[..., 0, :], prefill.key[..., 0, :], prefill.value[..., 0, :])
    )
    assert reading.read == 4 * 11 * 256
    assert FP16.step_bytes(4, 11, 64) == reading.read + reading.written


def test_numbers_are_fp16() -> None:
    """1 + 2**-12 is no FP16 number, 1 + 2**-10 is one."""
    prefill = prompt(2, keys=torch.tensor([[1 + 2**-12], [1 + 2**-10]]).expand(2, 8))
    keys = step(FP16().start(prefill), 2).keys[0, 0, :, 0]
    assert keys.tolist() == [1.0, 1 + 2**-10, 0.0]
