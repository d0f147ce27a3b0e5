"""Packs and unpacks the records of one KV head (docs/contracts.md, section 5).

The functions take a cache without leading dimensions: closed windows ``[windows, ...]`` and tail
``[t, ...]``. Packing answers the bytes of a whole region; ``unpack_cache`` is the exact inverse of
the three packing functions.
"""

from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from golden.reference import CompressedCache, CompressedWindow, Quantised, Tail
from hw.config import BURST_BYTES, AttentionConfig
from hw.formats import FP16_BITS, SALIENCY_BITS, KVFormat

Bytes = NDArray[np.uint8]
Integers = NDArray[np.int64]


class RecordError(ValueError):
    """A region has the wrong size or breaks a rule of its records."""


def _rows(x: NDArray[Any]) -> NDArray[Any]:
    """``[n, ...]`` as ``[n, m]``; unlike ``reshape(n, -1)`` also for n = 0."""
    return x.reshape(len(x), prod(x.shape[1:]))


def _bits(numbers: Integers, width: int) -> Bytes:
    """``[..., n]`` unsigned numbers as ``[..., n * width]`` bits, least significant first."""
    split = (numbers[..., None] >> np.arange(width)) & 1
    return split.reshape(*numbers.shape[:-1], numbers.shape[-1] * width).astype(np.uint8)


