"""Configurations below the limits of `AttentionConfig`: small enough for a proof for all time."""

from dataclasses import dataclass

from hw.config import AttentionConfig


@dataclass(frozen=True, kw_only=True)
class SmallConfig(AttentionConfig):
    """A configuration that is not checked: a unit under proof reads a few of its fields only."""

    def __post_init__(self) -> None:
        """Leave the fields as they are."""
