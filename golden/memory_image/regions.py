"""The regions of a cache by its mode (docs/contracts.md, section 5)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from golden.memory_image.dense_records import pack_dense
from golden.memory_image.records import pack_base_blocks, pack_chunks
from golden.memory_image.tail_records import pack_tail
from golden.reference import CompressedCache, DenseCache, SlotCache
from hw.config import AttentionConfig
from hw.formats import Mode

#: Regions of a job that ``Placement`` has an address for, in the order of their place in memory.
REGIONS = ("base", "chunk", "tail")


def _compressed(cache: CompressedCache, config: AttentionConfig) -> dict[str, bytes]:
    return {
        "base": pack_base_blocks(cache.closed, config),
        "chunk": pack_chunks(cache.closed, config),
        "tail": pack_tail(cache.tail, cache.context, config),
    }


def _dense(cache: DenseCache, config: AttentionConfig) -> dict[str, bytes]:
    return {"tail": pack_dense(cache, config)}


def _slots(cache: SlotCache, config: AttentionConfig) -> dict[str, bytes]:
    return {"tail": pack_tail(cache.tail, cache.context, config, Mode.SLOTS)}


_PACKERS: dict[Mode, Callable[[Any, AttentionConfig], dict[str, bytes]]] = {
    Mode.KVO: _compressed,
    Mode.DENSE8: _dense,
    Mode.DENSE16: _dense,
    Mode.SLOTS: _slots,
}


def pack_regions(cache: CompressedCache | DenseCache, config: AttentionConfig) -> dict[str, bytes]:
    """The bytes of each region that the format of ``cache`` has; some of ``REGIONS``.

    Raises
    ------
    RecordError
        The cache breaks a rule of its records.
    """
    return _PACKERS[cache.mode](cache, config)
