"""The clients of the mixed case."""

from __future__ import annotations

from hw.memory.arbiter import Client

READERS = ("streaming", "gather")
WRITER = "write"
#: Requests that are read for each one that is written: 5 % of the bytes are written.
READS_PER_WRITE = 19


def clients(window: int) -> list[Client]:
    """Return the clients of an arbiter, all of weight 1.

    Parameters
    ----------
    window
        Requests of a client under way, at least 2.
    """
    return [
        Client(name=name, tag_bits=(window - 1).bit_length(), writes=name == WRITER)
        for name in (*READERS, WRITER)
    ]


def id_bits(window: int) -> int:
    """Bits of the ``id`` of the arbiter's channel: the tag and the client's number."""
    return clients(window)[0].tag_bits + 2
