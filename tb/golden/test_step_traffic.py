"""Bytes of a step by hand; ``tb/generation`` compares them with the simulated core's counters."""

from dataclasses import replace

import pytest

from golden.step_traffic import StepBytes, step_bytes
from hw.config import preset
from hw.formats import KVFormat

LM = preset("lm")


def test_a_first_token() -> None:
    """A tail block of 1664 bytes; key in 2 bursts, pairs, scale, value in 4, saliencies."""
    assert step_bytes(1, [], LM, closes=False) == StepBytes(1664, 9 * 32)


def test_chunks_share_scales() -> None:
    """Three chunks of two groups: the scales of two."""
    layout = KVFormat(LM)
    found = step_bytes(200, [0, 3, 4], LM, closes=False).read
    more = step_bytes(200, [0, 4, 8], LM, closes=False).read
    assert more - found == layout.value_scale_bytes
    # All of the sixteen that 128 closed tokens have, in four groups.
    tail, base = 9 * 1664, 2 * layout.base_block_bytes
    chunks = 16 * layout.chunk_bytes + 2 * layout.value_scale_bytes
    assert found == tail + base + chunks


def test_a_window() -> None:
    """Read again; two group records, and eight base keys of three bursts."""
    less, more = (step_bytes(128, [], LM, closes=closes) for closes in (False, True))
    assert more.read - less.read == 8 * 1664
    assert more.written - less.written == 2 * KVFormat(LM).group_bytes + 8 * 3 * 32


@pytest.mark.parametrize(("place", "bursts"), [(0, 1), (1, 1), (2, 2), (5, 2), (7, 1)])
def test_pairs_that_straddle(place: int, bursts: int) -> None:
    """Twelve bytes of three groups: those of tokens 2 and 5 begin at bytes 24 and 60."""
    config = replace(LM, head_dim=96)
    # 96 bytes of codes and 192 of the value: 3 and 6 bursts; scale and saliencies: 1 each.
    assert step_bytes(place + 1, [], config, closes=False).written == (11 + bursts) * 32
