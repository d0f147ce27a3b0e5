"""Records against bytes written by hand, round trips, image, descriptors, golden data files."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from golden.memory_image import (
    GoldenDataError,
    JobDescriptor,
    MemoryImage,
    MemoryImageError,
    Placement,
    RecordError,
    load_golden,
    pack_base_blocks,
    pack_chunks,
    pack_dense,
    pack_tail,
    query_beats,
    query_codes,
    save_golden,
    unpack_cache,
    unpack_dense,
)
from golden.reference import (
    CompressedCache,
    CompressedWindow,
    DenseCache,
    Quantised,
    Tail,
    compress_cache,
    dense_cache,
    quantise_query,
    saliency,
)
from golden.tensors import CASES
from hw.config import AttentionConfig, preset
from hw.formats import KVFormat, Mode
from tb.configurations import AWKWARD

TINY = preset("tiny")
LM = preset("lm")
ONE_BYTE = replace(TINY, name="one_byte", tail_value_bits=8)
FOUR_BITS = replace(
    TINY, name="four_bits", key_bits=4, key_delta_bits=4, mask_scope="chunk", value_bits=4
)
ROUND_TRIP = [
    TINY,
    LM,
    ONE_BYTE,
    FOUR_BITS,
    replace(TINY, name="chunk_mask", mask_scope="chunk"),
    replace(LM, name="large", head_dim=128, window=32),
    *AWKWARD.values(),
]


def build(config: AttentionConfig, case: str, context: int, seed: int) -> CompressedCache:
    tensors = CASES[case](config, context, seed)
    sums = saliency(tensors.queries, tensors.keys, config)
    return compress_cache(tensors.keys, tensors.values, sums, config)


def same(a: CompressedCache, b: CompressedCache) -> bool:
    pairs: list[tuple[Tensor, Tensor]] = [
        (getattr(a.closed, field.name), getattr(b.closed, field.name))
        for field in fields(CompressedWindow)
    ]
    pairs += [
        (getattr(a.tail.keys, field.name), getattr(b.tail.keys, field.name))
        for field in fields(Quantised)
    ]
    pairs += [
        (getattr(a.tail, name), getattr(b.tail, name))
        for name in ("value_codes", "value_scale", "saliency")
    ]
    return a.context == b.context and all(
        x.dtype == y.dtype == torch.int64 and torch.equal(x, y) for x, y in pairs
    )


def hexes(text: str) -> bytes:
    return bytes.fromhex(text)


# --- records by hand ----------------------------------------------------------------------------


def hand_keys(tokens: int) -> Quantised:
    codes = torch.zeros(tokens, 32, dtype=torch.int64)
    codes[0] = torch.arange(32)
    codes[1] = 255
    scale = torch.zeros(tokens, 2, dtype=torch.int64)
    minimum = torch.zeros(tokens, 2, dtype=torch.int64)
    scale[0] = torch.tensor([0x3C00, 0x3800])  # 1, 0.5
    minimum[0] = torch.tensor([0xC000, 0x0000])  # -2, 0
    scale[1] = torch.tensor([0x00A8, 0x00A8])  # the floor
    minimum[1] = torch.tensor([0x7BFF, 0xFBFF])  # 65504, -65504
    return Quantised(codes, scale, minimum)


HAND_SCALES = hexes("003C00C0 00380000 A800FF7B A800FFFB") + bytes(48)
HAND_CODES = bytes(range(32)) + b"\xff" * 32 + bytes(192)


def hand_window() -> CompressedWindow:
    """Two chunks of preset tiny; all but chunk 0 is as empty as a record can be."""
    keys = hand_keys(2)
    mask = torch.zeros(1, 2, 7, 2, 16, dtype=torch.int64)
    mask[..., :4] = 1
    codes = torch.zeros_like(mask)
    scale = torch.full((1, 2, 7, 2), 0x00A8)
    minimum = torch.zeros(1, 2, 7, 2, dtype=torch.int64)
    mask[0, 0, 0, 0] = 0
    mask[0, 0, 0, 0, [0, 3, 9, 15]] = 1
    codes[0, 0, 0, 0, [0, 3, 9, 15]] = torch.tensor([1, 2, 3, 0])
    scale[0, 0, 0, 0], minimum[0, 0, 0, 0] = 0x3400, 0xB800  # 0.25, -0.5
    mask[0, 0, 0, 1] = 0
    mask[0, 0, 0, 1, [1, 2, 3, 4]] = 1
    codes[0, 0, 0, 1, [1, 2, 3, 4]] = torch.tensor([3, 3, 0, 1])
    scale[0, 0, 0, 1], minimum[0, 0, 0, 1] = 0x3C00, 0xBC00  # 1, -1

    value_base = torch.zeros(1, 2, 32, dtype=torch.int64)
    value_mask = torch.zeros(1, 2, 7, 32, dtype=torch.int64)
    value_codes = torch.zeros_like(value_mask)
    value_scale = torch.full((1, 1, 32), 0x00A8)
    value_minimum = torch.zeros(1, 1, 32, dtype=torch.int64)
    value_codes[0, 0, :, 0] = torch.tensor([3, 0, 2, 0, 0, 1, 0])
    value_mask[0, 0, :, 0] = torch.tensor([1, 0, 1, 0, 1, 1, 0])
    value_base[0, 0, 0] = 11
    value_codes[0, 0, 6, 1] = 2
    value_mask[0, 0, 6, 1] = 1
    value_base[0, 0, 1] = 15
    value_base[0, 0, 31] = 1
    value_scale[0, 0, 0], value_minimum[0, 0, 0] = 0x4200, 0xC500  # 3, -5
    value_scale[0, 0, 31] = 0x3C00
    return CompressedWindow(
        base_codes=keys.codes.unsqueeze(0),
        base_scale=keys.scale.unsqueeze(0),
        base_minimum=keys.minimum.unsqueeze(0),
        delta_mask=mask,
        delta_codes=codes,
        delta_scale=scale,
        delta_minimum=minimum,
        value_base=value_base,
        value_mask=value_mask,
        value_codes=value_codes,
        value_scale=value_scale,
        value_minimum=value_minimum,
    )


def test_base_block_by_hand() -> None:
    """64 B of scales, 256 B of codes; six absent keys are zero."""
    assert pack_base_blocks(hand_window(), TINY) == HAND_SCALES + HAND_CODES


def test_group_record_by_hand() -> None:
    """Delta elements of 56 bits are 7 whole bytes; channels of 25 bits cross the bytes.

    Token 1, group 0: mask bits 0, 3, 9, 15 = 0x8209; codes 1, 2, 3, 0 = 1 + 2*4 + 3*16 = 0x39.
    Token 1, group 1: mask bits 1 to 4 = 0x001E; codes 3, 3, 0, 1 = 3 + 3*4 + 1*64 = 0x4F.
    Channel 0: codes 3 + 2*2**4 + 1*2**10 = 0x0423; mask 1 + 4 + 16 + 32 = 0x35; base 0xB; together
    0x0423 + 0x35 * 2**14 + 0xB * 2**21 = 0x16D4423.
    Channel 1: 2 * 2**12 + 0x40 * 2**14 + 0xF * 2**21 = 0x1F02000, from bit 25 on: bit 0 of byte 3
    is bit 24 of channel 0, the next 7 bits are zero, then 0x1F02000 / 2**7 = 0x3E040.
    Channel 31: base 1 at bit 31 * 25 + 21 = 796, bit 4 of byte 99.
    """
    empty = hexes("0F 00 00 A8 00 00 00")
    delta = hexes("09 82 39 00 34 00 B8") + hexes("1E 00 4F 00 3C 00 BC") + 12 * empty + bytes(30)
    codes = hexes("23 44 6D 01 40 E0 03") + bytes(92) + b"\x10" + bytes(12)
    floor = hexes("A8 00 00 00")
    scales = hexes("00 42 00 C5") + 30 * floor + hexes("00 3C 00 00")
    first = delta + codes + bytes(16)
    second = 14 * empty + bytes(30) + bytes(128)
    assert (len(scales), len(first), len(second)) == (128, 256, 256)
    assert pack_chunks(hand_window(), TINY) == scales + first + second


def four_bit_window() -> CompressedWindow:
    """The scales of `hand_window` with codes of 4 bits and masks of the whole chunk."""
    window = hand_window()
    base = torch.zeros_like(window.base_codes)
    base[0, 0] = torch.arange(32) % 16
    base[0, 1] = 15
    mask = torch.zeros_like(window.delta_mask)
    mask[..., :4] = 1
    mask[0, 0] = 0
    mask[0, 0, :, 0, [0, 3, 9, 15]] = 1
    mask[0, 0, :, 1, [1, 2, 3, 4]] = 1
    codes = torch.zeros_like(mask)
    codes[0, 0, 0, 0, [0, 3, 9, 15]] = torch.tensor([1, 2, 3, 15])
    codes[0, 0, 0, 1, [1, 2, 3, 4]] = torch.tensor([8, 0, 0, 4])
    value_base = torch.zeros_like(window.value_base)
    value_base[0, 0, [0, 31]] = torch.tensor([0xAB, 1])
    value_mask = torch.zeros_like(window.value_mask)
    value_mask[0, 0, [0, 2, 5], 0] = 1
    value_codes = torch.zeros_like(value_mask)
    value_codes[0, 0, [0, 2, 5], 0] = torch.tensor([15, 8, 1])
    return replace(
        window,
        base_codes=base,
        delta_mask=mask,
        delta_codes=codes,
        value_base=value_base,
        value_mask=value_mask,
        value_codes=value_codes,
    )


def test_records_of_four_bits_by_hand() -> None:
    """Two codes of a key to a byte, one mask of a chunk and group, channels of 43 bits.

    Channel 0: codes 15 + 8 * 2**8 + 1 * 2**20 = 0x10080F; mask 1 + 4 + 32 = 0x25; base 0xAB;
    together 0x10080F + 0x25 * 2**28 + 0xAB * 2**35 = 0x55A5010080F.
    Channel 31: base 1 at bit 31 * 43 + 35 = 1368, bit 0 of byte 171.
    """
    window = four_bit_window()
    keys = hexes("10 32 54 76 98 BA DC FE") * 2 + b"\xff" * 16 + bytes(96)
    assert pack_base_blocks(window, FOUR_BITS) == HAND_SCALES + keys
    masks = hexes("09 82 1E 00") + bytes(12)
    first = hexes("21 F3 00 34 00 B8") + hexes("08 40 00 3C 00 BC")
    empty = hexes("00 00 A8 00 00 00")
    delta = masks + first + 12 * empty + bytes(28)
    codes = hexes("0F 08 10 50 5A 05") + bytes(165) + b"\x01" + bytes(4)
    scales = hexes("00 42 00 C5") + 30 * hexes("A8 00 00 00") + hexes("00 3C 00 00")
    second = hexes("0F 00 0F 00") + bytes(12) + 14 * empty + bytes(28) + bytes(192)
    record = delta + codes + bytes(16)
    assert len(record) == len(second) == 320
    assert pack_chunks(window, FOUR_BITS) == scales + record + second
    padded = build(FOUR_BITS, "random", 33, 0)
    whole = replace(padded, closed=window)
    regions = (pack_base_blocks(window, FOUR_BITS), pack_chunks(window, FOUR_BITS))
    tail = pack_tail(padded.tail, 33, FOUR_BITS)
    assert same(unpack_cache(*regions, tail, 33, FOUR_BITS), whole)


def test_tokens_of_a_chunk_share_a_mask() -> None:
    window = four_bit_window()
    mask = window.delta_mask.clone()
    mask[0, 1, 6, 0, [3, 4]] = torch.tensor([0, 1])
    torn = replace(window, delta_mask=mask)
    with pytest.raises(
        RecordError, match=r"^delta mask must be the same for every token of a chunk$"
    ):
        pack_chunks(torn, FOUR_BITS)
    assert pack_chunks(torn, replace(FOUR_BITS, mask_scope="token"))
    cache = build(FOUR_BITS, "random", 33, 0)
    base, tail = pack_base_blocks(window, FOUR_BITS), pack_tail(cache.tail, 33, FOUR_BITS)
    whole = pack_chunks(window, FOUR_BITS)
    overfull = whole[:128] + b"\x0b" + whole[129:]
    with pytest.raises(RecordError, match=r"^delta mask must have 4 ones, not 5$"):
        unpack_cache(base, overfull, tail, 33, FOUR_BITS)


def hand_tail(bits: int) -> Tail:
    codes = torch.zeros(3, 32, dtype=torch.int64)
    if bits == 16:
        codes[:, 0] = torch.tensor([1, -1, 0x1234])
        codes[:, 1] = torch.tensor([32767, -32767, 0])
        codes[:, 2] = torch.tensor([256, 2, -256])
        codes[:, 3] = torch.tensor([0, 0, -2])
    else:
        codes[:, 0] = torch.tensor([1, -1, 0x12])
        codes[:, 1] = torch.tensor([127, -127, 0])
        codes[:, 3] = torch.tensor([0, 0, -2])
    codes[0, 31] = -1
    value_scale = torch.tensor([0x3C00, 0x0001, 0x7BFF])
    saliency = torch.tensor([1 << 20, 1, (1 << 32) - 1])
    return Tail(hand_keys(3), codes, value_scale, saliency)


HAND_HEADER = (
    hexes("00001000 01000000 FFFFFFFF")
    + bytes(20)
    + HAND_SCALES
    + hexes("003C 0100 FF7B")
    + bytes(10 + 16)
)
HAND_TAIL_KEYS = HAND_HEADER + HAND_CODES


def test_tail_block_by_hand() -> None:
    """Three tokens of eight; 128 B of saliency and scales, keys, then two tiles of 16 channels."""
    tokens = (
        "01 00 FF 7F 00 01 00 00",  # channels 0 to 3: 1, 32767, 256, 0
        "FF FF 01 80 02 00 00 00",  # -1, -32767, 2, 0
        "34 12 00 00 00 FF FE FF",  # 0x1234, 0, -256, -2
    )
    tile_0 = b"".join(hexes(token) + bytes(24) for token in tokens) + bytes(5 * 32)
    tile_1 = bytes(30) + b"\xff\xff" + bytes(7 * 32)
    assert len(HAND_HEADER) == 128
    assert len(HAND_TAIL_KEYS) == 384
    assert len(tile_0 + tile_1) == 512
    assert pack_tail(hand_tail(16), 3, TINY) == HAND_TAIL_KEYS + tile_0 + tile_1


def test_tail_block_of_8_bits_by_hand() -> None:
    """One tile of 32 channels."""
    tokens = "01 7F 00 00", "FF 81 00 00", "12 00 00 FE"
    ends = b"\xff", b"\0", b"\0"
    bursts = [hexes(first) + bytes(27) + end for first, end in zip(tokens, ends, strict=True)]
    values = b"".join(bursts) + bytes(5 * 32)
    assert pack_tail(hand_tail(8), 3, ONE_BYTE) == HAND_TAIL_KEYS + values


def test_the_tail_is_a_ring() -> None:
    """Token t has place t mod 32: at 49 tokens 32 to 48 are held, at 33 tokens 16 to 32."""
    for context, places in ((32, [0, 1, 2, 3]), (33, [2, 3, 0]), (49, [0, 1, 2])):
        cache = build(TINY, "random", context, 1)
        ring = pack_tail(cache.tail, context, TINY)
        assert len(ring) == 4 * 896
        in_order = replace(TINY, window=128)
        blocks = pack_tail(cache.tail, len(cache.tail.saliency), in_order)
        assert len(blocks) == len(places) * 896
        found = [ring[place * 896 : (place + 1) * 896] for place in range(4)]
        for place in range(4):
            at = places.index(place) * 896 if place in places else len(blocks)
            assert found[place] == (blocks[at : at + 896] or bytes(896))


def test_what_the_ring_held_before_does_not_matter() -> None:
    cache = build(TINY, "random", 40, 1)  # 24 tail tokens: 16 to 39 in blocks 2, 3 and 0
    regions = pack_base_blocks(cache.closed, TINY), pack_chunks(cache.closed, TINY)
    ring = pack_tail(cache.tail, 40, TINY)
    for block in range(4):
        spoiled = ring[: block * 896] + b"\xff" * 896 + ring[(block + 1) * 896 :]
        assert same(unpack_cache(*regions, spoiled, 40, TINY), cache) == (block == 1)


def test_hand_records_unpack() -> None:
    tail = hand_tail(16)
    window = hand_window()
    # 19 tokens: one closed window would need 33, so the parts are unpacked in two caches.
    cache = unpack_cache(b"", b"", pack_tail(tail, 3, TINY), 3, TINY)
    assert same(cache, replace(cache, tail=tail))
    padded = build(TINY, "random", 33, 0)
    whole = replace(padded, closed=window)
    regions = (pack_base_blocks(window, TINY), pack_chunks(window, TINY))
    assert same(unpack_cache(*regions, pack_tail(padded.tail, 33, TINY), 33, TINY), whole)


def hand_dense(mode: Mode) -> DenseCache:
    """Nine tokens of preset tiny, all zero but the first and the last one."""
    key_codes = torch.zeros(9, 32, dtype=torch.int64)
    value_codes = torch.zeros_like(key_codes)
    if mode == Mode.DENSE8:
        key_codes[0] = torch.arange(32) - 16
        key_codes[8, [0, 31]] = torch.tensor([127, -128])
        value_codes[0, :4] = torch.tensor([1, -1, 127, -128])
        value_codes[1, 1] = 2
        value_codes[8, 31] = -2
    else:
        key_codes[0] = 256 * torch.arange(32) + 7
        key_codes[0, 31] = -2
        key_codes[8, [0, 31]] = torch.tensor([0x7FFF, -0x8000])
        value_codes[0, :4] = torch.tensor([1, -1, 0x1234, -256])
        value_codes[1, 1] = 32767
        value_codes[8, 31] = -2
    scale = torch.tensor(0x3C00)
    return DenseCache(mode, key_codes, value_codes, scale, scale)


def test_dense_blocks_of_8_bits_by_hand() -> None:
    """Two blocks of 512 B: 8 keys of 32 bytes, then 8 quads of channels of 32 bytes."""
    keys_0 = bytes(range(0xF0, 0x100)) + bytes(range(16)) + bytes(7 * 32)
    quad_0 = (
        "01 00 00 00 00 00 00 00  FF 02 00 00 00 00 00 00"  # channels 0, 1
        "7F 00 00 00 00 00 00 00  80 00 00 00 00 00 00 00"  # channels 2, 3
    )
    keys_1 = b"\x7f" + bytes(30) + b"\x80" + bytes(7 * 32)
    values_1 = bytes(7 * 32 + 24) + b"\xfe" + bytes(7)
    wanted = keys_0 + hexes(quad_0) + bytes(7 * 32) + keys_1 + values_1
    assert len(wanted) == 1024
    assert pack_dense(hand_dense(Mode.DENSE8), TINY) == wanted


def test_dense_blocks_of_16_bits_by_hand() -> None:
    """Two blocks of 1024 B: per key and 16 channels low bytes before high bytes; values as ever."""
    low, high = b"\x07" * 16, bytes(range(16))
    last_low, last_high = b"\x07" * 15 + b"\xfe", bytes(range(16, 31)) + b"\xff"
    keys_0 = low + high + last_low + last_high + bytes(7 * 64)
    quad_0 = (
        "01 00 00 00 00 00 00 00  FF FF 00 00 00 00 00 00"  # low bytes of channels 0, 1
        "34 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00"  # low bytes of channels 2, 3
        "00 00 00 00 00 00 00 00  FF 7F 00 00 00 00 00 00"  # high bytes of channels 0, 1
        "12 00 00 00 00 00 00 00  FF 00 00 00 00 00 00 00"  # high bytes of channels 2, 3
    )
    first, last = b"\xff" + bytes(15), b"\x7f" + bytes(15)
    keys_1 = first + last + bytes(16) + bytes(15) + b"\x80" + bytes(7 * 64)
    low_31, high_31 = bytes(8) + b"\xfe" + bytes(7), bytes(8) + b"\xff" + bytes(7)
    values_1 = bytes(7 * 64) + bytes(16) + low_31 + bytes(16) + high_31
    wanted = keys_0 + hexes(quad_0) + bytes(7 * 64) + keys_1 + values_1
    assert len(wanted) == 2048
    assert pack_dense(hand_dense(Mode.DENSE16), TINY) == wanted


@pytest.mark.parametrize("mode", [Mode.DENSE8, Mode.DENSE16])
def test_hand_dense_blocks_unpack(mode: Mode) -> None:
    cache = hand_dense(mode)
    keys, values = unpack_dense(pack_dense(cache, TINY), 9, mode, TINY)
    assert torch.equal(keys, cache.key_codes)
    assert torch.equal(values, cache.value_codes)


# --- round trips --------------------------------------------------------------------------------


@pytest.mark.parametrize("config", ROUND_TRIP, ids=lambda config: config.name)
@pytest.mark.parametrize("case", CASES)
def test_round_trip(config: AttentionConfig, case: str) -> None:
    w = config.window
    for context in (1, 9, 2 * w, 2 * w + 1, 5 * w - 3):
        cache = build(config, case, context, context)
        regions = (
            pack_base_blocks(cache.closed, config),
            pack_chunks(cache.closed, config),
            pack_tail(cache.tail, context, config),
        )
        sizes = KVFormat(config).region_bytes(context)
        assert [len(region) for region in regions] == list(sizes.values())
        assert same(unpack_cache(*regions, context, config), cache)


@pytest.mark.parametrize("config", ROUND_TRIP, ids=lambda config: config.name)
@pytest.mark.parametrize("mode", [Mode.DENSE8, Mode.DENSE16])
def test_dense_round_trip(config: AttentionConfig, mode: Mode, seed: int) -> None:
    """Every code is possible, the one below the smallest that ``dense_cache`` makes as well."""
    print(f"seed {seed}")
    generator = torch.Generator().manual_seed(seed)
    end = 1 << 8 * mode.code_bytes - 1
    scale = torch.tensor(0)
    for context in (1, 7, 8, 9, 2 * config.window + 1, config.max_context):
        shape = (2, context, config.head_dim)
        keys, values = torch.randint(-end, end, shape, generator=generator)
        region = pack_dense(DenseCache(mode, keys, values, scale, scale), config)
        assert len(region) == KVFormat(config).region_bytes(context, mode)["tail"]
        # Nothing is padding but absent tokens.
        per_token = 2 * config.head_dim * mode.code_bytes
        assert len(region) == -(-context // config.chunk) * config.chunk * per_token
        for found, codes in zip(
            unpack_dense(region, context, mode, config), (keys, values), strict=True
        ):
            assert found.dtype == torch.int64
            assert torch.equal(found, codes)


def test_dense_errors() -> None:
    region = pack_dense(hand_dense(Mode.DENSE16), TINY)
    for data, context, mode, message in (
        (region[:-1], 9, Mode.DENSE16, "dense region must have 2048 bytes, not 2047"),
        (region + b"\0", 16, Mode.DENSE16, "dense region must have 2048 bytes, not 2049"),
        (region, 8, Mode.DENSE16, "dense region must have 1024 bytes, not 2048"),
        (region, 17, Mode.DENSE16, "dense region must have 3072 bytes, not 2048"),
        (region, 9, Mode.DENSE8, "dense region must have 1024 bytes, not 2048"),
        (b"", 1, Mode.DENSE8, "dense region must have 512 bytes, not 0"),
    ):
        with pytest.raises(RecordError, match=f"^{message}$"):
            unpack_dense(data, context, mode, TINY)


def test_record_errors() -> None:
    cache = build(TINY, "random", 33, 1)
    base = pack_base_blocks(cache.closed, TINY)
    chunk = pack_chunks(cache.closed, TINY)
    tail = pack_tail(cache.tail, 33, TINY)
    with pytest.raises(RecordError, match=r"^base region must have 320 bytes, not 319$"):
        unpack_cache(base[:-1], chunk, tail, 33, TINY)
    with pytest.raises(RecordError, match=r"^chunk region must have 640 bytes, not 0$"):
        unpack_cache(base, b"", tail, 33, TINY)
    with pytest.raises(RecordError, match=r"^tail region must have 3584 bytes, not 3585$"):
        unpack_cache(base, chunk, tail + b"\0", 33, TINY)
    with pytest.raises(RecordError, match=r"^tail must have 18 tokens at context 34, not 17$"):
        pack_tail(cache.tail, 34, TINY)
    with pytest.raises(RecordError, match=r"^delta mask must have 4 ones, not 16$"):
        unpack_cache(base, chunk[:128] + b"\xff\xff" + chunk[130:], tail, 33, TINY)
    mask = cache.closed.delta_mask.clone()
    mask[0, 0, 0, 0] = 0
    with pytest.raises(RecordError, match=r"^delta mask must have 4 ones, not 0$"):
        pack_chunks(replace(cache.closed, delta_mask=mask), TINY)


# --- image --------------------------------------------------------------------------------------


def test_image() -> None:
    image = MemoryImage(TINY)
    caches = [build(TINY, "random", context, context) for context in (33, 7, 100)]
    first = image.place(caches[0])
    # 320 B of base keys, a group of 640 B, 4 tail blocks of 896 B.
    assert first == Placement(33, base_address=0, chunk_address=320, tail_address=960)
    assert len(image.data) == 960 + 4 * 896
    second = image.place(caches[1], gap=33)
    # 33 bytes are rounded up to 64 before each region; the regions of closed tokens are empty.
    assert (second.base_address, second.chunk_address, second.tail_address) == (
        4608,
        4672,
        4736,
    )
    assert image.data[4544:4736] == b"\xff" * 192
    third = image.place(caches[2])
    for placement, cache in zip((first, second, third), caches, strict=True):
        assert same(image.read(placement), cache)
        for address in (placement.base_address, placement.chunk_address, placement.tail_address):
            assert address % 32 == 0
    full = image.full()
    assert len(full) == TINY.memory_bytes
    assert full[: len(image.data)] == image.data
    assert set(full[len(image.data) :]) == {0xFF}


def test_image_of_all_modes() -> None:
    """A dense cache is one region, burst-aligned, at its tail address; others lie around it."""
    image = MemoryImage(TINY)
    compressed = [build(TINY, "random", context, context) for context in (7, 33)]
    tensors = CASES["random"](TINY, 9, 1)
    first = image.place(compressed[0])
    end = 896
    found = {}
    for mode, size in ((Mode.DENSE8, 1024), (Mode.DENSE16, 2048)):
        cache = dense_cache(tensors.keys, tensors.values, mode, TINY)
        found[mode] = cache, image.place(cache, gap=1)
        # One byte of gap is rounded up to a burst.
        assert found[mode][1] == Placement(9, 0, 0, tail_address=end + 32, mode=mode)
        end += 32 + size
        assert len(image.data) == end
    second = image.place(compressed[1])
    assert same(image.read(first), compressed[0])
    assert same(image.read(second), compressed[1])
    assert first.mode == second.mode == Mode.KVO
    for mode, (cache, placement) in found.items():
        start = placement.tail_address
        region = bytes(image.data[start : start + len(pack_dense(cache, TINY))])
        keys, values = unpack_dense(region, 9, mode, TINY)
        assert torch.equal(keys, cache.key_codes)
        assert torch.equal(values, cache.value_codes)
    before = bytes(image.data)
    small = MemoryImage(replace(TINY, memory_bytes=4096), fill=0)
    big = dense_cache(torch.ones(40, 32), torch.ones(40, 32), Mode.DENSE16, TINY)
    with pytest.raises(MemoryImageError, match=r"^image must fit memory_bytes 4096, not 5120$"):
        small.place(big)
    assert not small.data
    assert image.data == before


def test_image_errors() -> None:
    small = replace(TINY, memory_bytes=8192)
    image = MemoryImage(small, fill=0)
    image.place(build(small, "random", 33, 0))
    before = bytes(image.data)
    with pytest.raises(MemoryImageError, match=r"^image must fit memory_bytes 8192, not 9088$"):
        image.place(build(small, "random", 33, 1))
    assert image.data == before
    with pytest.raises(MemoryImageError, match=r"^fill must be from 0 to 255, not 256$"):
        MemoryImage(small, fill=256)


# --- jobs ---------------------------------------------------------------------------------------

JOB = JobDescriptor(
    job_id=0x1234,
    config_hash=0xDEADBEEF,
    layer=3,
    kv_head=1,
    mode=2,
    context=0x21,
    base_address=0x40,
    chunk_address=0x180,
    tail_address=0x480,
    value_scale=0x3800,
    query_scale=(0x3C00, 0x0001),
)


def test_job_by_hand() -> None:
    payload = JOB.pack(TINY)
    # Most significant field first: scales of rows 1 and 0 and of values, addresses, context, mode,
    # head, layer ...
    by_hand = "0001 3C00 3800 00000480 00000180 00000040 0021 02 01 03 DEADBEEF 1234"
    assert payload == int(by_hand.replace(" ", ""), 16)
    assert JobDescriptor.unpack(payload, TINY) == JOB


@pytest.mark.parametrize("rows", [1, 4])
def test_job_rows(rows: int) -> None:
    config = replace(TINY, rows=rows)
    job = replace(JOB, query_scale=tuple(range(1, rows + 1)))
    assert JobDescriptor.unpack(job.pack(config), config) == job


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"job_id": 1 << 16}, "job_id must have 16 bits, not 0x10000"),
        ({"layer": -1}, "layer must have 8 bits, not -0x1"),
        ({"mode": 256}, "mode must have 8 bits, not 0x100"),
        ({"value_scale": 1 << 16}, "value_scale must have 16 bits, not 0x10000"),
        ({"tail_address": 1 << 32}, "tail_address must have 32 bits, not 0x100000000"),
        ({"query_scale": (1,)}, "query_scale must have 2 rows, not 1"),
        ({"query_scale": (1, 1 << 16)}, "query_scale must have 16 bits, not 0x10000"),
    ],
)
def test_job_errors(change: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        replace(JOB, **change).pack(TINY)  # type: ignore[arg-type]


def test_job_at() -> None:
    _, scale = quantise_query(torch.eye(2, 32))
    job = JobDescriptor.at(Placement(33, 0, 320, 1088), scale, TINY, job_id=7, layer=2, kv_head=1)
    assert job.config_hash == TINY.config_hash
    assert (job.context, job.base_address, job.chunk_address, job.tail_address) == (
        33,
        0,
        320,
        1088,
    )
    assert job.query_scale == tuple(scale.tolist())
    assert (job.job_id, job.layer, job.kv_head) == (7, 2, 1)
    assert (job.mode, job.value_scale) == (0, 0)


def test_dense_job_at() -> None:
    """The mode is that of the placement; the scale of the values goes with the descriptor."""
    _, scale = quantise_query(torch.eye(2, 32))
    placement = Placement(9, 0, 0, 864, Mode.DENSE8)
    job = JobDescriptor.at(placement, scale, TINY, job_id=1, value_scale=0x3800)
    assert (job.mode, job.value_scale, job.context, job.tail_address) == (1, 0x3800, 9, 864)
    assert JobDescriptor.unpack(job.pack(TINY), TINY) == job


def test_query_beats_by_hand() -> None:
    codes = torch.zeros(2, 32, dtype=torch.int64)
    codes[0, :8] = torch.tensor([1, -1, 2047, -2047, 0, 0, 0, 16])
    codes[1, 31] = -2
    beats = query_beats(codes)
    assert len(beats) == 8
    assert beats[0] == int("0010 0000 0000 0000 F801 07FF FFFF 0001".replace(" ", ""), 16)
    assert beats[7] == 0xFFFE << 112
    assert beats[1:7] == [0] * 6
    assert torch.equal(query_codes(beats, TINY), codes)


# --- golden data files --------------------------------------------------------------------------


def test_golden_data(tmp_path: Path) -> None:
    path = tmp_path / "case.npz"
    arrays: dict[str, NDArray[Any]] = {
        "file": np.arange(5),
        "image": np.zeros((2, 3), np.uint8),
        "case": np.array("sink"),
    }
    save_golden(path, TINY, 42, arrays)
    seed, loaded = load_golden(path, TINY)
    assert seed == 42
    assert loaded.keys() == arrays.keys()
    for name, array in arrays.items():
        assert loaded[name].dtype == array.dtype
        assert np.array_equal(loaded[name], array)
    first = path.read_bytes()
    save_golden(path, TINY, 42, arrays)
    assert path.read_bytes() == first


def test_golden_data_of_another_config(tmp_path: Path) -> None:
    path = tmp_path / "case.npz"
    save_golden(path, TINY, 0, {"x": np.arange(3)})
    message = (
        f"^config hash must be {LM.config_hash:#010x}, not {TINY.config_hash:#010x} "
        r"\(case\.npz\)$"
    )
    with pytest.raises(GoldenDataError, match=message):
        load_golden(path, LM)


def test_damaged_golden_data(tmp_path: Path) -> None:
    path = tmp_path / "case.npz"
    save_golden(path, TINY, 5, {"x": np.arange(3)})
    with np.load(path) as file:
        content = dict(file)
    for name, other in (
        ("data_x", np.arange(1, 4)),
        ("seed", np.array(6)),
        ("data_y", np.arange(2)),
    ):
        np.savez(path, **{**content, name: other})
        with pytest.raises(
            GoldenDataError, match=r"^checksum must be [0-9a-f]{64}, not [0-9a-f]{64}"
        ):
            load_golden(path, TINY)
    renamed = {("data_y" if name == "data_x" else name): array for name, array in content.items()}
    np.savez(path, **renamed)
    with pytest.raises(GoldenDataError, match=r"^checksum must be [0-9a-f]{64}, not [0-9a-f]{64}"):
        load_golden(path, TINY)
    np.savez(path, x=np.arange(3))
    with pytest.raises(GoldenDataError, match=r"^case.npz must be an intact golden data file: "):
        load_golden(path, TINY)
    for damage in (b"", b"nothing", b"PK\x03\x04" + bytes(40)):
        path.write_bytes(damage)
        with pytest.raises(
            GoldenDataError, match=r"^case.npz must be an intact golden data file: "
        ):
            load_golden(path, TINY)
    with pytest.raises(FileNotFoundError):
        load_golden(tmp_path / "missing.npz", TINY)


def test_every_flipped_byte_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "case.npz"
    save_golden(path, TINY, 5, {"x": np.arange(64)})
    whole = path.read_bytes()
    good = load_golden(path, TINY)[1]["x"]
    for position in range(0, len(whole), 7):
        torn = bytearray(whole)
        torn[position] ^= 0x10
        path.write_bytes(torn)
        try:
            seed, arrays = load_golden(path, TINY)
        except GoldenDataError:
            continue
        # Unused header fields of the archive may differ, the content may not.
        assert seed == 5
        assert list(arrays) == ["x"]
        assert np.array_equal(arrays["x"], good)


def test_golden_data_errors(tmp_path: Path) -> None:
    path = tmp_path / "case.npz"
    with pytest.raises(GoldenDataError, match=r"^array name must not be 'seed'$"):
        save_golden(path, TINY, 0, {"seed": np.arange(3)})
    with pytest.raises(
        GoldenDataError, match=r"^array 'x' must hold numbers or text, not objects$"
    ):
        save_golden(path, TINY, 0, {"x": np.array([{}], dtype=object)})
