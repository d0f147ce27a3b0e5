"""The cache of a KV head: closed windows, and the tail through which every token enters.

Every function takes any leading dimensions (sequence, layer, KV head), ``...`` in the shapes. ``t``
is the number of tail tokens, ``G`` the key group.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from golden.reference.compress import CompressedWindow, compress_window
from golden.reference.quantiser import (
    Quantised,
    dequantise,
    quantise,
    symmetric_codes,
    symmetric_values,
)
from hw.config import AttentionConfig
from hw.constants import RECEIVED_FRACTION
from hw.formats import SALIENCY_BITS, Mode


@dataclass(frozen=True)
class Tail:
    """Tokens that no closed window holds, in integers (int64; scales and minima FP16 patterns)."""

    #: Codes of ``key_bits`` bits ``[..., t, d]``, scales and minima ``[..., t, d/G]``.
    keys: Quantised
    #: Signed codes of ``tail_value_bits`` bits, ``[..., t, d]``.
    value_codes: Tensor
    #: ``[..., t]``: a value is ``code * scale / 2**(tail_value_bits - 1)``.
    value_scale: Tensor
    #: ``[..., t]``: attention that the token has received so far, unsigned in units of ``2**-20``.
    saliency: Tensor


@dataclass(frozen=True)
class CompressedCache:
    """What the memory holds of one KV head (or of several, as leading dimensions)."""

    #: Tokens, the newest included.
    context: int
    #: Closed windows, ``[..., windows]`` leading; ``windows`` may be 0.
    closed: CompressedWindow
    tail: Tail

    @property
    def mode(self) -> Mode:
        """What a job on this cache says."""
        return Mode.KVO


def fixed_saliency(sums: Tensor) -> Tensor:
    """Saliency sums as the tail holds them: int64 in units of ``2**-20``, half up, saturating."""
    units = torch.floor(sums.to(torch.float64) * (1 << RECEIVED_FRACTION) + 0.5)
    return units.clamp(0, (1 << SALIENCY_BITS) - 1).to(torch.int64)


def compress_tail(keys: Tensor, values: Tensor, config: AttentionConfig) -> Tail:
    """Step 1 of DSQ, entry: keys ``[..., t, d]`` to ``key_bits``, values to ``tail_value_bits``.

    The saliency is 0, as nothing has attended to the tokens yet.
    """
    value_codes, value_scale = symmetric_codes(values, config.tail_value_bits)
    return Tail(
        keys=quantise(keys, config.key_bits, config.group),
        value_codes=value_codes,
        value_scale=value_scale,
        saliency=torch.zeros_like(value_scale),
    )


def dequantise_tail(tail: Tail, config: AttentionConfig) -> tuple[Tensor, Tensor]:
    """Keys and values of the tail, two tensors ``[..., t, d]``."""
    values = symmetric_values(tail.value_codes, tail.value_scale, config.tail_value_bits)
    return dequantise(tail.keys), values


def compress_cache(
    keys: Tensor, values: Tensor, sums: Tensor, config: AttentionConfig
) -> CompressedCache:
    """The cache as the decode step of the newest of T tokens finds it.

    All tokens enter through the tail, so a window closes on what the tail held of it: keys of
    ``key_bits`` and values of ``tail_value_bits`` bits. There is no second copy.

    Parameters
    ----------
    keys, values
        ``[..., T, d]``; T is the context.
    sums
        Saliency, ``[..., T]``, or fewer, those of the closed tokens at least; 0 of the others.

    Raises
    ------
    ValueError
        T or d do not fit ``config``.
    """
    context, head_dim = keys.shape[-2:]
    config.check_cache(context, head_dim)
    closed = config.closed_tokens(context)
    entry = compress_tail(keys, values, config)
    entered_values = dequantise_tail(entry, config)[1]
    held = fixed_saliency(sums[..., closed:context])
    missing = context - closed - held.shape[-1]

    def windows(x: Tensor) -> Tensor:
        count = closed // config.window
        leading, trailing = x.shape[:-2], x.shape[-1]
        return x[..., :closed, :].reshape(*leading, count, config.window, trailing)

    return CompressedCache(
        context=context,
        closed=compress_window(
            entry.keys.each(windows),
            windows(entered_values),
            windows(sums.unsqueeze(-1)).squeeze(-1),
            config,
        ),
        tail=Tail(
            keys=entry.keys.each(lambda part: part[..., closed:, :]),
            value_codes=entry.value_codes[..., closed:, :],
            value_scale=entry.value_scale[..., closed:],
            saliency=torch.nn.functional.pad(held, (0, missing)),
        ),
    )
