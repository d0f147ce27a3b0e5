"""The dense baselines: every token kept, as 8-bit or 16-bit signed integers.

One scale for the keys and one for the values of a (sequence, layer, KV head), as a host that knows
the whole cache would choose them. ``DENSE16`` moves the bytes of a cache in FP16.
"""

from dataclasses import dataclass

from torch import Tensor

from golden.reference.quantiser import symmetric_codes, symmetric_values
from hw.config import AttentionConfig
from hw.formats import Mode


@dataclass(frozen=True)
class DenseCache:
    """What the memory holds of one KV head, in integers (int64; scales FP16 patterns)."""

    mode: Mode
    #: Signed codes ``[T, d]``; an element is ``code * scale / 2**(8 * code_bytes - 1)``.
    key_codes: Tensor
    value_codes: Tensor
    #: Scalars.
    key_scale: Tensor
    value_scale: Tensor

    @property
    def context(self) -> int:
        """Tokens, the newest included."""
        return len(self.key_codes)


def dense_cache(keys: Tensor, values: Tensor, mode: Mode, config: AttentionConfig) -> DenseCache:
    """The cache of ``keys`` and ``values``, ``[T, d]`` each, in a dense mode.

    Raises
    ------
    ValueError
        T or d do not fit ``config``.
    """
    config.check_cache(*keys.shape)
    bits = 8 * mode.code_bytes
    key_codes, key_scale = symmetric_codes(keys.flatten(), bits)
    value_codes, value_scale = symmetric_codes(values.flatten(), bits)
    return DenseCache(
        mode=mode,
        key_codes=key_codes.view_as(keys),
        value_codes=value_codes.view_as(values),
        key_scale=key_scale,
        value_scale=value_scale,
    )


def dequantise_dense(cache: DenseCache) -> tuple[Tensor, Tensor]:
    """Keys and values, two tensors ``[T, d]``."""
    bits = 8 * cache.mode.code_bytes
    return (
        symmetric_values(cache.key_codes.flatten(), cache.key_scale, bits).view_as(cache.key_codes),
        symmetric_values(cache.value_codes.flatten(), cache.value_scale, bits).view_as(
            cache.value_codes
        ),
    )
