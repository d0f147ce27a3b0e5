"""Segments of random caches for the tests of the unpacking units: header, beats, expected steps."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from golden.memory_image import pack_base_blocks, pack_chunks, pack_dense, pack_tail
from golden.reference import CompressedWindow, DenseCache, Quantised, Tail
from golden.twin.steps import (
    Steps,
    base_key_steps,
    delta_steps,
    dense_key_steps,
    tail_key_steps,
    tail_value_steps,
    value_steps,
)
from hw.config import BEAT_BYTES, AttentionConfig, preset
from hw.cores.payloads import BEAT, SegmentKind, key_tag, segment_header, work_layout
from hw.formats import SALIENCY_BITS, KVFormat, Mode
from tb.cores.side_by_side import SideBySide
from tb.harness import Run, pack, simulate, unpack

_FOUR_BITS: dict[str, Any] = {"key_bits": 4, "key_delta_bits": 4, "value_bits": 4}
CONFIGS = {
    "tiny": preset("tiny"),
    "lm": preset("lm"),
    "wide": AttentionConfig(
        name="wide",
        head_dim=128,
        rows=4,
        group=16,
        key_keep=8,
        mask_scope="chunk",
        value_group=16,
        tail_value_bits=8,
        jobs_in_flight=8,
        **_FOUR_BITS,
    ),
    "broad": AttentionConfig(
        name="broad",
        head_dim=192,
        rows=5,
        chunk=16,
        group=64,
        key_keep=18,
    ),
    "narrow": AttentionConfig(
        name="narrow",
        head_dim=96,
        rows=3,
        chunk=4,
        group=16,
        key_keep=3,
        mask_scope="chunk",
        value_group=16,
        value_keep=5,
    ),
    "codes32": AttentionConfig(name="codes32", head_dim=32, chunk=4, **_FOUR_BITS),
    "codes64": AttentionConfig(
        name="codes64",
        head_dim=192,
        rows=1,
        chunk=16,
        group=64,
        key_keep=18,
        mask_scope="chunk",
        **_FOUR_BITS,
    ),
}
"""Two presets; many groups with the other width of tail values; long and short chunks; codes of 4
bits with every group and chunk; masks of both scopes."""

FEW = {name: CONFIGS[name] for name in ("tiny", "lm", "wide", "narrow", "codes64")}
"""Enough of them for units that do not unpack themselves."""

EXTREMES = ("random", "zero", "full", "edges")
"""How `Cache` draws a number: any, 0, the largest, or 0 and the largest at random."""

LARGEST_FP16 = 0x7BFF


@dataclass(frozen=True)
class Segment:
    """One segment of a job, as the sequencer asks for it."""

    config: AttentionConfig
    kind: SegmentKind
    data: bytes
    steps: Steps
    slot: int = 0
    #: Keys that exist, all of the chunk if not said.
    present: int = 0
    first: bool = False
    last: bool = False
    dense: bool = False
    wide: bool = False

    @property
    def header(self) -> int:
        """The packed ``segment_header``."""
        fields = {
            "kind": self.kind.value,
            "slot": self.slot,
            "present_less_one": (self.present or self.config.chunk) - 1,
            "first": self.first,
            "last": self.last,
            "dense": self.dense,
            "wide": self.wide,
        }
        return pack(segment_header(self.config), fields)

    @property
    def saliency(self) -> list[int]:
        """Beats of the saliency section, which only a tail key block has."""
        if self.dense or self.kind != SegmentKind.TAIL_KEYS:
            return []
        section = self.data[: KVFormat(self.config).saliency_bytes]
        starts = range(0, len(section), BEAT_BYTES)
        return [int.from_bytes(section[at : at + BEAT_BYTES], "little") for at in starts]

    def beats(self, errors: Collection[int] = ()) -> list[int]:
        """The packed ``BEAT`` items; those with an index in ``errors`` are marked."""
        starts = range(0, len(self.data), BEAT_BYTES)
        parts = [self.data[start : start + BEAT_BYTES] for start in starts]
        return [
            pack(
                BEAT,
                {
                    "data": int.from_bytes(part, "little"),
                    "error": index in errors,
                    "last": index == len(parts) - 1,
                },
            )
            for index, part in enumerate(parts)
        ]

    @property
    def work(self) -> list[int]:
        """The packed ``work_layout`` items that must come out."""
        return packed_work(self.steps, self.slot, self.config)


def packed_work(steps: Steps, slot: int, config: AttentionConfig) -> list[int]:
    """The packed ``work_layout`` items of ``steps``."""
    layout = work_layout(config)
    names = [field.name for field in fields(Steps) if field.name != "kind"]
    columns = {name: getattr(steps, name).tolist() for name in names}
    ends = steps.segment_end.tolist()
    key_names = [name for name, _ in key_tag(config) if name != "slot"]
    items = []
    for i, digits in enumerate(columns["digits"]):
        pairs = zip(columns["scale"][i], columns["minimum"][i], strict=True)
        item = {
            "kind": int(steps.kind),
            "digits": sum(digit << 2 * k for k, digit in enumerate(digits)),
            "signed": columns["signed"][i],
            "wide": columns["wide"][i],
            "upper": columns["upper"][i],
            "pairs": [{"scale": scale, "minimum": minimum} for scale, minimum in pairs],
            "group": columns["group"][i],
            "part": columns["part"][i],
            "key": {name: columns[name][i] for name in key_names} | {"slot": slot},
            "last": ends[i],
        }
        items.append(pack(layout, item))
    return items


class Cache:
    """A cache of random numbers, without a meaning, and its segments.

    Parameters
    ----------
    config
        Its format.
    chunks, tail
        Closed chunks (any number) and tail tokens, at least 1.
    seed
        Of the numbers.
    extreme
        One of `EXTREMES`.
    bad_scales
        Whether one scale or minimum in 16 is an infinity or a NaN.
    """

    def __init__(
        self,
        config: AttentionConfig,
        *,
        chunks: int,
        tail: int,
        seed: int,
        extreme: str = "random",
        bad_scales: bool = False,
    ) -> None:
        self.config = config
        self.chunks = chunks
        self._extreme = extreme
        self._bad_scales = bad_scales
        self._generator = torch.Generator().manual_seed(seed)
        self._layout = KVFormat(config)
        self._dense_caches: dict[Mode, tuple[DenseCache, bytes]] = {}
        # Value scales belong to whole groups of chunks.
        per_group = config.group_chunks
        groups = -(-chunks // per_group)
        window = self._window(groups * per_group, groups)

        def flat(name: str) -> Tensor:
            x = getattr(window, name)[0]
            per_chunk = name not in ("value_scale", "value_minimum")
            return (x if per_chunk else x.repeat_interleave(per_group, 0))[:chunks]

        names = [field.name for field in fields(CompressedWindow)]
        self.closed = CompressedWindow(**{name: flat(name) for name in names})
        with_bases = {name: getattr(window, name)[:, :chunks] for name in names}
        self.tail = self._tail(tail)
        self.base_bytes = pack_base_blocks(CompressedWindow(**with_bases), config)
        self.chunk_bytes = pack_chunks(window, config)
        self.tail_bytes = self._with_garbage(pack_tail(self.tail, tail, config))

    def _numbers(self, bits: int, *shape: int) -> Tensor:
        top = (1 << bits) - 1
        if self._extreme == "zero":
            return torch.zeros(shape, dtype=torch.int64)
        if self._extreme == "full":
            return torch.full(shape, top)
        if self._extreme == "edges":
            return top * torch.randint(2, shape, generator=self._generator)
        return torch.randint(1 << bits, shape, generator=self._generator)

    def _fp16(self, *shape: int) -> Tensor:
        number = self._numbers(15, *shape)
        sign = torch.randint(2, shape, generator=self._generator) << 15
        bad = torch.rand(shape, generator=self._generator) < self._bad_scales / 16
        return torch.where(bad, number | 0x7C00, number.clamp(max=LARGEST_FP16)) | sign

    def _mask(self, keep: int, *shape: int) -> Tensor:
        """``keep`` ones in the last dimension; the lowest or the highest at the extremes."""
        order = torch.rand(shape, generator=self._generator).argsort(-1)
        if self._extreme in ("zero", "full"):
            order = torch.arange(shape[-1]).expand(shape)
        kept = order < keep
        return (kept.flip(-1) if self._extreme == "full" else kept).to(torch.int64)

    def _window(self, chunks: int, groups: int) -> CompressedWindow:
        c = self.config
        others = c.chunk - 1
        masks = 1 if c.mask_scope == "chunk" else others
        delta_mask = self._mask(c.key_keep, 1, chunks, masks, c.groups, c.group)
        delta_mask = delta_mask.expand(1, chunks, others, c.groups, c.group)
        value_mask = self._numbers(1, 1, chunks, others, c.head_dim)
        return CompressedWindow(
            base_codes=self._numbers(c.key_bits, 1, chunks, c.head_dim),
            base_scale=self._fp16(1, chunks, c.groups),
            base_minimum=self._fp16(1, chunks, c.groups),
            delta_mask=delta_mask,
            delta_codes=self._numbers(c.key_delta_bits, *delta_mask.shape) * delta_mask,
            delta_scale=self._fp16(1, chunks, others, c.groups),
            delta_minimum=self._fp16(1, chunks, others, c.groups),
            value_base=self._numbers(c.value_base_bits, 1, chunks, c.head_dim),
            value_mask=value_mask,
            value_codes=self._numbers(c.value_bits, *value_mask.shape) * value_mask,
            value_scale=self._fp16(1, groups, c.head_dim),
            value_minimum=self._fp16(1, groups, c.head_dim),
        )

    def _tail(self, tokens: int) -> Tail:
        c = self.config
        sign = 1 << (c.tail_value_bits - 1)
        return Tail(
            keys=Quantised(
                self._numbers(c.key_bits, tokens, c.head_dim),
                self._fp16(tokens, c.groups),
                self._fp16(tokens, c.groups),
            ),
            value_codes=self._numbers(c.tail_value_bits, tokens, c.head_dim) - sign,
            value_scale=self._fp16(tokens),
            saliency=self._numbers(SALIENCY_BITS, tokens),
        )

    def _with_garbage(self, region: bytes) -> bytes:
        """The tail region with numbers that are not finite as scales of tokens that are not there.

        Padding and the saliency of all tokens are garbage as well.
        """
        c, layout = self.config, self._layout
        held = bytearray(region)
        tokens = len(self.tail.value_scale) % c.chunk or c.chunk
        for start in range(0, len(held), layout.tail_block_bytes):
            last = start + layout.tail_block_bytes == len(held)
            present = tokens if last else c.chunk
            sections = (
                (0, layout.saliency_bytes, 0),
                (layout.saliency_bytes, layout.key_scale_bytes, present * c.groups * 4),
                (
                    layout.saliency_bytes + layout.key_scale_bytes,
                    layout.tail_scale_bytes,
                    present * 2,
                ),
            )
            for at, size, kept in sections:
                held[start + at + kept : start + at + size] = b"\xff" * (size - kept)
            used = sum(size for _, size, _ in sections)
            padding = layout.tail_header_bytes - used
            held[start + used : start + layout.tail_header_bytes] = b"\xff" * padding
        return bytes(held)

    def base_keys(self, block: int, slot: int = 0) -> Segment:
        """The base key block ``block``."""
        size = self._layout.base_block_bytes
        left = self.chunks - block * self.config.chunk
        return Segment(
            self.config,
            SegmentKind.BASE_KEYS,
            self.base_bytes[block * size : (block + 1) * size],
            base_key_steps(self.closed, block, self.config),
            slot,
            present=min(left, self.config.chunk),
            first=block == 0,
            last=left <= self.config.chunk,
        )

    def tail_keys(self, block: int, slot: int = 0) -> Segment:
        """The keys of tail block ``block``."""
        start = block * self._layout.tail_block_bytes
        left = len(self.tail.value_scale) - block * self.config.chunk
        return Segment(
            self.config,
            SegmentKind.TAIL_KEYS,
            self.tail_bytes[start : start + self._layout.tail_key_bytes],
            tail_key_steps(self.tail, block, self.config, chunks=self.chunks),
            slot,
            present=min(left, self.config.chunk),
            first=block == 0,
            last=self.chunks == 0 and left <= self.config.chunk,
        )

    def tail_values(self, block: int, slot: int = 0) -> Segment:
        """The values of tail block ``block``."""
        end = (block + 1) * self._layout.tail_block_bytes
        return Segment(
            self.config,
            SegmentKind.TAIL_VALUES,
            self.tail_bytes[end - self._layout.tail_value_bytes : end],
            tail_value_steps(
                self.tail.value_codes, self.config.tail_value_bits, block, self.config
            ),
            slot,
            wide=self.config.tail_value_bits == 16,
        )

    def dense_keys(self, block: int, slot: int = 0) -> Segment:
        """The keys of block ``block`` of a dense cache of the tail's tokens."""
        return self._dense(block, slot)[0]

    def dense_values(self, block: int, slot: int = 0) -> Segment:
        """The values of the same block."""
        return self._dense(block, slot)[1]

    def _dense(self, block: int, slot: int) -> tuple[Segment, Segment]:
        """Even slots hold 8-bit codes, odd ones 16-bit codes."""
        config, mode = self.config, (Mode.DENSE8, Mode.DENSE16)[slot % 2]
        bits, tokens = 8 * mode.code_bytes, len(self.tail.value_scale)
        if mode not in self._dense_caches:
            sign = 1 << bits - 1
            scale = torch.tensor(0)
            keys, values = (self._numbers(bits, tokens, config.head_dim) - sign for _ in range(2))
            cache = DenseCache(mode, keys, values, scale, scale)
            self._dense_caches[mode] = cache, pack_dense(cache, config)
        cache, region = self._dense_caches[mode]
        key_size, value_size = self._layout.block_bytes(mode)
        start = block * (key_size + value_size)
        wide = mode == Mode.DENSE16
        present = min(tokens - block * config.chunk, config.chunk)
        key_segment = Segment(
            config,
            SegmentKind.TAIL_KEYS,
            region[start : start + key_size],
            dense_key_steps(cache, block, config),
            slot,
            present=present,
            first=block == 0,
            last=(block + 1) * config.chunk >= tokens,
            dense=True,
            wide=wide,
        )
        value_segment = Segment(
            config,
            SegmentKind.TAIL_VALUES,
            region[start + key_size : start + key_size + value_size],
            tail_value_steps(cache.value_codes, bits, block, config),
            slot,
            dense=True,
            wide=wide,
        )
        return key_segment, value_segment

    def deltas(self, chunk: int, slot: int = 0, *, last: bool = False) -> Segment:
        """The delta record of ``chunk``."""
        start = self._record(chunk)
        return Segment(
            self.config,
            SegmentKind.DELTAS,
            self.chunk_bytes[start : start + self._layout.delta_bytes],
            delta_steps(self.closed, chunk, self.config, last=last),
            slot,
            last=last,
        )

    def values(self, chunk: int, slot: int = 0) -> Segment:
        """The value record of ``chunk``."""
        end = self._record(chunk) + self._layout.chunk_bytes
        return Segment(
            self.config,
            SegmentKind.VALUES,
            self.chunk_bytes[end - self._layout.value_bytes : end],
            value_steps(self.closed, chunk, self.config),
            slot,
        )

    def value_scales(self, chunk: int, slot: int = 0) -> Segment:
        """The value scales of the group of ``chunk``; they make no steps."""
        start = chunk // self.config.group_chunks * self._layout.group_bytes
        steps = value_steps(self.closed, chunk, self.config)
        none = {field.name: getattr(steps, field.name)[:0] for field in fields(Steps)[1:]}
        return Segment(
            self.config,
            SegmentKind.VALUE_SCALES,
            self.chunk_bytes[start : start + self._layout.value_scale_bytes],
            replace(steps, **none),
            slot,
        )

    def scaled_values(self, chunk: int, slot: int = 0) -> list[Segment]:
        """The value scales of the group of ``chunk``, then its value record."""
        return [self.value_scales(chunk, slot), self.values(chunk, slot)]

    def _record(self, chunk: int) -> int:
        """Where the record of ``chunk`` lies."""
        scales = (chunk // self.config.group_chunks + 1) * self._layout.value_scale_bytes
        return scales + chunk * self._layout.chunk_bytes


def play(
    bench: SideBySide,
    name: str,
    segments: Mapping[str, Sequence[Segment]],
    *,
    errors: Mapping[str, Sequence[Collection[int]]] | None = None,
    **options: Any,
) -> Run:
    """Send segments through units with the streams ``header``, ``beats`` and ``work``; compare.

    The stream ``saliency`` is compared, too, if the units have it.

    Parameters
    ----------
    bench, name
        The units, and the name of their simulation.
    segments
        By unit; the others stay idle.
    errors
        By unit and segment, the indices of the beats that are marked.
    options
        As for `simulate`.
    """
    inputs: dict[str, list[int]] = {}
    wanted: dict[str, list[int]] = {}
    for unit in bench.signature.members:
        sent = segments.get(unit, [])
        marked = (errors or {}).get(unit, [()] * len(sent))
        inputs[f"{unit}__header"] = [segment.header for segment in sent]
        inputs[f"{unit}__beats"] = [
            beat
            for segment, indices in zip(sent, marked, strict=True)
            for beat in segment.beats(indices)
        ]
        wanted[f"{unit}__work"] = [item for segment in sent for item in segment.work]
        if "saliency" in bench.signature.members[unit].signature.members:
            wanted[f"{unit}__saliency"] = [beat for segment in sent for beat in segment.saliency]
    run = simulate(
        bench,
        name=name,
        inputs=inputs,
        outputs={stream: len(items) for stream, items in wanted.items()},
        **options,
    )
    for unit, sent in segments.items():
        got = run.outputs[f"{unit}__work"]
        for index, (found, expected) in enumerate(zip(got, wanted[f"{unit}__work"], strict=True)):
            if found != expected:
                layout = work_layout(sent[0].config)
                assert unpack(layout, found) == unpack(layout, expected), f"{unit}, step {index}"
        saliency = f"{unit}__saliency"
        assert run.outputs.get(saliency) == wanted.get(saliency), unit
    return run
