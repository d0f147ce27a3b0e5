"""Packs and unpacks the tail region of one KV head (docs/contracts.md, section 5)."""

import numpy as np
from torch import Tensor

from golden.memory_image.key_blocks import key_sections, unpack_keys
from golden.memory_image.packing import (
    Bytes,
    RecordError,
    blocks_of,
    byte_planes,
    flat_rows,
    fp16_bytes,
    fp16_patterns,
    from_byte_planes,
    pad,
    region_blocks,
    to_tensor,
)
from golden.reference import Tail
from hw.config import BURST_BYTES, AttentionConfig
from hw.formats import FP16_BITS, SALIENCY_BITS, KVFormat, Mode


def pack_tail(tail: Tail, context: int, config: AttentionConfig, mode: Mode = Mode.KVO) -> bytes:
    """The tail region of a cache at ``context`` tokens: a ring of tail blocks, or all slots.

    Per C tokens a key block with the saliency and the value scales, then a value block. Blocks that
    hold no token are zero.

    Raises
    ------
    RecordError
        The tail does not have as many tokens as it has at ``context``.
    """
    layout = KVFormat(config)
    _, tokens = layout.tokens(context, mode)
    if len(tail.saliency) != tokens:
        raise RecordError(
            f"tail must have {tokens} tokens at context {context}, not {len(tail.saliency)}"
        )
    saliency = flat_rows(blocks_of(tail.saliency, config).astype("<u4")).view(np.uint8)
    scales, key_codes = key_sections(tail.keys, config)
    value_scales = fp16_bytes(blocks_of(tail.value_scale, config))
    sections = (
        pad(saliency, layout.saliency_bytes),
        scales,
        pad(value_scales, layout.tail_scale_bytes),
    )
    header = pad(np.concatenate(sections, 1), layout.tail_header_bytes)
    values = _pack_value_tiles(tail.value_codes, config)
    size = layout.tail_block_bytes
    ring = np.zeros((layout.region_bytes(context, mode)["tail"] // size, size), np.uint8)
    ring[layout.tail_order(context, mode)] = np.concatenate((header, key_codes, values), 1)
    return ring.tobytes()


def unpack_tail(data: bytes, context: int, config: AttentionConfig, mode: Mode) -> Tail:
    """The inverse of ``pack_tail``.

    Raises
    ------
    RecordError
        The region has another size than ``context`` asks for.
    """
    layout = KVFormat(config)
    _, tokens = layout.tokens(context, mode)
    size = layout.tail_block_bytes
    ring = region_blocks("tail", data, layout.region_bytes(context, mode)["tail"] // size, size)
    blocks = ring[layout.tail_order(context, mode)]
    scale_at = layout.saliency_bytes
    value_scale_at = scale_at + layout.key_scale_bytes
    keys = unpack_keys(
        blocks[:, scale_at:value_scale_at],
        blocks[:, layout.tail_header_bytes : layout.tail_key_bytes],
        tokens,
        config,
    )
    saliency = blocks[:, : config.chunk * SALIENCY_BITS // 8]
    scale_bytes = config.chunk * FP16_BITS // 8
    value_scale = fp16_patterns(blocks[:, value_scale_at : value_scale_at + scale_bytes])
    return Tail(
        keys=keys,
        value_codes=_unpack_value_tiles(blocks[:, layout.tail_key_bytes :], config)[:tokens],
        value_scale=to_tensor(value_scale.reshape(-1)[:tokens]),
        saliency=to_tensor(
            np.ascontiguousarray(saliency).view("<u4").astype(np.int64).reshape(-1)[:tokens]
        ),
    )


def _pack_value_tiles(codes: Tensor, config: AttentionConfig) -> Bytes:
    """``[blocks, bytes]`` of tail value codes ``[tokens, d]``: tile after tile, token after token.

    A token's part of a tile is one burst of codes, lowest channel first.
    """
    planes = byte_planes(blocks_of(codes, config), config.tail_value_bits // 8)
    bursts = planes.reshape(len(planes), config.chunk, -1, BURST_BYTES)
    return flat_rows(bursts.swapaxes(1, 2))


def _unpack_value_tiles(blocks: Bytes, config: AttentionConfig) -> Tensor:
    """The inverse of ``_pack_value_tiles``: codes ``[blocks * C, d]``."""
    bursts = blocks.reshape(len(blocks), -1, config.chunk, BURST_BYTES).swapaxes(1, 2)
    planes = bursts.reshape(-1, config.head_dim, config.tail_value_bits // 8)
    return to_tensor(from_byte_planes(planes))
