"""KVO as published: differential quantisation of closed windows, chunks selected by their base."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from golden.quality.interface import CacheMethod, CacheState, Knob, Prefill, Reading
from golden.quality.storage import (
    FP16_BYTES,
    Ranking,
    TokenBuffer,
    bursts,
    take,
)
from golden.reference import base_keys, compress_tail, compress_window, dequantise_tail
from golden.reference.compress import dequantise_window
from golden.reference.quantiser import quantise
from hw.config import AttentionConfig, preset
from hw.formats import KVFormat
from hw.selection import selection_policy

__all__ = ["KVO"]


@dataclass(frozen=True, kw_only=True)
class KVO(CacheMethod):
    """The method of the accelerator, through ``golden.reference`` and its record sizes.

    DSQ: a new key becomes AQ_8 per token and channel group (step 1); a window closes when the next
    one is complete, by the attention that its tokens got in both (step 2); each chunk is ordered by
    it (step 3); base keys are AQ_8, the others 2-bit differences with pruned channels, values 2 or
    4 bits with pruned tokens (step 4). HCAP: ``e_c = q . B_c`` of every base key, the ``budget`` /
    8 best chunks and the tail are read.

    Reads are the burst-padded records of ``hw.formats``, those of the tail with the saliency sums,
    the value scales once per group that has a selected chunk. Writes are the entry of a token (key
    codes, value codes, and the scales of either), the sums, and, when a window closes, its records.
    The paper leaves the first two layers whole.

    Parameters
    ----------
    budget
        Closed tokens read in a step; a multiple of 8 from 24 to 512.
    """

    name: ClassVar[str] = "KVO"
    paper: ClassVar[str] = "KVO-LLM, DAC 2025"
    knob: ClassVar[Knob | None] = Knob("budget", lowest=24, highest=512, step=8)

    budget: int = 384

    def __post_init__(self) -> None:
        self.config(head_dim=64, rows=1)

    def config(self, *, head_dim: int, rows: int) -> AttentionConfig:
        """The accelerator's configuration for heads of this shape.

        Raises
        ------
        ConfigError
            ``budget`` or the shape is illegal.
        """
        return replace(
            preset("lm"), head_dim=head_dim, rows=rows, budget=self.budget, max_context=32768
        )

    def start(self, prefill: Prefill) -> CacheState:
        """Compress the closed windows of the prompt."""
        return _State(self, prefill)


@dataclass(frozen=True)
class _Closed:
    """Dequantised chunks of closed windows, float32."""

    #: ``[B, G, chunks, D]``.
    base: Tensor
    #: ``[B, G, chunks, C, D]``.
    keys: Tensor
    values: Tensor

    @staticmethod
    def compress(keys: Tensor, values: Tensor, sums: Tensor, config: AttentionConfig) -> _Closed:
        """Windows ``[B, G, windows * W, D]`` as the tail held them, and their saliency."""
        device = keys.device

        def windows(x: Tensor, dimension: int) -> Tensor:
            return x.cpu().unflatten(dimension, (-1, config.window))

        entered = quantise(windows(keys, -2), config.key_bits, config.group)
        window = compress_window(entered, windows(values, -2), windows(sums, -1), config)
        coded = (base_keys(window), *dequantise_window(window, config))
        # [B, G, windows, chunks of the window, ...] to [B, G, chunks, ...].
        return _Closed(*(x.flatten(2, 3).to(device, torch.float32) for x in coded))

    def joined(self, other: _Closed) -> _Closed:
        """With later windows behind it."""
        return _Closed(
            torch.cat((self.base, other.base), 2),
            torch.cat((self.keys, other.keys), 2),
            torch.cat((self.values, other.values), 2),
        )


def _entered(keys: Tensor, values: Tensor, config: AttentionConfig) -> tuple[Tensor, Tensor]:
    """Tokens at the precision of the tail (step 1 of DSQ)."""
    tail = dequantise_tail(compress_tail(keys.cpu(), values.cpu(), config), config)
    device = keys.device
    return tail[0].to(device, torch.float32), tail[1].to(device, torch.float32)


class _State(CacheState):
    def __init__(self, method: KVO, prefill: Prefill) -> None:
        self._config = method.config(head_dim=prefill.key.shape[-1], rows=prefill.query.shape[2])
        # The budget decides nothing before the first step: points of a sweep share the windows.
        self._heads = prefill.heads
        self._ranking = Ranking(shuffled=method.shuffled)
        self._context = prefill.tokens
        self._first = self._config.closed_tokens(prefill.tokens)
        keys, values, sums, self._closed = prefill.shared(
            ("KVO", replace(self._config, budget=24)), lambda: self._compress(prefill)
        )
        self._keys, self._values = TokenBuffer(keys), TokenBuffer(values)
        #: Saliency of the tail tokens, ``[B, G, tail]``.
        self._sums = sums

    def _compress(self, prefill: Prefill) -> tuple[Tensor, Tensor, Tensor, _Closed | None]:
        """Tail keys, tail values, saliency of the tail, closed windows."""
        config, first = self._config, self._first
        keys, values = _entered(prefill.key, prefill.value, config)
        sums = prefill.attention_sums(config.window).near
        closed = None
        if first:
            parts = (keys[..., :first, :], values[..., :first, :], sums[..., :first])
            closed = _Closed.compress(*parts, config)
        # A tail of its own, so that nothing grows into what other states share.
        return (
            keys[..., first:, :].clone(),
            values[..., first:, :].clone(),
            sums[..., first:],
            closed,
        )

    def _close(self) -> None:
        """Close the oldest window of the tail."""
        config, window = self._config, self._config.window
        keys, values = self._keys.all, self._values.all
        closing = _Closed.compress(
            keys[..., :window, :], values[..., :window, :], self._sums[..., :window], config
        )
        self._closed = closing if self._closed is None else self._closed.joined(closing)
        self._keys = TokenBuffer(keys[..., window:, :].clone())
        self._values = TokenBuffer(values[..., window:, :].clone())
        self._sums = self._sums[..., window:]
        self._first += window

    def step(self, query: Tensor, key: Tensor, value: Tensor) -> Reading:
        config, form = self._config, KVFormat(self._config)
        self._context += 1
        written = self._entry_bytes()
        if config.closed_tokens(self._context) > self._first:
            self._close()
            groups = config.window // config.value_group
            blocks = config.window // config.chunk // config.chunk
            written += groups * form.group_bytes + blocks * form.base_block_bytes
        entered = _entered(key.unsqueeze(-2), value.unsqueeze(-2), config)
        self._keys.append(entered[0].squeeze(-2))
        self._values.append(entered[1].squeeze(-2))
        self._sums = torch.cat((self._sums, torch.zeros_like(self._sums[..., :1])), -1)
        written += len(form.tail_order(self._context)) * bursts(form.saliency_bytes)
        keys, values = self._keys.all, self._values.all
        # Chunks of a value group share its scales: how many groups are read depends on the data.
        groups = 0
        if self._closed is not None:
            estimate = selection_policy(config.group_combine).reference(
                self._closed.base @ query.transpose(-1, -2)
            )
            selection = self._ranking.top(estimate, config.top_chunks)
            groups = self._groups_read(selection)
            chunk_keys = take(self._closed.keys, selection)
            chunk_values = take(self._closed.values, selection)
            keys = torch.cat((keys, chunk_keys.flatten(2, 3)), 2)
            values = torch.cat((values, chunk_values.flatten(2, 3)), 2)
        read = sum(form.traffic_bytes(self._context, groups=0).values())
        return Reading(
            keys,
            values,
            self._heads * read + groups * form.value_scale_bytes,
            self._heads * written,
        )

    def _groups_read(self, selection: Tensor) -> int:
        """Value groups with a selected chunk, of all caches together."""
        groups = (selection // self._config.group_chunks).flatten(0, 1)
        marked = torch.zeros(len(groups), int(groups.max()) + 1, device=groups.device)
        return int(marked.scatter(-1, groups, 1.0).sum())

    def _entry_bytes(self) -> int:
        """One token as it enters the tail: codes and scales lie apart."""
        c = self._config
        codes = (c.head_dim * bits // 8 for bits in (c.key_bits, c.tail_value_bits))
        scales = c.groups * 2 * FP16_BYTES, FP16_BYTES
        return sum(bursts(size) for size in (*codes, *scales))

    def observe(self, probability: Tensor) -> None:
        self._sums = self._sums + probability[..., : len(self._keys)].sum(2)
