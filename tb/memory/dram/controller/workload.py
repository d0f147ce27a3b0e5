"""Random requests for the controller, and what they must read."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from hw.config import BURST_BYTES
from hw.memory.dram import AddressMap, Location
from hw.memory.dram.controller import ControllerConfig
from hw.memory.port import ADDRESS_BITS
from tb.memory.dram.controller.bench import Request

_FILLER = int.from_bytes(bytes.fromhex("efbeadde" * 4), "little")
_WORD = 16


class Workload:
    """Requests of one pseudo-channel, and a memory that runs them one after the other.

    A request does not touch what an earlier one within ``window`` writes, nor write what it reads:
    these may be under way at the same time, in any order. Request number n has the slot ``n mod
    window`` unless told.

    Parameters
    ----------
    config
        The controller's.
    window
        Requests that may be under way.
    seed
        Of everything random.
    replay
        Whether the requests, after any of them, may be run from the first again: a write touches
        only what nothing touched before.
    """

    def __init__(
        self, config: ControllerConfig, window: int, seed: int, *, replay: bool = False
    ) -> None:
        self._config = config
        self._replay = replay
        self._window = window
        self._random = random.Random(seed)
        #: Bytes that an address of the port reaches.
        self._size = min(config.standard.bytes, 1 << ADDRESS_BITS)
        self._memory: dict[int, int] = {}
        self._written: dict[int, int] = {}
        self._touched: dict[int, int] = {}
        self.requests: list[Request] = []
        #: Per request the words of 16 bytes that it reads; None for a write.
        self.expected: list[list[int] | None] = []
        #: Numbers of the requests that leave the channel.
        self.refused: set[int] = set()

    def patterns(self) -> dict[str, Callable[[], Iterator[int]]]:
        """Addresses without end, by name of the pattern."""
        standard, choose = self._config.standard, self._random
        address_map = AddressMap(standard, self._config.visit_bursts)
        size = self._size
        rows = standard.rows * size // standard.bytes

        def stream() -> Iterator[int]:
            address = choose.randrange(size // 2) // 512 * 512
            while True:
                yield address
                address = (address + 512) % size

        def anywhere() -> Iterator[int]:
            while True:
                yield choose.randrange(size // BURST_BYTES) * BURST_BYTES

        def small_region() -> Iterator[int]:
            start = choose.randrange(size // 2) // 4096 * 4096
            while True:
                yield start + choose.randrange(4096) * BURST_BYTES

        def place(fixed: dict[str, int]) -> int:
            fields = {
                "bank_group": choose.randrange(standard.bank_groups),
                "bank": choose.randrange(standard.banks_per_group),
                "row": choose.randrange(rows),
                "column": choose.randrange(standard.columns),
            }
            return address_map.address(Location(**fields | fixed))

        def one_bank() -> Iterator[int]:
            fixed = {"bank_group": choose.randrange(standard.bank_groups), "bank": 0}
            while True:
                yield place(fixed)

        def one_group() -> Iterator[int]:
            fixed = {"bank_group": choose.randrange(standard.bank_groups)}
            while True:
                yield place(fixed)

        def two_rows() -> Iterator[int]:
            fixed = {"bank_group": choose.randrange(standard.bank_groups), "bank": 1}
            while True:
                yield place(fixed | {"row": choose.randrange(2)})

        return {
            "stream": stream,
            "anywhere": anywhere,
            "small region": small_region,
            "one bank": one_bank,
            "one bank group": one_group,
            "two rows": two_rows,
        }

    def add(self, pattern: str, number: int, *, writes: float, bursts: int | None = None) -> None:
        """Append requests of a pattern.

        Parameters
        ----------
        pattern
            A key of `patterns`.
        number
            How many.
        writes
            Share that writes.
        bursts
            Bursts of 32 bytes of each; random, short ones often, unless told.
        """
        choose = self._random
        addresses = self.patterns()[pattern]()
        while number:
            address = next(addresses)
            count = bursts or choose.choice((1, 1, 2, 3, choose.randrange(1, 17), 16))
            count = min(count, (self._size - address) // BURST_BYTES)
            write = choose.random() < writes
            if self._collides(address, count, write):
                # The window moves on with requests that touch nothing of it.
                address = choose.randrange(1 << 20) * BURST_BYTES
                if self._collides(address, count, write):
                    continue
            self.append(address, count, write)
            number -= 1

    def add_refused(self, number: int) -> None:
        """Append ``number`` requests that leave the channel, a legal one before each of them.

        None if the channel is as large as the addresses reach.
        """
        choose, end = self._random, self._config.standard.bytes
        if end >= 1 << ADDRESS_BITS:
            return
        for _ in range(number):
            self.add("small region", 1, writes=0.5)
            far = choose.randrange(end, 1 << ADDRESS_BITS) // BURST_BYTES * BURST_BYTES
            address, count = choose.choice(
                ((far, choose.randrange(1, 17)), (end - BURST_BYTES, 2), (end - 512 + 32, 16))
            )
            count = min(count, ((1 << ADDRESS_BITS) - address) // BURST_BYTES)
            self.append(address, count, choose.random() < 0.5)

    def _collides(self, address: int, count: int, write: bool) -> bool:
        seen = self._touched if write else self._written
        oldest = 0 if write and self._replay else len(self.requests) - self._window
        first = address // BURST_BYTES
        return any(seen.get(first + i, oldest - 1) >= oldest for i in range(count))

    def append(self, address: int, count: int, write: bool, slot: int | None = None) -> None:
        """Append a request of ``count`` bursts; beyond the end of the channel it is refused."""
        number, first = len(self.requests), address // BURST_BYTES
        refused = address + count * BURST_BYTES > self._config.standard.bytes
        if slot is None:
            slot = number % self._window
        if refused:
            self.refused.add(number)
        for i in range(count):
            self._touched[first + i] = number
            if write:
                self._written[first + i] = number
        begin, words = address // _WORD, count * BURST_BYTES // _WORD
        if not write:
            self.requests.append(Request(address, count, slot))
            memory = {} if refused else self._memory
            missing = 0 if refused else _FILLER
            self.expected.append([memory.get(begin + i, missing) for i in range(words)])
            return
        gear, choose = self._config.gear, self._random
        sent = []
        for i in range(0, words, gear):
            data, enable = choose.getrandbits(128 * gear), (1 << 16 * gear) - 1
            if choose.random() < 0.3:
                enable = choose.getrandbits(16 * gear)
            sent.append((data, enable))
            for j in range(gear):
                if not refused:
                    self._store(begin + i + j, data >> 128 * j, enable >> 16 * j)
        self.requests.append(Request(address, count, slot, tuple(sent)))
        self.expected.append(None)

    def _store(self, word: int, data: int, enable: int) -> None:
        kept = sum(0xFF << 8 * i for i in range(_WORD) if not enable >> i & 1)
        old = self._memory.get(word, _FILLER)
        self._memory[word] = old & kept | data & ~kept & ((1 << 128) - 1)

    def check(self, responses: list[int], written: list[int]) -> None:
        """Compare what came back, in the order in which it came, with what had to.

        Raises
        ------
        AssertionError
            A word is wrong or comes twice, an error is missing or too many, or a request is not
            answered in full.
        """
        gear, bits = self._config.gear, self._config.id_bits
        # Requests of an id follow each other.
        reads: list[list[int]] = [[] for _ in range(self._window)]
        writes: list[list[int]] = [[] for _ in range(self._window)]
        for number, (request, expected) in enumerate(
            zip(self.requests, self.expected, strict=True)
        ):
            (writes if expected is None else reads)[request.slot].append(number)
        seen: list[set[int]] = [set() for _ in range(self._window)]
        for payload in responses:
            data = payload & ((1 << 128 * gear) - 1)
            rest = payload >> 128 * gear
            request_id, beat, error = rest & ((1 << bits) - 1), rest >> bits & 31, rest >> bits + 5
            assert reads[request_id], f"a word of id {request_id} that nobody waits for"
            number = reads[request_id][0]
            expected = self.expected[number]
            assert expected is not None
            assert beat + gear <= len(expected), f"request {number}, beat {beat} is beyond its end"
            wanted = sum(expected[beat + i] << 128 * i for i in range(gear))
            refused = number in self.refused
            assert (data, error) == (wanted, refused), f"request {number}, beat {beat}"
            assert beat not in seen[request_id], f"request {number}, beat {beat} twice"
            seen[request_id].add(beat)
            if len(seen[request_id]) * gear == len(expected):
                seen[request_id].clear()
                reads[request_id].pop(0)
        for payload in written:
            request_id, error = payload & ((1 << bits) - 1), payload >> bits
            assert writes[request_id], f"id {request_id} is told to be written, and nothing is"
            assert error == (writes[request_id].pop(0) in self.refused)
        assert not any(reads)
        assert not any(writes)
