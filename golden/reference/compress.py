"""DSQ: differential salient-token-aware quantisation of windows that close.

Every function takes any leading dimensions (sequence, layer, KV head, window), written ``...`` in
the shapes. ``C`` is the chunk, ``G`` the key group, ``N`` the value group, ``W`` the window.
"""

from dataclasses import dataclass, replace
from math import prod, sqrt

import torch
from torch import Tensor

from golden.reference.quantiser import (
    Quantised,
    affine_codes,
    affine_parameters,
    affine_values,
    dequantise,
)
from hw.config import AttentionConfig
from hw.constants import FIXED_FRACTION


@dataclass(frozen=True)
class CompressedWindow:
    """Closed tokens in integers: one window, or many with the windows as last leading dimension.

    All tensors are int64; scales and minima are FP16 bit patterns. Token 0 of a chunk is its base.
    """

    #: ``[..., chunks, d]``, ``key_bits`` bits.
    base_codes: Tensor
    #: ``[..., chunks, d/G]``.
    base_scale: Tensor
    base_minimum: Tensor
    #: ``[..., chunks, C-1, d/G, G]``: 1 where a channel keeps its delta. The same for all tokens of
    #: a chunk if ``mask_scope`` says so.
    delta_mask: Tensor
    #: Same shape, ``key_delta_bits`` bits, 0 where the mask is 0.
    delta_codes: Tensor
    #: ``[..., chunks, C-1, d/G]``.
    delta_scale: Tensor
    delta_minimum: Tensor
    #: ``[..., chunks, d]``, ``value_base_bits`` bits.
    value_base: Tensor
    #: ``[..., chunks, C-1, d]``: 1 where a token keeps its value in a channel.
    value_mask: Tensor
    #: Same shape, ``value_bits`` bits, 0 where the mask is 0.
    value_codes: Tensor
    #: ``[..., W/N, d]``.
    value_scale: Tensor
    value_minimum: Tensor


def saliency(queries: Tensor, keys: Tensor, config: AttentionConfig) -> Tensor:
    """Step 2 of DSQ at prefill: attention that each token gets from its own and the next window.

    The softmax runs over the whole causal context; probabilities are added over the queries of the
    two windows and over the query heads that share the KV head, and not divided by their number.

    Parameters
    ----------
    queries, keys
        ``[..., rows, T, d]`` and ``[..., T, d]``, as the prefill attention uses them.

    Returns
    -------
    Tensor
        ``[..., T]``, float64. The sums of the last two windows are still incomplete.
    """
    tokens, head_dim = keys.shape[-2:]
    scaled = queries.to(torch.float64) / sqrt(head_dim)
    wide = keys.to(torch.float64).unsqueeze(-3)
    sums = torch.zeros(keys.shape[:-1], dtype=torch.float64)
    for start in range(0, tokens, config.window):
        stop = min(start + config.window, tokens)
        scores = scaled[..., start:stop, :] @ wide[..., :stop, :].transpose(-1, -2)
        future = torch.ones(stop - start, stop, dtype=torch.bool).triu(start + 1)
        probabilities = scores.masked_fill(future, -torch.inf).softmax(-1)
        first = max(0, start - config.window)
        sums[..., first:stop] += probabilities[..., first:].sum((-3, -2))
    return sums


def order_window(sums: Tensor, config: AttentionConfig) -> Tensor:
    """Step 3 of DSQ: each chunk by saliency, largest first, equal ones by position.

    ``sums`` is ``[..., n]`` with n a multiple of the chunk; the answer holds, for each place of the
    new order, the position of its token among the n.
    """
    chunks = sums.unflatten(-1, (-1, config.chunk))
    rank = torch.sort(chunks, dim=-1, descending=True, stable=True).indices
    first = torch.arange(0, sums.shape[-1], config.chunk).unsqueeze(-1)
    return (rank + first).flatten(-2)


def keep_largest(magnitude: Tensor, count: int) -> Tensor:
    """1 at the ``count`` largest entries of the last dimension; equal ones by lowest index."""
    largest = torch.sort(magnitude, dim=-1, descending=True, stable=True).indices[..., :count]
    return torch.zeros_like(magnitude, dtype=torch.int64).scatter(-1, largest, 1)


def fixed_values(values: Tensor) -> Tensor:
    """``values`` as a closing window sees them: rounded to units of 2**-24, half up; float64.

    The codes of the tail and their scale stand for numbers with up to 15 bits more.
    """
    unit = 1 << FIXED_FRACTION
    return torch.floor(values.to(torch.float64) * unit + 0.5) / unit


