"""Packs and unpacks the blocks of a dense cache (docs/contracts.md, section 5)."""

import numpy as np
from torch import Tensor

from golden.memory_image.packing import (
    Bytes,
    blocks_of,
    byte_planes,
    flat_rows,
    from_byte_planes,
    region_blocks,
    to_tensor,
)
from golden.reference import DenseCache
from hw.config import BEAT_BYTES, AttentionConfig
from hw.formats import KVFormat, Mode


def _key_bytes(codes: Tensor, mode: Mode, config: AttentionConfig) -> Bytes:
    """``[blocks, bytes]``: per token and 16 channels a beat for each byte plane, lowest first."""
    planes = mode.code_bytes
    split = byte_planes(blocks_of(codes, config), planes)
    beats = split.reshape(-1, config.chunk, config.head_dim // BEAT_BYTES, BEAT_BYTES, planes)
    return beats.swapaxes(-1, -2).reshape(len(beats), -1)


def pack_value_codes(codes: Tensor, bits: int, config: AttentionConfig) -> Bytes:
    """``[blocks, bytes]`` of signed codes ``[tokens, d]`` of 8 or 16 bits, as in a dense block.

    Quad of channels after quad, in it byte plane after plane, lowest first; per plane two beats of
    two channels with C tokens each.
    """
    planes = bits // 8
    blocks = blocks_of(codes, config)
    # [block, token, quad, pair of channels, channel of the pair, plane]
    quads = byte_planes(blocks, planes).reshape(
        len(blocks), config.chunk, config.head_dim // 4, 2, 2, planes
    )
    return flat_rows(quads.transpose(0, 2, 5, 3, 4, 1))


def unpack_value_codes(blocks: Bytes, bits: int, config: AttentionConfig) -> Tensor:
    """The inverse of ``pack_value_codes``: codes ``[blocks * C, d]``."""
    planes = bits // 8
    quads = blocks.reshape(len(blocks), config.head_dim // 4, planes, 2, 2, config.chunk)
    codes = from_byte_planes(quads.transpose(0, 5, 1, 3, 4, 2))
    return to_tensor(codes.reshape(-1, config.head_dim))


def pack_dense(cache: DenseCache, config: AttentionConfig) -> bytes:
    """The region of a dense cache: per C tokens the key codes, then the value codes."""
    keys = _key_bytes(cache.key_codes, cache.mode, config)
    values = pack_value_codes(cache.value_codes, 8 * cache.mode.code_bytes, config)
    return np.concatenate((keys, values), 1).tobytes()


def unpack_dense(
    region: bytes, context: int, mode: Mode, config: AttentionConfig
) -> tuple[Tensor, Tensor]:
    """Key and value codes ``[context, d]`` of a region that ``pack_dense`` made.

    Raises
    ------
    RecordError
        The region has another size than ``context`` asks for.
    """
    layout = KVFormat(config)
    key_bytes, value_bytes = layout.block_bytes(mode)
    size = key_bytes + value_bytes
    blocks = region_blocks(
        "dense", region, layout.region_bytes(context, mode)["tail"] // size, size
    )
    planes = mode.code_bytes
    beats = blocks[:, :key_bytes].reshape(
        len(blocks), config.chunk, config.head_dim // BEAT_BYTES, planes, BEAT_BYTES
    )
    keys = from_byte_planes(beats.swapaxes(-1, -2)).reshape(-1, config.head_dim)[:context]
    values = unpack_value_codes(blocks[:, key_bytes:], 8 * planes, config)[:context]
    return to_tensor(keys), values
