"""Quest: pages ranked by an upper bound of their scores."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from golden.quality.interface import CacheMethod, CacheState, Knob, Prefill, Reading
from golden.quality.storage import FP16_BYTES, Ranking, TokenBuffer, bursts, half, take, token_bytes

__all__ = ["PageBounds", "Quest", "page_tokens", "upper_bound"]


def upper_bound(query: Tensor, lowest: Tensor, highest: Tensor) -> Tensor:
    """Largest score that a key between two others can have: ``[B, G, R, pages]``.

    ``sum over i of max(q_i * highest_i, q_i * lowest_i)``; the page's keys are ``[B, G, pages, D]``
    and the query ``[B, G, R, D]``.
    """
    positive = query.clamp(min=0) @ highest.transpose(-1, -2)
    return positive + query.clamp(max=0) @ lowest.transpose(-1, -2)


def page_tokens(pages: Tensor, size: int) -> Tensor:
    """Tokens of ``pages [B, G, k]`` of ``size`` tokens each, ``[B, G, k * size]``."""
    return (pages.unsqueeze(-1) * size + torch.arange(size, device=pages.device)).flatten(-2)


class PageBounds:
    """Smallest and largest key of every full page, per channel: ``[B, G, pages, D]``."""

    def __init__(self, keys: Tensor, size: int) -> None:
        full = keys.shape[-2] // size
        pages = keys[..., : full * size, :].unflatten(-2, (full, size))
        self._lowest, self._highest = TokenBuffer(pages.amin(-2)), TokenBuffer(pages.amax(-2))

    def append(self, page: Tensor) -> None:
        """A page that has become full: its keys ``[B, G, size, D]``."""
        self._lowest.append(page.amin(-2))
        self._highest.append(page.amax(-2))

    @property
    def lowest(self) -> Tensor:
        """``m`` of the paper."""
        return self._lowest.all

    @property
    def highest(self) -> Tensor:
        """``M`` of the paper."""
        return self._highest.all


@dataclass(frozen=True, kw_only=True)
class Quest(CacheMethod):
    """Attend to the pages with the largest possible scores (Algorithm 1 of the paper).

    A page's digest is the channel-wise smallest and largest of its keys. Its score for a query is
    ``sum over i of max(q_i * M_i, q_i * m_i)``; query heads that share a KV head take the page that
    any of them wants: the largest of their scores. The page being filled is always read. Every
    step reads the digests of all full pages and updates that of the page being filled. The paper
    leaves the first two layers whole.

    Parameters
    ----------
    budget
        Tokens of the pages read, that being filled included; a multiple of ``page``.
    page
        Tokens of a page; 16 in the paper.
    """

    name: ClassVar[str] = "Quest"
    paper: ClassVar[str] = "Tang et al., ICML 2024, arXiv 2406.10774"
    knob: ClassVar[Knob | None] = Knob("budget", lowest=16, step=16)

    budget: int = 256
    page: int = 16

    def __post_init__(self) -> None:
        self._at_least(1, "page", "budget")
        if self.budget % self.page:
            raise ValueError(f"budget must be a multiple of page {self.page}, not {self.budget!r}")

    def start(self, prefill: Prefill) -> CacheState:
        """Make the digests of the prompt."""
        return _State(self, prefill)


class _State(CacheState):
    def __init__(self, method: Quest, prefill: Prefill) -> None:
        self._method = method
        self._heads = prefill.heads
        self._ranking = Ranking(shuffled=method.shuffled)
        self._keys = TokenBuffer(half(prefill.key))
        self._values = TokenBuffer(half(prefill.value))
        self._bounds = PageBounds(self._keys.all, method.page)

    def step(self, query: Tensor, key: Tensor, value: Tensor) -> Reading:
        self._keys.append(half(key))
        self._values.append(half(value))
        keys, values = self._keys.all, self._values.all
        size, tokens = self._method.page, len(self._keys)
        # The page being filled holds 1 to `size` tokens; the others before it are full.
        full = (tokens - 1) // size
        score = upper_bound(
            query, self._bounds.lowest[..., :full, :], self._bounds.highest[..., :full, :]
        )
        pages = self._ranking.top(score.amax(2), self._method.budget // size - 1)
        chosen = page_tokens(pages, size)
        newest = torch.arange(full * size, tokens, device=keys.device)
        index = torch.cat((chosen, newest.expand(*chosen.shape[:-1], -1)), -1)
        if tokens == (full + 1) * size:
            self._bounds.append(keys[..., full * size :, :])
        width = key.shape[-1]
        digest = 2 * bursts(width * FP16_BYTES)
        read = index.shape[-1] * token_bytes(width) + (full + 1) * digest
        return Reading(
            take(keys, index),
            take(values, index),
            self._heads * read,
            self._heads * (token_bytes(width) + digest),
        )