def compress_window(
    keys: Quantised, values: Tensor, sums: Tensor, config: AttentionConfig
) -> CompressedWindow:
    """Steps 3 and 4 of DSQ for a whole window.

    The base key of a chunk stays as it entered: AQ of what AQ made would only round it again.

    Parameters
    ----------
    keys, values
        ``[..., W, d]`` in the order of arrival, as the tail holds them.
    sums
        Saliency, ``[..., W]``.
    """
    order = order_window(sums, config).unsqueeze(-1)
    ordered = keys.each(lambda part: torch.take_along_dim(part, order, -2))
    ordered_values = torch.take_along_dim(fixed_values(values), order, -2)

    # Keys: the most salient of each chunk whole, the others as pruned differences.
    chunks = dequantise(ordered).unflatten(-2, (-1, config.chunk))
    base = ordered.each(lambda part: part[..., :: config.chunk, :])
    differences = chunks[..., 1:, :] - chunks[..., :1, :]
    split = differences.unflatten(-1, (-1, config.group))
    delta_scale, delta_minimum = affine_parameters(split, config.key_delta_bits)
    delta_codes = affine_codes(split, delta_scale, delta_minimum, config.key_delta_bits)
    delta_size = affine_values(delta_codes, delta_scale, delta_minimum).abs()
    if config.mask_scope == "chunk":
        delta_size = delta_size.sum(-3, keepdim=True).expand_as(delta_size)
    delta_mask = keep_largest(delta_size, config.key_keep)

    # Values: channel by channel over the tokens of a value group, tokens last. For the range, base
    # tokens count as 0; their own codes divide the same range into smaller steps.
    by_channel = ordered_values.unflatten(-2, (-1, config.value_group)).transpose(-1, -2)
    is_base = torch.arange(config.value_group) % config.chunk == 0
    others = by_channel.masked_fill(is_base, 0.0)
    value_scale, value_minimum = affine_parameters(others, config.value_bits)
    value_codes = affine_codes(others, value_scale, value_minimum, config.value_bits)
    value_size = affine_values(value_codes, value_scale, value_minimum).abs()
    value_mask = keep_largest(value_size.masked_fill(is_base, -1.0), config.value_keep)
    value_base = affine_codes(
        by_channel, value_scale, value_minimum, config.value_base_bits, config.value_step_ratio
    )

    def by_chunk(x: Tensor) -> Tensor:
        """``[..., W/N, d, N]`` as ``[..., chunks, C, d]``."""
        return x.transpose(-1, -2).unflatten(-2, (-1, config.chunk)).flatten(-4, -3)

    return CompressedWindow(
        base_codes=base.codes,
        base_scale=base.scale,
        base_minimum=base.minimum,
        delta_mask=delta_mask,
        delta_codes=delta_codes * delta_mask,
        delta_scale=delta_scale,
        delta_minimum=delta_minimum,
        value_base=by_chunk(value_base)[..., 0, :],
        value_mask=by_chunk(value_mask)[..., 1:, :],
        value_codes=by_chunk(value_codes * value_mask)[..., 1:, :],
        value_scale=value_scale,
        value_minimum=value_minimum,
    )


def base_keys(window: CompressedWindow) -> Tensor:
    """``B``: the dequantised base key of every chunk, ``[..., chunks, d]``."""
    return dequantise(Quantised(window.base_codes, window.base_scale, window.base_minimum))


def dequantise_window(window: CompressedWindow, config: AttentionConfig) -> tuple[Tensor, Tensor]:
    """``K^`` and ``V^`` of every chunk, base first: two tensors ``[..., chunks, C, d]``."""
    each = config.group_chunks
    scale, minimum = (
        part.repeat_interleave(each, -2) for part in (window.value_scale, window.value_minimum)
    )
    return _dequantise(replace(window, value_scale=scale, value_minimum=minimum), config)


def dequantise_chunks(
    windows: CompressedWindow, selection: Tensor, config: AttentionConfig
) -> tuple[Tensor, Tensor]:
    """``K^`` and ``V^`` of some chunks: two tensors ``[..., k, C, d]``.

    ``windows`` has the windows as last leading dimension; ``selection`` is ``[..., k]``, the number
    of each chunk among those of all windows.
    """
    leading = selection.shape[:-1]
    lines = selection.reshape(prod(leading), -1)
    every = torch.arange(len(lines)).unsqueeze(-1)

    def pick(name: str, x: Tensor) -> Tensor:
        grouped = name in ("value_scale", "value_minimum")
        index = lines // config.group_chunks if grouped else lines
        x = x.flatten(len(leading), len(leading) + 1)
        picked = x.reshape(len(lines), *x.shape[len(leading) :])[every, index]
        return picked.reshape(*selection.shape, *picked.shape[2:])

    picked = {name: pick(name, part) for name, part in vars(windows).items()}
    return _dequantise(CompressedWindow(**picked), config)


def _dequantise(chunks: CompressedWindow, config: AttentionConfig) -> tuple[Tensor, Tensor]:
    """Of chunks whose value scales are those of each chunk, ``[..., chunks, d]``."""
    base = base_keys(chunks).unsqueeze(-2)
    deltas = affine_values(chunks.delta_codes, chunks.delta_scale, chunks.delta_minimum)
    keys = torch.cat((base, base + (deltas * chunks.delta_mask).flatten(-2)), -2)
    scale, minimum = chunks.value_scale, chunks.value_minimum
    value_base = affine_values(
        chunks.value_base.unsqueeze(-1), scale, minimum, config.value_step_ratio
    )
    others = affine_values(chunks.value_codes.transpose(-1, -2), scale, minimum)
    kept = others.transpose(-1, -2) * chunks.value_mask
    return keys, torch.cat((value_base.transpose(-1, -2), kept), -2)
