"""Sizes of the progressive format: what a head's cache holds, where it lies, what a step moves.

Everything of one (sequence, layer, KV head); docs/progressive_format.md has the bit fields.
"""

from __future__ import annotations

from dataclasses import dataclass

from hw.config import BURST_BYTES

__all__ = ["PAGE_TOKENS", "PAIR_BYTES", "ProgressiveFormat", "StepBytes", "one_burst_bits"]

#: Tokens of a page: one bit of each is a burst.
PAGE_TOKENS = 8 * BURST_BYTES
#: Scale and zero point of a quantisation group.
PAIR_BYTES = 2
#: Centre (FP16) and exponent (8 bits) of a channel, for keys and for values.
STATISTIC_BYTES = 2 * 3


def _bursts(size: int) -> int:
    return -(-size // BURST_BYTES) * BURST_BYTES


def one_burst_bits(head_dim: int, key_bits: int) -> int:
    """Upper bits of a key that fit one burst, at least 2 and at most ``key_bits``."""
    return max(2, min(key_bits, 8 * BURST_BYTES // head_dim))


@dataclass(frozen=True)
class StepBytes:
    """Bytes of one decode step, all in whole bursts."""

    statistics: int
    #: Planes and scales of the pages.
    planes: int
    scales: int
    #: Upper key bits of the candidates.
    keys: int
    #: Lower key bits and values of the tokens kept.
    rest: int
    #: Read and written to close a page; 0 in the other steps.
    closing_read: int
    closing_written: int
    #: The new token.
    appended: int

    @property
    def read(self) -> int:
        """All that leaves the memory."""
        return (
            self.statistics + self.planes + self.scales + self.keys + self.rest + self.closing_read
        )

    @property
    def written(self) -> int:
        """All that enters it."""
        return self.appended + self.closing_written


@dataclass(frozen=True, kw_only=True)
class ProgressiveFormat:
    """Parameters of the format.

    Members
    -------
    head_dim : 32, 64, 128 or 256.
    key_bits : of a key code, 2 to 7; one scale per key.
    screen_bits : upper bits of a key code that the second look takes, 2 to ``key_bits``;
        `one_burst_bits` fill one burst.
    value_bits : of a value code, 2 to 7.
    value_group : channels of a value that share a scale; divides ``head_dim``.
    plane_bits : upper bits of every key code that rank, 1 to ``screen_bits``.
    channels : whose planes a step reads, 1 to ``head_dim``.
    top : candidates of a step by rank; 1 or more.
    window : newest tokens, candidates without being ranked; 1 to 256.
    first : tokens at the beginning that every step keeps, 0 to 256; attention sinks lie there.
    reach : a candidate is kept whose score is at most so many powers of two below the best, 1 to
        31.

    Raises
    ------
    ValueError
        A parameter is illegal.
    """

    head_dim: int
    key_bits: int = 6
    screen_bits: int
    value_bits: int = 4
    value_group: int = 32
    plane_bits: int = 1
    channels: int
    top: int = 256
    window: int = 64
    first: int = 4
    reach: int = 6

    def __post_init__(self) -> None:
        if self.head_dim not in (32, 64, 128, 256):
            raise ValueError(f"head_dim must be 32, 64, 128 or 256, not {self.head_dim!r}")
        ranges = {
            "key_bits": (2, 7),
            "screen_bits": (2, self.key_bits),
            "value_bits": (2, 7),
            "value_group": (1, self.head_dim),
            "plane_bits": (1, self.screen_bits),
            "channels": (1, self.head_dim),
            "top": (1, None),
            "window": (1, PAGE_TOKENS),
            "first": (0, PAGE_TOKENS),
            "reach": (1, 31),
        }
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            bad = isinstance(value, bool) or not isinstance(value, int) or value < low
            if bad or (high is not None and value > high):
                legal = f"an integer from {low} up" if high is None else f"{low} to {high}"
                raise ValueError(f"{name} must be {legal}, not {value!r}")
        if self.head_dim % self.value_group:
            raise ValueError(
                f"value_group must divide head_dim {self.head_dim}, not {self.value_group!r}"
            )

    @property
    def value_groups(self) -> int:
        """Scales of a value."""
        return self.head_dim // self.value_group

    @property
    def statistics_bytes(self) -> int:
        """Centres and exponents of the head."""
        return _bursts(STATISTIC_BYTES * self.head_dim)

    @property
    def plane_bytes(self) -> int:
        """The planes of a page: ``plane_bits`` bursts per channel, or a row per token."""
        return PAGE_TOKENS * self.row_bytes

    @property
    def row_bytes(self) -> int:
        """The planes of one token."""
        return self.head_dim * self.plane_bits // 8

    @property
    def scale_bytes(self) -> int:
        """Key scales and zero points of a page."""
        return PAGE_TOKENS * PAIR_BYTES

    @property
    def page_bytes(self) -> int:
        """A page: its planes, then its scales."""
        return self.plane_bytes + self.scale_bytes

    @property
    def key_bytes(self) -> int:
        """Upper bits of a key."""
        return _bursts(self.head_dim * self.screen_bits // 8)

    @property
    def rest_bytes(self) -> int:
        """Lower bits of a key, value codes, value scales."""
        codes = self.head_dim * (self.key_bits - self.screen_bits + self.value_bits) // 8
        return _bursts(codes + PAIR_BYTES * self.value_groups)

    @property
    def stored_bytes(self) -> int:
        """Memory that a token takes, the page's share included."""
        return self.page_bytes // PAGE_TOKENS + self.key_bytes + self.rest_bytes

    def closed_pages(self, context: int) -> int:
        """Pages stored channel by channel in the step whose newest token is number ``context``."""
        return (context - 1) // PAGE_TOKENS

    def ranked(self, context: int) -> int:
        """Tokens that the step ranks: all but the first and the newest; they follow the first."""
        return max(0, context - self.window - self.first)

    def step_bytes(self, context: int, kept: int | None = None) -> StepBytes:
        """Traffic of the step that appends token number ``context`` (1 or more) and attends.

        ``kept`` tokens are read whole, the first ones among them; by default all candidates.
        """
        ranked = self.ranked(context)
        candidates = min(self.top, ranked) + context - ranked
        closed = self.closed_pages(context)
        open_tokens = context - closed * PAGE_TOKENS
        # The window may cover the end of the last closed page; pages are read whole.
        in_open = max(0, open_tokens - self.window)
        closing = self.plane_bytes if open_tokens == PAGE_TOKENS else 0
        return StepBytes(
            statistics=self.statistics_bytes,
            planes=closed * self.channels * self.plane_bits * BURST_BYTES
            + _bursts(in_open * self.row_bytes),
            scales=closed * self.scale_bytes + _bursts(open_tokens * PAIR_BYTES),
            keys=candidates * self.key_bytes,
            rest=(candidates if kept is None else kept) * self.rest_bytes,
            closing_read=closing,
            closing_written=closing,
            appended=self.key_bytes
            + self.rest_bytes
            + _bursts(self.row_bytes)
            + _bursts(PAIR_BYTES),
        )
