"""Packs and unpacks the records of one KV head (docs/contracts.md, section 5).

The functions take a cache without leading dimensions: closed windows ``[windows, ...]`` and tail
``[t, ...]``. Packing answers the bytes of a whole region; ``unpack_cache`` is the exact inverse of
the three packing functions.
"""

import numpy as np
import torch
from torch import Tensor

from golden.memory_image.key_blocks import key_sections, unpack_keys
from golden.memory_image.packing import (
    Integers,
    RecordError,
    flat_rows,
    fp16_bytes,
    fp16_patterns,
    from_bits,
    pad,
    region_blocks,
    to_bits,
    to_tensor,
)
from golden.memory_image.tail_records import unpack_tail
from golden.reference import CompressedCache, CompressedWindow, Quantised, SlotCache
from hw.config import AttentionConfig
from hw.formats import FP16_BITS, KVFormat, Mode


def pack_base_blocks(closed: CompressedWindow, config: AttentionConfig) -> bytes:
    """The base region: the base keys of C chunks to a key block."""
    keys = Quantised(
        closed.base_codes.flatten(0, 1),
        closed.base_scale.flatten(0, 1),
        closed.base_minimum.flatten(0, 1),
    )
    blocks = np.concatenate(key_sections(keys, config), 1)
    return pad(blocks, KVFormat(config).base_block_bytes).tobytes()


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
    elements = [to_bits(kept, config.key_delta_bits), to_bits(pair, FP16_BITS)]
    if config.mask_scope == "token":
        elements.insert(0, to_bits(mask, 1))
        masks = np.zeros((len(mask), 0), np.uint8)
    else:
        masks = np.packbits(flat_rows(to_bits(mask[:, 0], 1)), -1, bitorder="little")
    bits = np.packbits(flat_rows(np.concatenate(elements, -1)), -1, bitorder="little")
    deltas = pad(np.concatenate((pad(masks, layout.delta_mask_bytes), bits), 1), layout.delta_bytes)

    channels = (
        to_bits(closed.value_codes.flatten(0, 1).transpose(-1, -2).numpy(), config.value_bits),
        to_bits(closed.value_mask.flatten(0, 1).transpose(-1, -2).numpy(), 1),
        to_bits(closed.value_base.flatten(0, 1).unsqueeze(-1).numpy(), config.value_base_bits),
    )
    bits = flat_rows(np.concatenate(channels, -1))
    values = pad(np.packbits(bits, -1, bitorder="little"), layout.value_bytes)
    scales = torch.stack((closed.value_scale, closed.value_minimum), -1).flatten(0, 1).numpy()
    chunks = np.concatenate((deltas, values), 1)
    of_group = chunks.reshape(len(scales), config.group_chunks * layout.chunk_bytes)
    return np.concatenate((fp16_bytes(scales), of_group), 1).tobytes()


def _check_masks(mask: Integers, config: AttentionConfig) -> None:
    ones = mask.sum(-1)
    if (ones != config.key_keep).any():
        wrong = int(ones[ones != config.key_keep].flat[0])
        raise RecordError(f"delta mask must have {config.key_keep} ones, not {wrong}")
    if config.mask_scope == "chunk" and (mask != mask[:, :1]).any():
        raise RecordError("delta mask must be the same for every token of a chunk")


def _unpack_closed(
    base: bytes, chunk: bytes, chunks: int, config: AttentionConfig
) -> CompressedWindow:
    layout = KVFormat(config)
    blocks = region_blocks("base", base, -(-chunks // config.chunk), layout.base_block_bytes)
    code_at = layout.key_scale_bytes
    keys = unpack_keys(
        blocks[:, :code_at], blocks[:, code_at : code_at + layout.key_code_bytes], chunks, config
    )

    groups = region_blocks("chunk", chunk, chunks // config.group_chunks, layout.group_bytes)
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
    kept = from_bits(elements[..., code_at:pair_at], config.key_delta_bits)
    np.put_along_axis(codes, _kept(mask, config.key_keep), kept, -1)
    delta_pair = from_bits(elements[..., pair_at:], FP16_BITS)

    values = records[:, layout.delta_bytes :]
    bits = np.unpackbits(values[:, : layout.value_code_bytes], axis=-1, bitorder="little")
    bits = bits[:, : config.head_dim * layout.value_channel_bits]
    channels = bits.reshape(chunks, config.head_dim, layout.value_channel_bits)
    mask_at = others * config.value_bits
    base_at = mask_at + others
    value_pair = fp16_patterns(groups[:, : layout.value_scale_bytes])
    value_pair = value_pair.reshape(-1, config.head_dim, 2)

    window_chunks = config.window // config.chunk

    def windows(numbers: Integers, per_window: int) -> Tensor:
        return to_tensor(numbers.reshape(-1, per_window, *numbers.shape[1:]))

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
            from_bits(channels[..., base_at:], config.value_base_bits)[..., 0], window_chunks
        ),
        value_mask=windows(
            channels[..., mask_at:base_at].astype(np.int64).transpose(0, 2, 1), window_chunks
        ),
        value_codes=windows(
            from_bits(channels[..., :mask_at], config.value_bits).transpose(0, 2, 1), window_chunks
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
        tail=unpack_tail(tail, context, config, Mode.KVO),
    )


def unpack_slots(tail: bytes, context: int, config: AttentionConfig) -> SlotCache:
    """The cache of constant size with ``context`` live tokens whose region this is.

    Raises
    ------
    RecordError
        The region has another size than all slots.
    """
    return SlotCache(
        context=context,
        closed=_unpack_closed(b"", b"", 0, config),
        tail=unpack_tail(tail, context, config, Mode.SLOTS),
    )
