"""Bytes of the progressive format: the worked example of its document, and the way back."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from golden.progressive.format import ProgressiveFormat
from golden.progressive.layout import CacheBytes, LayoutError, pack, unpack
from golden.progressive.numbers import Coded, Statistics
from golden.progressive.reference import HeadStatistics, Tokens, compress
from tb.golden.progressive.small import head, statistics

FORM = ProgressiveFormat(head_dim=64, screen_bits=4, channels=16)


def example(tokens: int) -> tuple[Tokens, HeadStatistics]:
    """The cache of the document's worked example, its two tokens in turn."""
    turn = torch.arange(tokens) % 2
    codes = torch.stack((torch.arange(64), torch.full((64,), 33)))
    values = torch.stack((torch.arange(64) % 16, torch.full((64,), 9)))
    pair = Coded(
        codes[turn], torch.tensor([[0xA0], [0x5C]])[turn], torch.tensor([[124], [7]])[turn]
    )
    value = Coded(
        values[turn],
        torch.tensor([[0x70, 0x71], [0x80, 0x81]])[turn],
        torch.tensor([[1, 2], [3, 4]])[turn],
    )
    centre = torch.zeros(64, dtype=torch.int64)
    centre[0], centre[63] = 0x3C00, 0xC000
    exponent = torch.zeros(64, dtype=torch.int64)
    exponent[1] = -2
    zero = torch.zeros(64, dtype=torch.int64)
    return Tokens(pair, value), HeadStatistics(
        Statistics(centre, exponent), Statistics(zero, zero + 3)
    )


def test_worked_example() -> None:
    """Two tokens in an open page (docs/progressive_format.md, "Worked example")."""
    data = pack(*example(2), FORM)
    assert data.statistics.hex(" ", 2).startswith("003c")
    assert data.statistics[:2] == bytes.fromhex("003C")
    assert data.statistics[126:128] == bytes.fromhex("00C0")
    assert data.statistics[256:320] == bytes([0, 0xFE]) + bytes(62)
    assert data.statistics[320:384] == bytes([3] * 64)
    # Codes 32 to 63 have the top bit; 33 has it everywhere.
    assert data.pages[:16] == bytes.fromhex("00000000FFFFFFFF FFFFFFFFFFFFFFFF")
    assert not any(data.pages[16:2048])
    assert data.pages[2048:2052] == bytes.fromhex("A07C 5C07")
    # Upper four bits: channels 0 to 3 have 0, 4 to 7 have 1, ...; 33 has 8.
    assert data.keys[:8] == bytes.fromhex("0000111122223333")
    assert data.keys[32:64] == bytes([0x88] * 32)
    # Pairs of the value groups, two lower bits of the keys, values.
    assert data.rest[:4] == bytes.fromhex("70017102")
    assert data.rest[4:20] == bytes([0b11100100] * 16)
    assert data.rest[20:28] == bytes.fromhex("1032547698BADCFE")
    assert data.rest[52:64] == bytes(12)
    assert data.rest[64:68] == bytes.fromhex("80038104")
    assert data.rest[68:84] == bytes([0b01010101] * 16)
    assert data.rest[84:116] == bytes([0x99] * 32)
    assert (len(data.pages), len(data.keys), len(data.rest)) == (2560, 64, 128)


def test_full_page() -> None:
    """A burst per channel: the odd tokens have the top bit in channels 0 to 31, all in the rest."""
    data = pack(*example(257), FORM)
    assert data.pages[:1024] == bytes([0xAA] * 1024)
    assert data.pages[1024:2048] == bytes([0xFF] * 1024)
    # The next page has one row.
    assert data.pages[2560:2568] == bytes.fromhex("00000000FFFFFFFF")


@pytest.mark.parametrize(
    "form",
    [
        FORM,
        ProgressiveFormat(head_dim=128, screen_bits=2, channels=32),
        ProgressiveFormat(head_dim=64, screen_bits=4, channels=8, plane_bits=2),
        ProgressiveFormat(head_dim=32, screen_bits=6, channels=8, value_bits=3, value_group=16),
    ],
)
def test_there_and_back(form: ProgressiveFormat) -> None:
    query, keys, values = head(300, width=form.head_dim)
    found = statistics(query, keys, values)
    tokens = compress(keys, values, found, form)
    for context in (1, 255, 256, 257, 300):
        part = Tokens(
            *(
                Coded(x.codes[:context], x.scale[:context], x.zero[:context])
                for x in (tokens.key, tokens.value)
            )
        )
        again, read = unpack(pack(part, found, form), context, form)
        for x, y in ((part.key, again.key), (part.value, again.value)):
            assert torch.equal(x.codes, y.codes)
            assert torch.equal(x.scale, y.scale)
            assert torch.equal(x.zero, y.zero)
        for mine, its in ((found.key, read.key), (found.value, read.value)):
            assert torch.equal(mine.centre, its.centre)
            assert torch.equal(mine.exponent, its.exponent)


def test_sizes_are_checked() -> None:
    data = pack(*example(2), FORM)
    with pytest.raises(LayoutError, match="keys region must have 96 bytes, not 64"):
        unpack(data, 3, FORM)
    flipped = np.frombuffer(data.pages, np.uint8).copy()
    flipped[0] ^= 1
    with pytest.raises(LayoutError, match="planes must hold the top bits"):
        unpack(replace(data, pages=flipped.tobytes()), 2, FORM)
    assert isinstance(data, CacheBytes)
