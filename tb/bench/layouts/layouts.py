"""Layouts of the value groups' scales, and what a job reads of each, in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from golden.twin.selector import by_group
from hw.config import BEAT_BYTES, BURST_BYTES, AttentionConfig
from hw.formats import KVFormat

#: What is compared, and what it means.
LAYOUTS = {
    "chunk": "scales in every chunk record, read with each selected chunk",
    "chunk, once": "the same records; scales read with the first selected chunk of a group only",
    "group": "a record per value group, its scales, then its chunks; scales read once per group",
    "region": "scales in a region of their own, read once per group",
}


@dataclass(frozen=True)
class Segment:
    """Bytes that are read one behind the other: address and size, both whole bursts."""

    address: int
    size: int


def burst_padded(size: int) -> int:
    """``size`` rounded up to bursts."""
    return -(-size // BURST_BYTES) * BURST_BYTES


@dataclass(frozen=True)
class ScaleLayout:
    """One layout of `LAYOUTS` at one configuration.

    Raises
    ------
    ValueError
        There is no such layout.
    """

    name: str
    config: AttentionConfig

    def __post_init__(self) -> None:
        if self.name not in LAYOUTS:
            raise ValueError(f"name must be one of {', '.join(LAYOUTS)}, not {self.name!r}")

    @property
    def _apart(self) -> bool:
        return self.name in ("group", "region")

    @property
    def _code_bytes(self) -> int:
        return burst_padded(KVFormat(self.config).value_code_bytes)

    @property
    def _scale_bytes(self) -> int:
        return KVFormat(self.config).value_scale_bytes

    @property
    def _value_bytes(self) -> int:
        """Values of a chunk that brings its scales."""
        layout = KVFormat(self.config)
        return burst_padded(layout.value_code_bytes + layout.value_scale_bytes)

    def stored_bytes(self, chunks: int) -> int:
        """Bytes that ``chunks`` closed chunks take in the memory."""
        deltas = KVFormat(self.config).delta_bytes
        if not self._apart:
            return chunks * (deltas + self._value_bytes)
        groups = -(-chunks // self.config.group_chunks)
        return chunks * (deltas + self._code_bytes) + groups * self._scale_bytes

    def order(self, selected: Sequence[int]) -> list[int]:
        """The order in which the formal pass reads the selected chunks, given best first."""
        return (
            list(selected)
            if self.name == "chunk"
            else by_group(self.config, torch.tensor(selected)).tolist()
        )

    def units(self, selected: Sequence[int], start: int, closed: int) -> list[list[list[Segment]]]:
        """Per selected chunk, in order, the segments of its keys and those of its values.

        Parameters
        ----------
        selected
            Chunks, best first.
        start
            Address of the region.
        closed
            Closed chunks of the sequence.
        """
        deltas, per_group = KVFormat(self.config).delta_bytes, self.config.group_chunks
        units, last = [], -1
        for chunk in self.order(selected):
            group = chunk // per_group
            fresh = self.name == "chunk" or group != last
            last = group
            if self._apart:
                size = deltas + self._code_bytes
                record = start + chunk * size
                scales = start + closed * size + group * self._scale_bytes
                if self.name == "group":
                    record += (group + 1) * self._scale_bytes
                    scales = start + group * (per_group * size + self._scale_bytes)
                values = [Segment(record + deltas, self._code_bytes)]
                if fresh:
                    values.append(Segment(scales, self._scale_bytes))
            else:
                record = start + chunk * (deltas + self._value_bytes)
                size = self._value_bytes if fresh else self._code_bytes
                values = [Segment(record + deltas, size)]
            units.append([[Segment(record, deltas)], values])
        return units

    def job(
        self, selected: Sequence[int], context: int, start: int
    ) -> tuple[list[Segment], list[Segment], int]:
        """Segments of a job's estimates, of its formal pass, and where its cache ends.

        The order is the sequencer's: the keys of a unit before the values of the unit ahead of it.
        """
        layout = KVFormat(self.config)
        closed, _ = layout.tokens(context)
        chunks = closed // self.config.chunk
        bases = -(-chunks // self.config.chunk)
        block = layout.base_block_bytes
        estimates = [Segment(start + i * block, block) for i in range(bases)]
        chunk_start = start + bases * block
        tail_start = chunk_start + self.stored_bytes(chunks)
        keys, values = layout.tail_key_bytes, layout.tail_value_bytes
        units = []
        for block in layout.tail_order(context):
            at = tail_start + block * (keys + values)
            units.append([[Segment(at, keys)], [Segment(at + keys, values)]])
        units += self.units(selected, chunk_start, chunks)
        formal = list(units[0][0])
        for unit, following in zip(units, [*units[1:], None], strict=True):
            formal += (following[0] if following else []) + unit[1]
        return estimates, formal, tail_start + layout.region_bytes(context)["tail"]


def jobs_stream(
    layout: ScaleLayout, selections: Sequence[Sequence[int]], context: int
) -> list[Segment]:
    """The segments of one job per selection, each with a cache of its own.

    The estimates of a job come before the formal pass of the job ahead of it.
    """
    start, passes = 0, []
    for selected in selections:
        *both, start = layout.job(selected, context, start)
        passes.append(both)
    stream: list[Segment] = []
    for this, following in zip(passes, [*passes[1:], None], strict=True):
        stream += this[0] if this is passes[0] else []
        stream += (following[0] if following else []) + this[1]
    return stream


def chunk_steps(config: AttentionConfig) -> int:
    """Steps of the PE array that one selected chunk takes (docs/contracts.md, section 6)."""
    deltas = KVFormat(config).delta_elements * max(1, config.group // 32)
    values = config.head_dim // 4 * max(1, config.chunk // 8)
    return deltas * (config.key_delta_bits // 2) + values * (config.value_bits // 2)


def bound_cycles(layout: ScaleLayout, selected: Sequence[int], context: int) -> int:
    """Cycles of one job in a core with an ideal memory: a beat and a step a cycle.

    Chunk by chunk the larger of beats and steps; other blocks have no more steps than beats.
    """
    estimates, formal, _ = layout.job(selected, context, 0)
    units = layout.units(selected, 0, layout.config.max_chunks)
    beats = [sum(s.size for part in unit for s in part) // BEAT_BYTES for unit in units]
    total = sum(s.size for s in (*estimates, *formal)) // BEAT_BYTES
    steps = chunk_steps(layout.config)
    return total + sum(max(0, steps - own) for own in beats)


def distinct_groups(selected: Sequence[int], config: AttentionConfig) -> int:
    """Value groups with a selected chunk."""
    per_group = config.group_chunks
    return len({chunk // per_group for chunk in selected})
