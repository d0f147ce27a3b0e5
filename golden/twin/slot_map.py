"""Integer twin of what decides which token of a cache of constant size leaves."""

import torch
from torch import Tensor

from golden.twin.numbers import round_half_up
from golden.twin.slot_votes import votes
from hw.config import AttentionConfig
from hw.constants import DECAY_FRACTION
from hw.formats import SALIENCY_BITS


class SlotMap:
    """Scores, positions and the next slot of one cache (docs/contracts.md, section 11).

    A step is `place`, then `receive`.

    Parameters
    ----------
    config
        ``slots`` and what begins with ``slot_`` matters, but for ``slot_caches``.

    Raises
    ------
    ValueError
        ``config`` has no slots.
    """

    def __init__(self, config: AttentionConfig) -> None:
        if not config.slots:
            raise ValueError("slots must be above 0 for a cache of constant size, not 0")
        self.config = config
        #: ``[live]``: score of each slot, in units of 2**-20, or votes against it, in units of
        #: 2**-16, and position of its token.
        self.score = torch.zeros(0, dtype=torch.int64)
        self.positions = torch.zeros(0, dtype=torch.int64)
        #: Where the next token goes.
        self.next_slot = 0
        #: Tokens so far: the position of the next one.
        self.now = 0

    @property
    def live(self) -> int:
        """Tokens that the cache holds: ``min(now, slots)``."""
        return len(self.score)

    def fill(self, score: Tensor) -> None:
        """Tokens of a prompt, which have these scores; fewer than there are slots.

        Raises
        ------
        ValueError
            The map has tokens already, or these take every slot.
        """
        if self.now or len(score) >= self.config.slots:
            raise ValueError(
                f"a prompt must come first and be at most {self.config.slots - 1} tokens, "
                f"not {len(score)} after {self.now}"
            )
        self.score = score
        self.now = self.next_slot = len(score)
        self.positions = torch.arange(self.now)

    def place(self) -> int:
        """The next token comes; its slot."""
        slot = self.next_slot
        if slot == self.live:
            more = torch.zeros(1, dtype=torch.int64)
            self.score = torch.cat((self.score, more))
            self.positions = torch.cat((self.positions, more))
        # Not in place: who holds the scores of a step keeps them.
        self.score = self.score.index_fill(0, torch.tensor(slot), 0)
        self.positions = self.positions.index_fill(0, torch.tensor(slot), self.now)
        self.now += 1
        return slot

    def receive(self, received: Tensor) -> None:
        """What each slot received in this step ``[live]``; then the next slot is known."""
        config = self.config
        kept = round_half_up(self.score * config.slot_decay, DECAY_FRACTION)
        more = votes(received, config) if config.votes else received
        self.score = (kept + more).clamp(max=(1 << SALIENCY_BITS) - 1)
        self.next_slot = self.live if self.live < config.slots else self._victim()

    def _victim(self) -> int:
        """The slot of the smallest score, or of most votes, that may leave; the lowest on ties."""
        sink = self.positions < self.config.slot_sinks
        recent = self.positions >= self.now - self.config.slot_recent
        worth = -self.score if self.config.votes else self.score
        ranked = worth.masked_fill(sink | recent, 1 << SALIENCY_BITS)
        return int((ranked == ranked.min()).nonzero()[0])