def _numbers(bits: Bytes, width: int) -> Integers:
    """The inverse of ``_bits``."""
    split = bits.reshape(*bits.shape[:-1], bits.shape[-1] // width, width).astype(np.int64)
    return (split << np.arange(width)).sum(-1)


def _fp16_bytes(patterns: Integers) -> Bytes:
    """``[n, ...]`` FP16 patterns as ``[n, bytes]``, little-endian."""
    return _rows(patterns.astype("<u2")).view(np.uint8)


def _fp16_patterns(data: Bytes) -> Integers:
    """``[n, bytes]`` as ``[n, bytes / 2]`` FP16 patterns."""
    return np.ascontiguousarray(data).view("<u2").astype(np.int64)


def _pad(data: Bytes, size: int) -> Bytes:
    """``[n, bytes]`` with zeros up to ``[n, size]``."""
    return np.pad(data, ((0, 0), (0, size - data.shape[1])))


def blocks_of(x: Tensor, config: AttentionConfig) -> Integers:
    """``[n, ...]`` as ``[blocks, C, ...]``; absent tokens are zero."""
    numbers = x.numpy()
    absent = -len(numbers) % config.chunk
    padded = np.pad(numbers, ((0, absent), *((0, 0),) * (numbers.ndim - 1)))
    return padded.reshape(-1, config.chunk, *numbers.shape[1:])


def _key_sections(keys: Quantised, config: AttentionConfig) -> tuple[Bytes, Bytes]:
    """Scale section and code section of the key blocks of ``keys``, ``[blocks, bytes]`` each."""
    layout = KVFormat(config)
    pairs = np.stack((blocks_of(keys.scale, config), blocks_of(keys.minimum, config)), -1)
    codes = _rows(_bits(blocks_of(keys.codes, config), config.key_bits))
    scales = _pad(_fp16_bytes(pairs), layout.key_scale_bytes)
    return scales, np.packbits(codes, -1, bitorder="little")


def pack_base_blocks(closed: CompressedWindow, config: AttentionConfig) -> bytes:
    """The base region: the base keys of C chunks to a key block."""
    keys = Quantised(
        closed.base_codes.flatten(0, 1),
        closed.base_scale.flatten(0, 1),
        closed.base_minimum.flatten(0, 1),
    )
    blocks = np.concatenate(_key_sections(keys, config), 1)
    return _pad(blocks, KVFormat(config).base_block_bytes).tobytes()


def pack_tail(tail: Tail, context: int, config: AttentionConfig) -> bytes:
    """The tail region of a cache at ``context`` tokens: a ring of tail blocks.

    Per C tokens a key block with the saliency and the value scales, then a value block. Blocks that
    hold no token are zero.

    Raises
    ------
    RecordError
        The tail does not have as many tokens as it has at ``context``.
    """
    layout = KVFormat(config)
    _, tokens = layout.tokens(context)
    if len(tail.saliency) != tokens:
        raise RecordError(
            f"tail must have {tokens} tokens at context {context}, not {len(tail.saliency)}"
        )
    saliency = _rows(blocks_of(tail.saliency, config).astype("<u4")).view(np.uint8)
    scales, key_codes = _key_sections(tail.keys, config)
    value_scales = _fp16_bytes(blocks_of(tail.value_scale, config))
    sections = (
        _pad(saliency, layout.saliency_bytes),
        scales,
        _pad(value_scales, layout.tail_scale_bytes),
    )
    header = _pad(np.concatenate(sections, 1), layout.tail_header_bytes)
    values = _pack_value_tiles(tail.value_codes, config)
    size = layout.tail_block_bytes
    ring = np.zeros((layout.region_bytes(context)["tail"] // size, size), np.uint8)
    ring[layout.tail_order(context)] = np.concatenate((header, key_codes, values), 1)
    return ring.tobytes()


def _pack_value_tiles(codes: Tensor, config: AttentionConfig) -> Bytes:
    """``[blocks, bytes]`` of tail value codes ``[tokens, d]``: tile after tile, token after token.

    A token's part of a tile is one burst of codes, lowest channel first.
    """
    planes = byte_planes(blocks_of(codes, config), config.tail_value_bits // 8)
    bursts = planes.reshape(len(planes), config.chunk, -1, BURST_BYTES)
    return _rows(bursts.swapaxes(1, 2))


def _unpack_value_tiles(blocks: Bytes, config: AttentionConfig) -> Tensor:
    """The inverse of ``_pack_value_tiles``: codes ``[blocks * C, d]``."""
    bursts = blocks.reshape(len(blocks), -1, config.chunk, BURST_BYTES).swapaxes(1, 2)
    planes = bursts.reshape(-1, config.head_dim, config.tail_value_bits // 8)
    return _tensor(from_byte_planes(planes))


def byte_planes(codes: Integers, count: int) -> Bytes:
    """Signed ``codes`` of ``count`` bytes as two's complement, ``[..., count]``, lowest first."""
    return ((codes[..., None] >> (8 * np.arange(count))) & 255).astype(np.uint8)


def from_byte_planes(planes: Bytes) -> Integers:
    """The inverse of ``byte_planes``."""
    count = planes.shape[-1]
    unsigned = (planes.astype(np.int64) << (8 * np.arange(count))).sum(-1)
    sign = 1 << (8 * count - 1)
    return (unsigned ^ sign) - sign


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
    return _rows(quads.transpose(0, 2, 5, 3, 4, 1))


def unpack_value_codes(blocks: Bytes, bits: int, config: AttentionConfig) -> Tensor:
    """The inverse of ``pack_value_codes``: codes ``[blocks * C, d]``."""
    planes = bits // 8
    quads = blocks.reshape(len(blocks), config.head_dim // 4, planes, 2, 2, config.chunk)
    codes = from_byte_planes(quads.transpose(0, 5, 1, 3, 4, 2))
    return _tensor(codes.reshape(-1, config.head_dim))


def _kept(mask: Integers, count: int) -> Integers:
    """The indices of the ``count`` ones of the last dimension, lowest first."""
    return np.argsort(1 - mask, -1, kind="stable")[..., :count]


def pack_chunks(closed: CompressedWindow, config: AttentionConfig) -> bytes:
    """The chunk region: per value group its scales, then per chunk deltas and value codes.

    Raises
    ------
    RecordError
        A delta mask does not have exactly ``key_keep`` ones, or the tokens of a chunk that share a
        mask disagree about it.
    """
    layout = KVFormat(config)
    mask = closed.delta_mask.flatten(0, 1).numpy()
    _check_masks(mask, config)
    codes = closed.delta_codes.flatten(0, 1).numpy()
    pair = torch.stack((closed.delta_scale, closed.delta_minimum), -1).flatten(0, 1).numpy()
    kept = np.take_along_axis(codes, _kept(mask, config.key_keep), -1)
    elements = [_bits(kept, config.key_delta_bits), _bits(pair, FP16_BITS)]
    if config.mask_scope == "token":
        elements.insert(0, _bits(mask, 1))
        masks = np.zeros((len(mask), 0), np.uint8)
    else:
        masks = np.packbits(_rows(_bits(mask[:, 0], 1)), -1, bitorder="little")
    bits = np.packbits(_rows(np.concatenate(elements, -1)), -1, bitorder="little")
    deltas = _pad(
        np.concatenate((_pad(masks, layout.delta_mask_bytes), bits), 1), layout.delta_bytes
    )

    channels = (
        _bits(closed.value_codes.flatten(0, 1).transpose(-1, -2).numpy(), config.value_bits),
        _bits(closed.value_mask.flatten(0, 1).transpose(-1, -2).numpy(), 1),
        _bits(closed.value_base.flatten(0, 1).unsqueeze(-1).numpy(), config.value_base_bits),
    )
    bits = _rows(np.concatenate(channels, -1))
    values = _pad(np.packbits(bits, -1, bitorder="little"), layout.value_bytes)
    scales = torch.stack((closed.value_scale, closed.value_minimum), -1).flatten(0, 1).numpy()
    chunks = np.concatenate((deltas, values), 1)
    of_group = chunks.reshape(len(scales), config.group_chunks * layout.chunk_bytes)
    return np.concatenate((_fp16_bytes(scales), of_group), 1).tobytes()


def _check_masks(mask: Integers, config: AttentionConfig) -> None:
    ones = mask.sum(-1)
    if (ones != config.key_keep).any():
        wrong = int(ones[ones != config.key_keep].flat[0])
        raise RecordError(f"delta mask must have {config.key_keep} ones, not {wrong}")
    if config.mask_scope == "chunk" and (mask != mask[:, :1]).any():
        raise RecordError("delta mask must be the same for every token of a chunk")


def _region(name: str, data: bytes, count: int, size: int) -> Bytes:
    if len(data) != count * size:
        raise RecordError(f"{name} region must have {count * size} bytes, not {len(data)}")
    return np.frombuffer(data, np.uint8).reshape(count, size)


def _tensor(numbers: Integers) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(numbers))


def _unpack_keys(scales: Bytes, codes: Bytes, tokens: int, config: AttentionConfig) -> Quantised:
    used = config.chunk * config.groups * 4
    pairs = _fp16_patterns(scales[:, :used]).reshape(-1, config.groups, 2)[:tokens]
    bits = np.unpackbits(codes, axis=-1, bitorder="little")
    numbers = _numbers(bits, config.key_bits).reshape(-1, config.head_dim)[:tokens]
    return Quantised(_tensor(numbers), _tensor(pairs[..., 0]), _tensor(pairs[..., 1]))


def _unpack_tail(data: bytes, context: int, config: AttentionConfig) -> Tail:
    layout = KVFormat(config)
    _, tokens = layout.tokens(context)
    size = layout.tail_block_bytes
    ring = _region("tail", data, layout.region_bytes(context)["tail"] // size, size)
    blocks = ring[layout.tail_order(context)]
    scale_at = layout.saliency_bytes
    value_scale_at = scale_at + layout.key_scale_bytes
    keys = _unpack_keys(
        blocks[:, scale_at:value_scale_at],
        blocks[:, layout.tail_header_bytes : layout.tail_key_bytes],
        tokens,
        config,
    )
    saliency = blocks[:, : config.chunk * SALIENCY_BITS // 8]
    scale_bytes = config.chunk * FP16_BITS // 8
    value_scale = _fp16_patterns(blocks[:, value_scale_at : value_scale_at + scale_bytes])
    return Tail(
        keys=keys,
        value_codes=_unpack_value_tiles(blocks[:, layout.tail_key_bytes :], config)[:tokens],
        value_scale=_tensor(value_scale.reshape(-1)[:tokens]),
        saliency=_tensor(
            np.ascontiguousarray(saliency).view("<u4").astype(np.int64).reshape(-1)[:tokens]
        ),
    )


def _unpack_closed(
    base: bytes, chunk: bytes, chunks: int, config: AttentionConfig
) -> CompressedWindow:
    layout = KVFormat(config)
    blocks = _region("base", base, -(-chunks // config.chunk), layout.base_block_bytes)
    code_at = layout.key_scale_bytes
    keys = _unpack_keys(
        blocks[:, :code_at], blocks[:, code_at : code_at + layout.key_code_bytes], chunks, config
    )

    groups = _region("chunk", chunk, chunks // config.group_chunks, layout.group_bytes)
    records = groups[:, layout.value_scale_bytes :].reshape(chunks, layout.chunk_bytes)
    others = config.chunk - 1
    bits = np.unpackbits(records[:, : layout.delta_bytes], axis=-1, bitorder="little")
    elements_at = 8 * layout.delta_mask_bytes
    elements = bits[
        :, elements_at : elements_at + layout.delta_elements * layout.delta_element_bits
    ]
    elements = elements.reshape(chunks, others, config.groups, layout.delta_element_bits)
    if config.mask_scope == "token":
        code_at, mask_bits = config.group, elements[..., : config.group]
    else:
        shared = bits[:, : config.head_dim].reshape(chunks, 1, config.groups, config.group)
        code_at, mask_bits = 0, shared.repeat(others, 1)
    mask = mask_bits.astype(np.int64)
    _check_masks(mask, config)
    pair_at = code_at + config.key_delta_bits * config.key_keep
    codes = np.zeros_like(mask)
    kept = _numbers(elements[..., code_at:pair_at], config.key_delta_bits)
    np.put_along_axis(codes, _kept(mask, config.key_keep), kept, -1)
    delta_pair = _numbers(elements[..., pair_at:], FP16_BITS)

    values = records[:, layout.delta_bytes :]
    bits = np.unpackbits(values[:, : layout.value_code_bytes], axis=-1, bitorder="little")
    bits = bits[:, : config.head_dim * layout.value_channel_bits]
    channels = bits.reshape(chunks, config.head_dim, layout.value_channel_bits)
    mask_at = others * config.value_bits
    base_at = mask_at + others
    value_pair = _fp16_patterns(groups[:, : layout.value_scale_bytes])
    value_pair = value_pair.reshape(-1, config.head_dim, 2)

    window_chunks = config.window // config.chunk

    def windows(numbers: Integers, per_window: int) -> Tensor:
        return _tensor(numbers.reshape(-1, per_window, *numbers.shape[1:]))

    group_count = config.window // config.value_group
    return CompressedWindow(
        base_codes=windows(keys.codes.numpy(), window_chunks),
        base_scale=windows(keys.scale.numpy(), window_chunks),
        base_minimum=windows(keys.minimum.numpy(), window_chunks),
        delta_mask=windows(mask, window_chunks),
        delta_codes=windows(codes, window_chunks),
        delta_scale=windows(delta_pair[..., 0], window_chunks),
        delta_minimum=windows(delta_pair[..., 1], window_chunks),
        value_base=windows(
            _numbers(channels[..., base_at:], config.value_base_bits)[..., 0], window_chunks
        ),
        value_mask=windows(
            channels[..., mask_at:base_at].astype(np.int64).transpose(0, 2, 1), window_chunks
        ),
        value_codes=windows(
            _numbers(channels[..., :mask_at], config.value_bits).transpose(0, 2, 1), window_chunks
        ),
        value_scale=windows(value_pair[..., 0], group_count),
        value_minimum=windows(value_pair[..., 1], group_count),
    )


def unpack_cache(
    base: bytes, chunk: bytes, tail: bytes, context: int, config: AttentionConfig
) -> CompressedCache:
    """The cache of ``context`` tokens whose three regions these are.

    Raises
    ------
    RecordError
        A region has another size than ``context`` asks for, or a delta mask does not have
        ``key_keep`` ones.
    """
    closed = config.closed_tokens(context)
    return CompressedCache(
        context=context,
        closed=_unpack_closed(base, chunk, closed // config.chunk, config),
        tail=_unpack_tail(tail, context, config),
    )
