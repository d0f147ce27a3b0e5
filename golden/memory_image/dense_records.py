"""Packs and unpacks the blocks of a dense cache (docs/contracts.md, section 5)."""

import numpy as np
import torch
from torch import Tensor

from golden.memory_image.records import (
    Bytes,
    RecordError,
    blocks_of,
    byte_planes,
    from_byte_planes,
    pack_value_codes,
    unpack_value_codes,
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
    size = layout.region_bytes(context, mode)["tail"]
    if len(region) != size:
        raise RecordError(f"dense region must have {size} bytes, not {len(region)}")
    key_bytes, value_bytes = layout.block_bytes(mode)
    blocks = np.frombuffer(region, np.uint8).reshape(-1, key_bytes + value_bytes)
    planes = mode.code_bytes
    beats = blocks[:, :key_bytes].reshape(
        len(blocks), config.chunk, config.head_dim // BEAT_BYTES, planes, BEAT_BYTES
    )
    keys = from_byte_planes(beats.swapaxes(-1, -2)).reshape(-1, config.head_dim)[:context]
    values = unpack_value_codes(blocks[:, key_bytes:], 8 * planes, config)[:context]
    return torch.from_numpy(np.ascontiguousarray(keys)), values
