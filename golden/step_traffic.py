"""Bytes that a decode step of one KV head moves, as the decode core moves them."""

from __future__ import annotations

from dataclasses import dataclass

from hw.config import BURST_BYTES, AttentionConfig
from hw.formats import FP16_BITS, PAIR_BITS, KVFormat


@dataclass(frozen=True)
class StepBytes:
    """Whole bursts, those of a window that closes after the step included."""

    read: int
    written: int

    def __add__(self, other: StepBytes) -> StepBytes:
        return StepBytes(self.read + other.read, self.written + other.written)


def step_bytes(
    context: int, selection: list[int], config: AttentionConfig, *, closes: bool
) -> StepBytes:
    """Bytes of a step of mode `KVO` (docs/contracts.md, section 10).

    Parameters
    ----------
    context
        Tokens of the job, the newest included.
    selection
        Its chunks: those of a value group share the group's scales.
    closes
        Whether a window closes in the end.
    """
    layout = KVFormat(config)
    groups = layout.selected_groups(selection)
    read = sum(layout.traffic_bytes(context, groups=groups).values())
    written = token_bytes((context - 1) % config.chunk, layout)
    written += len(layout.tail_order(context)) * saliency_bytes(layout)
    if closes:
        read += config.window // config.chunk * layout.tail_block_bytes
        written += _window_bytes(layout.tokens(context)[0] // config.chunk, layout)
    return StepBytes(read, written)


def saliency_bytes(layout: KVFormat) -> int:
    """The saliencies of a tail block, as they are written after a step."""
    return _bursts(0, layout.saliency_bytes)


def token_bytes(place: int, layout: KVFormat) -> int:
    """Codes, scale-minimum pairs, value scale and value of the token at ``place`` of its block."""
    config = layout.config
    codes = config.head_dim * config.key_bits // 8
    pairs, scale = config.groups * PAIR_BITS // 8, FP16_BITS // 8
    first_pair = layout.saliency_bytes
    first_scale = first_pair + layout.key_scale_bytes
    return (
        _bursts(layout.tail_header_bytes + place * codes, codes)
        + _bursts(first_pair + place * pairs, pairs)
        + _bursts(first_scale + place * scale, scale)
        + config.head_dim // layout.value_tile_channels * BURST_BYTES
    )


def _window_bytes(chunk: int, layout: KVFormat) -> int:
    """Group records and base keys of a window whose first chunk is ``chunk``."""
    config = layout.config
    pairs, codes = config.groups * PAIR_BITS // 8, config.head_dim * config.key_bits // 8
    written = config.window // config.value_group * layout.group_bytes
    # Key after key: its pairs are a burst of their own, though those of others share it.
    for row in range(chunk, chunk + config.window // config.chunk):
        place = row % config.chunk
        written += _bursts(place * pairs, pairs)
        written += _bursts(layout.key_scale_bytes + place * codes, codes)
    return written


def _bursts(start: int, size: int) -> int:
    """Bytes of the bursts that ``size`` bytes from ``start`` lie in."""
    return (-(-(start + size) // BURST_BYTES) - start // BURST_BYTES) * BURST_BYTES
