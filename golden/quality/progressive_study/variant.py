"""One line of the study, and the list of all."""

from __future__ import annotations

from dataclasses import dataclass, replace

from golden.progressive.format import ProgressiveFormat, one_burst_bits

__all__ = ["DEFAULT", "GROUPS", "Variant", "every_variant"]

_CHOICES: dict[str, tuple[str, ...]] = {
    "statistics": ("prompt", "none", "centre", "early", "other", "page"),
    "estimate": ("plane", "sign", "products", "exact"),
    "rotation": ("none", "hadamard"),
    "combine": ("max", "mean"),
    "narrow": ("top", "reach", "reuse"),
    "change": ("none", "outliers", "sink"),
}


@dataclass(frozen=True, kw_only=True)
class Variant:
    """The format, or one thing about it changed.

    Members
    -------
    part, top, window, first, reach, key_bits, screen_bits, value_bits, value_group : of the format;
        planes of a ``part``-th of the channels are read.
    plane_bits : upper bits of every key that rank.
    scale_bits : 8, or 4: scale and zero point rounded to 4 bits each.
    weighted : whether exponents follow the queries.
    statistics : from the ``prompt``; ``none``; ``centre`` only, no exponents; ``early``, from the
        first 256 tokens; of the ``other`` sequence; renewed for each ``page``.
    estimate : by the ``plane``; by plain ``sign``s, without scale; by ``products``, a codebook of
        16 for 4 channels (product quantisation); ``exact``.
    rotation : of keys and queries after normalisation.
    combine : estimates of the query heads.
    narrow : candidates are the ``top``; of those only what is estimated within 11.5 powers of two
        of the best (``reach``); only what was among the best 2 ``top`` in the step before, and a
        quarter of the pages in turn (``reuse``).
    change : of the model's tensors, such that exact attention gives the same: 4 channels of 64
        ten times as large and off by 15 (``outliers``); an early token a ``sink`` that takes most
        of the attention, whose share is taken out again.
    dense_layers : layers below attend exactly.

    Raises
    ------
    ValueError
        A choice is unknown.
    """

    top: int = 256
    part: int = 4
    window: int = 64
    first: int = 4
    reach: int = 6
    key_bits: int = 6
    screen_bits: int = 4
    value_bits: int = 4
    value_group: int = 32
    plane_bits: int = 1
    scale_bits: int = 8
    weighted: bool = True
    statistics: str = "prompt"
    estimate: str = "plane"
    rotation: str = "none"
    combine: str = "max"
    narrow: str = "top"
    change: str = "none"
    dense_layers: int = 0

    def __post_init__(self) -> None:
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                listed = ", ".join(known)
                raise ValueError(f"{name} must be one of {listed}, not {getattr(self, name)!r}")

    def form(self, head_dim: int, *, measured: int = 64) -> ProgressiveFormat:
        """The format for heads of this width.

        For a width other than ``measured`` the second look takes what fits one burst.
        """
        screen = self.screen_bits
        if head_dim != measured:
            screen = one_burst_bits(head_dim, self.key_bits)
        return ProgressiveFormat(
            head_dim=head_dim,
            key_bits=self.key_bits,
            screen_bits=min(screen, self.key_bits),
            value_bits=self.value_bits,
            value_group=self.value_group,
            channels=max(1, head_dim * self.plane_bits // self.part),
            top=self.top,
            window=self.window,
            first=self.first,
            reach=self.reach,
        )


DEFAULT = Variant()


def _each(name: str, *values: object) -> list[Variant]:
    return [replace(DEFAULT, **{name: value}) for value in values]  # type: ignore[arg-type]


_OUTLIERS = replace(DEFAULT, change="outliers")
_SINK = replace(DEFAULT, change="sink")
GROUPS: dict[str, list[Variant]] = {
    "Candidates": _each("top", 64, 128, 192, 384),
    "Channels whose planes are read": _each("part", 1, 2, 8),
    "Width of the planes": [
        replace(DEFAULT, plane_bits=2, part=8),
        replace(DEFAULT, plane_bits=2, part=4),
    ],
    "Bits of the second look": _each("screen_bits", 2, 3),
    "Bits of a key code": _each("key_bits", 4, 5),
    "Bits and groups of a value": [
        *_each("value_bits", 2, 3),
        *_each("value_group", 64),
    ],
    "Bits of scale and zero point": _each("scale_bits", 4),
    "Reach": _each("reach", 2, 4, 8, 31),
    "Newest tokens": _each("window", 16, 32),
    "Statistics": [
        *_each("statistics", "none", "centre", "early", "other", "page"),
        *_each("weighted", False),
    ],
    "Rotation": _each("rotation", "hadamard"),
    "Estimate": [
        *_each("estimate", "sign", "products", "exact"),
        replace(DEFAULT, estimate="products", part=8),
        *_each("combine", "mean"),
    ],
    "Reading less before it knows": [
        *_each("narrow", "reach", "reuse"),
        replace(DEFAULT, part=8, top=192),
        replace(DEFAULT, part=8, top=128, window=32),
        replace(DEFAULT, top=320, screen_bits=2),
    ],
    "Outlier channels": [
        _OUTLIERS,
        replace(_OUTLIERS, statistics="none"),
        replace(_OUTLIERS, statistics="centre"),
        replace(_OUTLIERS, weighted=False),
    ],
    "Attention sink": [
        _SINK,
        replace(_SINK, first=0),
        replace(_SINK, first=0, reach=9),
        replace(_SINK, statistics="none"),
    ],
    "First layers exact": _each("dense_layers", 2),
}


def every_variant() -> list[Variant]:
    """The default, then the groups', each once."""
    return list(dict.fromkeys([DEFAULT, *(v for group in GROUPS.values() for v in group)]))
