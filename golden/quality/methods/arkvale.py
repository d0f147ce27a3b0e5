"""ArkVale: pages by the digest of their keys, evicted to a backing memory and recalled."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from golden.quality.interface import CacheMethod, CacheState, Knob, Prefill, Reading
from golden.quality.methods.quest import page_tokens, upper_bound
from golden.quality.storage import FP16_BYTES, Ranking, TokenBuffer, bursts, half, take, token_bytes

__all__ = ["ArkVale", "cuboid"]


def cuboid(page: Tensor) -> tuple[Tensor, Tensor]:
    """Lower and upper corner of the digest of pages ``[..., size, D]``, in FP16.

    Centre ``c = (min + max) / 2``, radius ``r = mean of abs(c - k)``; corners ``c - r``, ``c + r``.
    """
    centre = (page.amin(-2) + page.amax(-2)) / 2
    radius = (centre.unsqueeze(-2) - page).abs().mean(-2)
    return half(centre - radius), half(centre + radius)


@dataclass(frozen=True, kw_only=True)
class ArkVale(CacheMethod):
    """Attend to the pages whose digests score best; others may lie in a backing memory.

    Sections 4.2 and 4.3 of the paper, the cuboid-mean digest: a page's score for a query is ``sum
    over i of max(q_i * bmax_i, q_i * bmin_i)``; query heads that share a KV head take the largest.
    The first page, the newest full one and that being filled are always read. A selected page that
    is not resident is recalled; then, while more than ``resident`` tokens are, the page with the
    least score leaves. Full pages have a copy in the backing memory from the start.

    Every step reads the digests of all full pages. A page that becomes full writes its digest and
    its copy. A recall reads a page from the backing memory and writes it: both are counted, so
    traffic depends on the data.

    Parameters
    ----------
    budget
        Tokens of the pages read, that being filled included; a multiple of ``page``, at least 4
        pages.
    page
        Tokens of a page; 16 or 32 in the paper.
    residents
        Resident full pages, as a multiple of those that a step reads; at least 1.
    """

    name: ClassVar[str] = "ArkVale"
    paper: ClassVar[str] = "Chen et al., NeurIPS 2024"
    knob: ClassVar[Knob | None] = Knob("budget", lowest=64, step=16)

    budget: int = 256
    page: int = 16
    residents: int = 2

    def __post_init__(self) -> None:
        self._at_least(1, "page", "residents")
        self._at_least(4 * self.page, "budget")
        if self.budget % self.page:
            raise ValueError(f"budget must be a multiple of page {self.page}, not {self.budget!r}")

    def start(self, prefill: Prefill) -> CacheState:
        """Make the digests of the prompt; the pages that its last query wants are resident."""
        return _State(self, prefill)


class _State(CacheState):
    def __init__(self, method: ArkVale, prefill: Prefill) -> None:
        self._method = method
        self._heads = prefill.heads
        self._ranking = Ranking(shuffled=method.shuffled)
        self._keys = TokenBuffer(half(prefill.key))
        self._values = TokenBuffer(half(prefill.value))
        size = method.page
        full = prefill.tokens // size
        low, high = cuboid(self._keys.all[..., : full * size, :].unflatten(-2, (full, size)))
        self._low, self._high = TokenBuffer(low), TokenBuffer(high)
        self._resident = torch.ones(low.shape[:-1], dtype=torch.bool, device=low.device)
        if full:
            score = self._scores(prefill.query[..., -1, :], full)
            self._evict(self._ranking.top(score, self._read_pages), score)

    @property
    def _read_pages(self) -> int:
        """Full pages read in a step."""
        return self._method.budget // self._method.page - 1

    def _scores(self, query: Tensor, full: int) -> Tensor:
        """Of the full pages; infinite where a page is always read."""
        low, high = self._low.all[..., :full, :], self._high.all[..., :full, :]
        score = upper_bound(query, low, high).amax(2)
        pinned = torch.zeros(full, dtype=torch.bool, device=score.device)
        pinned[[0, -1]] = True
        return score.masked_fill(pinned, torch.inf)

    def _evict(self, pages: Tensor, score: Tensor) -> None:
        """Keep ``pages``, then the best residents, as many as may be."""
        room = self._method.residents * self._read_pages
        worth = score.scatter(-1, pages, torch.inf)
        worth = worth.masked_fill(~self._resident, -torch.inf)
        best = torch.sort(worth, dim=-1, descending=True, stable=True).indices[..., :room]
        self._resident = torch.zeros_like(self._resident).scatter(-1, best, True) & self._resident

    def step(self, query: Tensor, key: Tensor, value: Tensor) -> Reading:
        self._keys.append(half(key))
        self._values.append(half(value))
        keys, values = self._keys.all, self._values.all
        size, tokens, width = self._method.page, len(self._keys), key.shape[-1]
        full = (tokens - 1) // size
        digest = 2 * bursts(width * FP16_BYTES)
        page_bytes = size * token_bytes(width)
        newest = torch.arange(full * size, tokens, device=keys.device)
        index = newest.expand(*key.shape[:-1], -1)
        recalled = 0
        if full:
            score = self._scores(query, full)
            pages = self._ranking.top(score, self._read_pages)
            recalled = int((~self._resident.gather(-1, pages)).sum())
            self._resident = self._resident.scatter(-1, pages, True)
            self._evict(pages, score)
            index = torch.cat((page_tokens(pages, size), index), -1)
        read = self._heads * (index.shape[-1] * token_bytes(width) + full * digest)
        written = self._heads * token_bytes(width)
        if tokens == (full + 1) * size:
            low, high = cuboid(keys[..., full * size :, :])
            self._low.append(low)
            self._high.append(high)
            new = torch.ones_like(low[..., :1], dtype=torch.bool)
            self._resident = torch.cat((self._resident, new), -1)
            written += self._heads * (digest + page_bytes)
        return Reading(
            take(keys, index),
            take(values, index),
            read + recalled * page_bytes,
            written + recalled * page_bytes,
        )
