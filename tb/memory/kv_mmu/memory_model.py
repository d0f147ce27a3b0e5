"""A channel behind the MMU, cycle by cycle: answers in any order, contents by address."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

BEAT_BYTES = 16
BURST_BEATS = 2


@dataclass(frozen=True)
class Request:
    """A request as it came."""

    address: int
    bursts: int
    tag: int


@dataclass(frozen=True)
class Beat:
    """A beat of an answer."""

    data: int
    tag: int
    beat: int
    error: int


class ReadModel:
    """Answers read requests; the beats of all requests under way come in random order.

    Parameters
    ----------
    rng
    contents
        Data of the beat at a byte address.
    busy
        Probability that no beat comes in a cycle, and that a request has to wait.
    """

    def __init__(
        self,
        rng: random.Random,
        contents: Callable[[int], int],
        busy: float = 0.3,
    ) -> None:
        self._rng = rng
        self._contents = contents
        self._busy = busy
        self._waiting: list[tuple[int, Request, int]] = []
        self.requests: list[Request] = []
        #: Cycles from a request to its beats.
        self.latency = range(1, 40)
        #: Byte addresses of beats that come with an error.
        self.refuses: Callable[[int], bool] = lambda address: False

    def ready(self) -> bool:
        """Whether a request is taken in this cycle."""
        return self._rng.random() >= self._busy

    def take(self, request: Request, now: int) -> None:
        """Take a request; its tag must not be under way."""
        assert all(other.tag != request.tag for _, other, _ in self._waiting), request
        assert request.address % 32 == 0, request
        self.requests.append(request)
        due = now + self._rng.choice(self.latency)
        self._waiting += [(due, request, beat) for beat in range(request.bursts * BURST_BEATS)]

    def answer(self, now: int) -> Beat | None:
        """The beat of this cycle, if any."""
        due = [item for item in self._waiting if item[0] <= now]
        if not due or self._rng.random() < self._busy:
            return None
        item = self._rng.choice(due)
        self._waiting.remove(item)
        _, request, beat = item
        address = request.address + beat * BEAT_BYTES
        error = self.refuses(address)
        data = (1 << 128) - 1 if error else self._contents(address)
        return Beat(data, request.tag, beat, int(error))


class TableModel:
    """The words of the page tables, written a burst at a time with byte enables."""

    def __init__(self, rng: random.Random, *, tag_bits: int, busy: float = 0.3) -> None:
        self._tag_bits = tag_bits
        self._rng = rng
        self._busy = busy
        self.words: dict[int, int] = {}
        self._requests: list[Request] = []
        self._beats: list[tuple[int, int]] = []
        self._ends: list[tuple[int, int, int]] = []
        #: Whether the next writes are refused.
        self.refuses = False

    def forget(self) -> None:
        """Drop the writes under way, as a reset does; the words stay."""
        self._requests, self._beats, self._ends = [], [], []

    def contents(self, address: int) -> int:
        """The beat at ``address``: four words, absent ones 0."""
        return sum(self.words.get(address + 4 * i, 0) << 32 * i for i in range(4))

    def ready(self) -> bool:
        """Whether a request, or a beat, is taken in this cycle."""
        return self._rng.random() >= self._busy

    def take(self, request: Request) -> None:
        """Take a write request."""
        assert request.address % 32 == 0, request
        self._requests.append(request)

    def take_beat(self, data: int, enable: int, now: int) -> None:
        """Take a beat of the oldest request; the last one writes."""
        self._beats.append((data, enable))
        request = self._requests[0]
        if len(self._beats) == request.bursts * BURST_BEATS:
            if not self.refuses:
                self._write(request.address)
            due = now + self._rng.randrange(1, 30)
            self._ends.append((due, request.tag, int(self.refuses)))
            self._requests.pop(0)
            self._beats = []

    def _write(self, address: int) -> None:
        for i, (data, enable) in enumerate(self._beats):
            for lane in range(4):
                enabled = enable >> 4 * lane & 15
                assert enabled in (0, 15), "an entry is written as a whole"
                if enabled:
                    word = data >> 32 * lane & 0xFFFFFFFF
                    self.words[address + BEAT_BYTES * i + 4 * lane] = word

    def written(self, now: int) -> int | None:
        """Tag and, above it, error of a write that ends in this cycle."""
        for item in self._ends:
            if item[0] <= now:
                self._ends.remove(item)
                return item[1] | item[2] << self._tag_bits
        return None


def written_contents(address: int) -> int:
    """What a writer writes to the beat at ``address``: the same whoever does."""
    return page_contents(address) ^ ((1 << 128) - 1)


def page_contents(address: int) -> int:
    """A beat that tells its address, different in every word."""
    return sum((address * 0x9E3779B1 + i * 0x85EBCA77 & 0xFFFFFFFF) << 32 * i for i in range(4))
