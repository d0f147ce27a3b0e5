"""The progressive format: a bit of every key, then whole keys of a few, then values of fewer."""

from __future__ import annotations

from dataclasses import dataclass
from math import log, sqrt
from typing import ClassVar

import torch
from torch import Tensor

from golden.progressive.format import ProgressiveFormat, one_burst_bits
from golden.progressive.numbers import decode, fold_query, restore
from golden.progressive.reference import (
    HeadStatistics,
    choose_channels,
    compress,
    estimate,
    keep,
)
from golden.quality.interface import CacheMethod, CacheState, Knob, Prefill, Reading
from golden.quality.storage import Ranking, TokenBuffer, take

__all__ = ["Progressive"]


@dataclass(frozen=True, kw_only=True)
class Progressive(CacheMethod):
    """``golden.progressive`` in every head, its traffic by ``ProgressiveFormat.step_bytes``.

    A step reads the most significant bits of every key in the channels that its queries weigh
    most, and every key's scale; of the ``top`` best tokens and the newest the upper bits of the
    whole key; of those whose score by them comes near the best, and of the first tokens, the rest
    of the key and the value. The others count with the centre of the values. Statistics of the
    head, frozen after the prompt, are read in each step.

    Parameters
    ----------
    top
        Candidates, from 1 up.
    part
        The planes of a ``part``-th of the channels are read; a power of two up to 32.
    plane_bits, key_bits, screen_bits, value_bits, window, first, reach
        Those of ``ProgressiveFormat``; None for as many ``screen_bits`` as one burst holds.
    """

    name: ClassVar[str] = "Progressive"
    paper: ClassVar[str] = "this project; docs/progressive_format.md"
    knob: ClassVar[Knob | None] = Knob("top", lowest=32, step=32)

    top: int = 256
    part: int = 4
    plane_bits: int = 1
    key_bits: int = 6
    screen_bits: int | None = None
    value_bits: int = 4
    window: int = 64
    first: int = 4
    reach: int = 6

    def __post_init__(self) -> None:
        if self.part not in (1, 2, 4, 8, 16, 32):
            raise ValueError(f"part must be a power of two up to 32, not {self.part!r}")
        self.form(head_dim=64)

    def form(self, *, head_dim: int) -> ProgressiveFormat:
        """The format for heads of this width; ValueError if there is none."""
        return ProgressiveFormat(
            head_dim=head_dim,
            key_bits=self.key_bits,
            screen_bits=self.screen_bits or one_burst_bits(head_dim, self.key_bits),
            value_bits=self.value_bits,
            plane_bits=self.plane_bits,
            channels=head_dim // self.part,
            top=self.top,
            window=self.window,
            first=self.first,
            reach=self.reach,
        )

    def start(self, prefill: Prefill) -> CacheState:
        """Take the statistics of the prompt and compress it."""
        return _State(self, prefill)


@dataclass(frozen=True)
class _Levels:
    """Tokens ``[B, G, n, D]`` in float32: keys by their planes, upper bits and all bits."""

    plane: Tensor
    upper: Tensor
    whole: Tensor
    value: Tensor

    @staticmethod
    def of(
        keys: Tensor, values: Tensor, statistics: HeadStatistics, form: ProgressiveFormat
    ) -> _Levels:
        device = keys.device
        tokens = compress(keys.cpu(), values.cpu(), statistics, form)

        def key(known: int) -> Tensor:
            return decode(tokens.key, form.key_bits, known).to(device, torch.float32)

        value = decode(tokens.value, form.value_bits).to(device, torch.float32)
        return _Levels(key(form.plane_bits), key(form.screen_bits), key(form.key_bits), value)


class _State(CacheState):
    def __init__(self, method: Progressive, prefill: Prefill) -> None:
        self._form = form = method.form(head_dim=prefill.key.shape[-1])
        self._heads = prefill.heads
        self._context = prefill.tokens
        self._ranking = Ranking(shuffled=method.shuffled)
        self._statistics = prefill.shared(
            "Progressive",
            lambda: HeadStatistics.of(
                prefill.key.cpu(), prefill.value.cpu(), prefill.query.flatten(2, 3).cpu()
            ),
        )
        coded = (
            form.plane_bits,
            form.key_bits,
            form.screen_bits,
            form.value_bits,
            form.value_group,
        )
        levels = prefill.shared(
            ("Progressive", *coded),
            lambda: _Levels.of(prefill.key, prefill.value, self._statistics, form),
        )
        # A full buffer grows into storage of its own, so the levels shared stay as they are.
        self._plane, self._upper = TokenBuffer(levels.plane), TokenBuffer(levels.upper)
        self._whole, self._value = TokenBuffer(levels.whole), TokenBuffer(levels.value)

    def step(self, query: Tensor, key: Tensor, value: Tensor) -> Reading:
        form, statistics = self._form, self._statistics
        new = _Levels.of(key.unsqueeze(-2), value.unsqueeze(-2), statistics, form)
        self._plane.append(new.plane.squeeze(-2))
        self._upper.append(new.upper.squeeze(-2))
        self._whole.append(new.whole.squeeze(-2))
        self._value.append(new.value.squeeze(-2))
        self._context += 1
        folded = fold_query(query.cpu(), statistics.key).to(query.device, torch.float32)
        first = min(form.first, self._context)
        after = first + form.ranked(self._context)
        estimates = estimate(
            folded, self._plane.all[..., first:after, :], choose_channels(folded, form.channels)
        )
        chosen = first + self._ranking.top(estimates, form.top)
        everyone = torch.arange(self._context, device=key.device)
        unranked = torch.cat((everyone[:first], everyone[after:]))
        index = torch.cat((unranked.expand(*chosen.shape[:-1], -1), chosen), -1)
        upper = take(self._upper.all, index)
        scores = folded @ upper.transpose(-1, -2) / (sqrt(form.head_dim) * log(2))
        kept = keep(scores, form.reach, first)
        rest = int(kept.sum()) * form.rest_bytes
        kept = kept.unsqueeze(-1)
        bytes_ = form.step_bytes(self._context, kept=0)
        return Reading(
            restore_keys(torch.where(kept, take(self._whole.all, index), upper), statistics),
            restore(take(self._value.all, index) * kept, statistics.value).to(torch.float32),
            self._heads * bytes_.read + rest,
            self._heads * bytes_.written,
        )


def restore_keys(keys: Tensor, statistics: HeadStatistics) -> Tensor:
    """Normalised keys as the decoder's queries see them."""
    return restore(keys, statistics.key).to(torch.float32)
