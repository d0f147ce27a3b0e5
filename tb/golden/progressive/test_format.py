"""Sizes and traffic of the progressive format."""

import re
from dataclasses import replace

import pytest

from golden.progressive.format import ProgressiveFormat, one_burst_bits

FORM = ProgressiveFormat(head_dim=64, screen_bits=4, channels=16, top=100, window=32, first=4)
WIDE = ProgressiveFormat(head_dim=128, screen_bits=2, channels=32, top=100, window=32, first=4)


def test_sizes_by_hand() -> None:
    """Rest: 2 * 64 / 8 bytes of keys, 32 of values, two pairs; at 128 channels 64, 64, four."""
    assert (FORM.statistics_bytes, WIDE.statistics_bytes) == (384, 768)
    assert (FORM.plane_bytes, WIDE.plane_bytes) == (2048, 4096)
    assert (FORM.page_bytes, WIDE.page_bytes) == (2560, 4608)
    assert (FORM.key_bytes, WIDE.key_bytes) == (32, 32)
    # 52 and 136 bytes in whole bursts.
    assert (FORM.rest_bytes, WIDE.rest_bytes) == (64, 160)
    assert (FORM.stored_bytes, WIDE.stored_bytes) == (106, 210)


def test_one_burst() -> None:
    assert [one_burst_bits(d, 6) for d in (32, 64, 128, 256)] == [6, 4, 2, 2]


def test_step_by_hand() -> None:
    """Token 600: two closed pages, 88 tokens in the open one, all but 32 of which are ranked."""
    step = FORM.step_bytes(600, kept=10)
    assert step.statistics == 384
    assert step.planes == 2 * 16 * 32 + 56 * 8
    assert step.scales == 2 * 512 + 192  # 88 pairs are 176 bytes
    assert step.keys == (100 + 36) * 32
    assert step.rest == 10 * 64
    assert step.closing_read == step.closing_written == 0
    assert step.appended == step.written == 32 + 64 + 32 + 32
    assert step.read == 384 + 1472 + 1216 + 4352 + 640
    assert FORM.step_bytes(600).rest == 136 * 64


def test_two_planes_by_hand() -> None:
    """Twice the bursts of a channel, rows of 16 bytes, and twice as much to close."""
    form = replace(FORM, plane_bits=2, channels=8)
    step = form.step_bytes(600, kept=10)
    assert step.planes == 2 * 8 * 2 * 32 + 56 * 16
    assert (step.scales, step.keys, step.rest) == (1216, 4352, 640)
    assert step.appended == 160
    assert form.step_bytes(512).closing_read == 2 * 2048
    assert form.stored_bytes == FORM.stored_bytes + 8


def test_short_contexts() -> None:
    """Nothing is ranked while all tokens are new; the window may reach into the closed page."""
    assert FORM.step_bytes(1, kept=1).read == 384 + 32 + 32 + 64
    assert FORM.step_bytes(20).keys == 20 * 32
    assert FORM.ranked(20) == 0
    # 300 tokens: page 0 closed, 44 open, 12 of them ranked.
    assert FORM.step_bytes(300).planes == 16 * 32 + 96
    assert FORM.step_bytes(270).planes == 16 * 32


def test_closing() -> None:
    """The step that fills a page reads its rows and writes its channels."""
    step = FORM.step_bytes(512)
    assert step.closing_read == step.closing_written == 2048
    # The page counts as open in that step, as closed in the next.
    assert step.planes == 16 * 32 + (256 - 32) * 8
    assert FORM.step_bytes(513).planes == 2 * 16 * 32
    assert FORM.step_bytes(513).closing_read == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"head_dim": 96}, "head_dim must be 32, 64, 128 or 256, not 96"),
        ({"key_bits": 8}, "key_bits must be 2 to 7, not 8"),
        ({"screen_bits": 1}, "screen_bits must be 2 to 6, not 1"),
        ({"plane_bits": 0}, "plane_bits must be 1 to 4, not 0"),
        ({"channels": 65}, "channels must be 1 to 64, not 65"),
        ({"top": 0}, "top must be an integer from 1 up, not 0"),
        ({"window": 257}, "window must be 1 to 256, not 257"),
        ({"reach": True}, "reach must be 1 to 31, not True"),
        ({"value_group": 24}, "value_group must divide head_dim 64, not 24"),
    ],
)
def test_illegal(change: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        replace(FORM, **change)
