"""Deficit round robin in Python: in which order requests go that are all there from the start."""

from __future__ import annotations

from collections.abc import Sequence


def order_of_grants(requests: Sequence[Sequence[int]], quanta: Sequence[int]) -> list[int]:
    """Return the client of each grant; ``requests`` are the bursts of each client's requests.

    A client is visited in turn, behind the one before it; the first visit comes to client 1, or to
    0 if there is no other, since the turn starts at 0 without a deficit.
    """
    left = [list(its) for its in requests]
    deficit = [0] * len(left)
    turn, order = 0, []
    while any(left):
        if not (left[turn] and deficit[turn] >= left[turn][0]):
            if not left[turn]:
                deficit[turn] = 0
            count = len(left)
            turn = next(j % count for j in range(turn + 1, turn + 1 + count) if left[j % count])
            deficit[turn] += quanta[turn]
        deficit[turn] -= left[turn].pop(0)
        order.append(turn)
    return order
