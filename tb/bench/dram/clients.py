"""The clients of the mixed case: who they are, and what their requests are called."""

from __future__ import annotations

from hw.memory.arbiter import ChannelArbiter, Client

#: Readers and the writer with their weights: 9 + 10 parts are read, 1 is written, so 5 %.
WEIGHTS = {"streaming": 9, "gather": 10, "write": 1}


def channel_arbiter(window: int, gear: int) -> ChannelArbiter:
    """Return the arbiter of a pseudo-channel, for ``window`` requests under way per client.

    Parameters
    ----------
    window
        At least 2.
    gear
        Beats of a word, 1 or 2.
    """
    clients = [
        Client(name=name, tag_bits=(window - 1).bit_length(), writes=name == "write", weight=weight)
        for name, weight in WEIGHTS.items()
    ]
    return ChannelArbiter(clients, gear=gear)
