"""Where the cache of a KV head lives: one rule for hardware and software. No Amaranth here."""

from typing import Any

#: Legal numbers of slices: powers of two, so that the rule is an addition of low bits.
SLICES = (1, 2, 4)


def home_slice(sequence: Any, layer: Any, kv_head: Any, slices: int) -> Any:
    """Return the slice in which a KV head of a layer of a sequence lives.

    Neighbouring heads, layers and sequences live in different slices, so that a step of decoding
    keeps all of them busy.

    Parameters
    ----------
    sequence, layer, kv_head
        Integers, or unsigned values of Amaranth; the result is of the same kind.
    slices
        1, 2 or 4.

    Raises
    ------
    ValueError
        ``slices`` is not legal.
    """
    if slices not in SLICES:
        raise ValueError(f"slices must be 1, 2 or 4, not {slices!r}")
    return (sequence + layer + kv_head) % slices
