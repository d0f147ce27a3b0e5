"""Requests of 512 bytes, what they read, and the check of what came back."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from hw.config import BURST_BYTES
from hw.memory.dram import DramStandard
from hw.memory.port import ADDRESS_BITS, REQUEST_BURSTS
from tb.memory.dram.controller.bench import Request

#: Bytes of a request.
BYTES = REQUEST_BURSTS * BURST_BYTES
#: Bytes of the image at address 0; the device keeps as many in its array.
IMAGE_BYTES = 1 << 20
#: Bytes behind the image where the writer writes and nobody reads.
WRITTEN_BYTES = 1 << 20
_BEAT = 16
_FILLER = bytes.fromhex("efbeadde" * 4)


class WrongAnswer(AssertionError):
    """A word came back that was not asked for, twice, or with other data."""


@dataclass(frozen=True)
class Traffic:
    """Requests of one client at one pseudo-channel, ``window`` of them under way."""

    requests: Sequence[Request]
    window: int
    image: bytes

    def check(self, responses: Sequence[int], *, gear: int, id_bits: int) -> None:
        """Compare every word that came back with the image, and that each came once.

        Parameters
        ----------
        responses
            Payloads of the channel port's or a read port's ``response``, in order.
        gear
            Beats of a word.
        id_bits
            Bits of ``id`` or ``tag``.

        Raises
        ------
        WrongAnswer
            A word is wrong, refused, comes twice or not at all.
        """
        words = BYTES // (_BEAT * gear)
        oldest = list(range(self.window))  # the request that an id stands for now
        seen = [0] * self.window
        data_mask, id_mask = (1 << 128 * gear) - 1, (1 << id_bits) - 1
        for payload in responses:
            rest = payload >> 128 * gear
            slot, beat, error = rest & id_mask, rest >> id_bits & 31, rest >> id_bits + 5
            number = oldest[slot] if slot < self.window else len(self.requests)
            if number >= len(self.requests) or error or beat % gear or seen[slot] >> beat & 1:
                raise WrongAnswer(f"id {slot}, beat {beat}, error {error}: not asked for, or twice")
            wanted = self.contents(self.requests[number].address + beat * _BEAT, gear * _BEAT)
            if payload & data_mask != int.from_bytes(wanted, "little"):
                raise WrongAnswer(f"request {number}, beat {beat} has other data")
            seen[slot] |= 1 << beat
            if seen[slot].bit_count() == words:
                seen[slot] = 0
                oldest[slot] += self.window
        if any(seen) or len(responses) != words * len(self.requests):
            raise WrongAnswer(f"{len(responses)} words, not {words * len(self.requests)}")

    def contents(self, address: int, number: int) -> bytes:
        """Bytes of the memory that nobody writes."""
        if address + number <= len(self.image):
            return self.image[address : address + number]
        return _FILLER * (number // _BEAT)


def make_image(seed: int) -> bytes:
    """Random contents of the first `IMAGE_BYTES` of a pseudo-channel."""
    return random.Random(seed).randbytes(IMAGE_BYTES)


def streaming(image: bytes, number: int, window: int, seed: int) -> Traffic:
    """Requests one behind the other, round and round in the image."""
    start = random.Random(seed).randrange(IMAGE_BYTES // BYTES)
    addresses = [(start + i) * BYTES % IMAGE_BYTES for i in range(number)]
    return Traffic(_in_turn(addresses, window), window, image)


def gather(standard: DramStandard, image: bytes, number: int, window: int, seed: int) -> Traffic:
    """Requests anywhere in the device, or where an address of 32 bits reaches; not in `writes`."""
    choose = random.Random(seed)
    slots = min(standard.bytes, 1 << ADDRESS_BITS) // BYTES
    written = range(IMAGE_BYTES // BYTES, (IMAGE_BYTES + WRITTEN_BYTES) // BYTES)
    addresses: list[int] = []
    while len(addresses) < number:
        slot = choose.randrange(slots)
        if slot not in written:
            addresses.append(slot * BYTES)
    return Traffic(_in_turn(addresses, window), window, image)


def _in_turn(addresses: list[int], window: int) -> list[Request]:
    """Requests of 512 B that take the slots one after the other."""
    return [Request(a, REQUEST_BURSTS, slot=i % window) for i, a in enumerate(addresses)]


def writes(number: int, gear: int, window: int, seed: int) -> list[Request]:
    """Requests that write one behind the other, round and round behind the image."""
    choose = random.Random(seed)
    enable, words = (1 << 16 * gear) - 1, BYTES // (_BEAT * gear)
    return [
        Request(
            IMAGE_BYTES + i * BYTES % WRITTEN_BYTES,
            REQUEST_BURSTS,
            slot=i % window,
            words=tuple((choose.getrandbits(128 * gear), enable) for _ in range(words)),
        )
        for i in range(number)
    ]
