"""Key blocks: C 8-bit keys with their scales, of base keys and of the tail (section 5)."""

import numpy as np

from golden.memory_image.packing import (
    Bytes,
    blocks_of,
    flat_rows,
    fp16_bytes,
    fp16_patterns,
    from_bits,
    pad,
    to_bits,
    to_tensor,
)
from golden.reference import Quantised
from hw.config import AttentionConfig
from hw.formats import KVFormat


def key_sections(keys: Quantised, config: AttentionConfig) -> tuple[Bytes, Bytes]:
    """Scale section and code section of the key blocks of ``keys``, ``[blocks, bytes]`` each."""
    layout = KVFormat(config)
    pairs = np.stack((blocks_of(keys.scale, config), blocks_of(keys.minimum, config)), -1)
    codes = flat_rows(to_bits(blocks_of(keys.codes, config), config.key_bits))
    scales = pad(fp16_bytes(pairs), layout.key_scale_bytes)
    return scales, np.packbits(codes, -1, bitorder="little")


def unpack_keys(scales: Bytes, codes: Bytes, tokens: int, config: AttentionConfig) -> Quantised:
    """The first ``tokens`` keys of blocks whose sections these are, ``[blocks, bytes]`` each."""
    used = config.chunk * config.groups * 4
    pairs = fp16_patterns(scales[:, :used]).reshape(-1, config.groups, 2)[:tokens]
    bits = np.unpackbits(codes, axis=-1, bitorder="little")
    numbers = from_bits(bits, config.key_bits).reshape(-1, config.head_dim)[:tokens]
    return Quantised(to_tensor(numbers), to_tensor(pairs[..., 0]), to_tensor(pairs[..., 1]))
