"""The closer of windows between a model of the memory and the golden records."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import torch
from amaranth.sim import Simulator
from torch import Tensor

from golden.memory_image.records import pack_base_blocks, pack_chunks
from golden.memory_image.tail_records import pack_tail
from golden.reference import Quantised, Tail
from golden.reference.cache import dequantise_tail
from golden.reference.compress import CompressedWindow, compress_window
from hw.config import BURST_BYTES, AttentionConfig
from hw.cores.compressor.payloads import BURST, ENABLED_BYTES, window_layout
from hw.cores.compressor.window_closer import WindowCloser
from hw.formats import KVFormat, Status
from tb.harness import pack, unpack
from tb.memory.kv_mmu.memory_model import BURST_BEATS, Beat, ReadModel, Request
from tb.memory.kv_mmu.pins import Pins

BEAT_BYTES = 16


class WriteModel:
    """Writes bursts with byte enables; ends come in any order."""

    def __init__(self, rng: random.Random, data: bytearray, busy: float, tag_bits: int) -> None:
        self._rng, self._data, self._busy = rng, data, busy
        self._tag_bits = tag_bits
        self._requests: list[Request] = []
        self._beats: list[tuple[int, int]] = []
        self._ends: list[tuple[int, int, int]] = []
        self._under_way: set[int] = set()
        self.written: list[int] = []
        #: Byte addresses of the burst that is refused.
        self.refuses = range(0)

    @property
    def under_way(self) -> int:
        """Writes that have not ended, and beats without a request."""
        return len(self._under_way) + len(self._beats)

    def ready(self) -> bool:
        """Whether a request, or a beat, is taken in this cycle."""
        return self._rng.random() >= self._busy

    def take(self, request: Request, now: int) -> None:
        """Take a write request; its tag must not be under way."""
        assert request.tag not in self._under_way, request
        assert request.address % BURST_BYTES == 0, request
        self._under_way.add(request.tag)
        self._requests.append(request)
        self._write(now)

    def take_beat(self, data: int, enable: int, now: int) -> None:
        """Take a beat; those of a request may come before it."""
        self._beats.append((data, enable))
        self._write(now)

    def _write(self, now: int) -> None:
        while self._requests and len(self._beats) >= self._requests[0].bursts * BURST_BEATS:
            request = self._requests.pop(0)
            count = request.bursts * BURST_BEATS
            beats, self._beats = self._beats[:count], self._beats[count:]
            error = request.address in self.refuses
            if not error:
                for i, (data, enable) in enumerate(beats):
                    for byte in range(BEAT_BYTES):
                        if enable >> byte & 1:
                            place = request.address + BEAT_BYTES * i + byte
                            self._data[place] = data >> 8 * byte & 255
            self.written.append(request.address)
            self._ends.append((now + self._rng.randrange(1, 30), request.tag, int(error)))

    def end(self, now: int) -> int | None:
        """Tag and, above it, error of a write that ends in this cycle."""
        for item in self._ends:
            if item[0] <= now:
                self._ends.remove(item)
                self._under_way.remove(item[1])
                return item[1] | item[2] << self._tag_bits
        return None


class OrderedReads(ReadModel):
    """Answers in the order of the requests, beat after beat."""

    def answer(self, now: int) -> Beat | None:
        """The beat of this cycle, if any."""
        if not self._waiting or self._waiting[0][0] > now:
            return None
        _, request, beat = self._waiting.pop(0)
        data = self._contents(request.address + beat * BEAT_BYTES)
        return Beat(data, request.tag, beat, 0)


def random_tail(config: AttentionConfig, rng: random.Random, tokens: int) -> Tail:
    """A tail of sizes as they come, with equal and extreme numbers among them."""
    generator = torch.Generator().manual_seed(rng.getrandbits(32))

    def integers(low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high, shape, generator=generator)

    d, groups = config.head_dim, config.groups
    scale = integers(168, 0x5BFF, tokens, groups)
    # Mostly of one size, so that differences do not all come from one token.
    scale[integers(0, 4, tokens) > 0] = integers(0x2000, 0x2800, 1, groups)
    minimum = integers(0, 0x7800, tokens, groups) | integers(0, 2, tokens, groups) << 15
    codes = integers(0, 1 << config.key_bits, tokens, d)
    codes[integers(0, 8, tokens) == 0] = 0
    bits = config.tail_value_bits
    limit = 1 << (bits - 1)
    values = integers(-limit + 1, limit, tokens, d)
    values = torch.where(integers(0, 3, tokens, d) == 0, values >> 6, values)
    values[:, 0] = 0
    values[:, 1] = limit - 1
    value_scale = integers(0x2000, 0x4000, tokens)
    value_scale[integers(0, 9, tokens) == 0] = 0
    value_scale[integers(0, 9, tokens) == 0] = 0x7BFF
    value_scale[integers(0, 9, tokens) == 0] = 1
    saliency = integers(0, 1 << 32, tokens)
    # Ties, zeros, a sink.
    saliency = torch.where(integers(0, 2, tokens) == 0, saliency >> 30, saliency)
    saliency[config.chunk - 1] = (1 << 32) - 1
    return Tail(Quantised(codes, scale, minimum), values, value_scale, saliency)


def tokens_of(tail: Tail, start: int, stop: int) -> Tail:
    """The tokens ``start`` to ``stop`` of a tail."""
    return Tail(
        tail.keys.each(lambda part: part[start:stop]),
        tail.value_codes[start:stop],
        tail.value_scale[start:stop],
        tail.saliency[start:stop],
    )


def closed_windows(tail: Tail, config: AttentionConfig) -> CompressedWindow:
    """The golden records of all windows of ``tail``."""

    def windows(x: Tensor) -> Tensor:
        return x.unflatten(0, (-1, config.window))

    values = dequantise_tail(tail, config)[1]
    return compress_window(tail.keys.each(windows), windows(values), windows(tail.saliency), config)


def tail_beats(tail: Tail, config: AttentionConfig) -> tuple[list[int], list[int], list[int]]:
    """Beats of the headers, the key codes and, in the order of reading, the tiles of a window."""
    layout = KVFormat(config)
    region = pack_tail(tail, len(tail.saliency), config)

    def beats(start: int, size: int) -> list[int]:
        return [
            int.from_bytes(region[at : at + BEAT_BYTES], "little")
            for at in range(start, start + size, BEAT_BYTES)
        ]

    blocks = range(0, len(region), layout.tail_block_bytes)
    headers = [beat for at in blocks for beat in beats(at, layout.tail_header_bytes)]
    keys = [
        beat
        for at in blocks
        for beat in beats(at + layout.tail_header_bytes, layout.key_code_bytes)
    ]
    size = config.chunk * BURST_BYTES
    values = [
        beat
        for group in range(0, len(blocks), config.group_chunks)
        for tile in range(0, layout.tail_value_bytes, size)
        for at in blocks[group : group + config.group_chunks]
        for beat in beats(at + layout.tail_key_bytes + tile, size)
    ]
    return headers, keys, values


def header_sections(headers: list[int], config: AttentionConfig) -> tuple[list[int], list[int]]:
    """Of the beats of headers those of the scales of keys, and of values."""
    layout = KVFormat(config)
    sizes = layout.saliency_bytes, layout.key_scale_bytes, layout.tail_scale_bytes
    first, second, third = (size // BEAT_BYTES for size in sizes)
    pairs: list[int] = []
    scales: list[int] = []
    for at in range(0, len(headers), layout.tail_header_bytes // BEAT_BYTES):
        pairs += headers[at + first : at + first + second]
        scales += headers[at + first + second : at + first + second + third]
    return pairs, scales


def put_bursts(data: bytearray, bursts: list[int]) -> list[int]:
    """Write ``bursts`` as a memory does; places of those that are the last of their source."""
    lasts = []
    for number, item in enumerate(bursts):
        fields = unpack(BURST, item)
        burst = fields["data"].to_bytes(BURST_BYTES, "little")
        for byte in range(BURST_BYTES):
            if fields["enable"] >> byte // ENABLED_BYTES & 1:
                data[BURST_BYTES * fields["address"] + byte] = burst[byte]
        if fields["last"]:
            lasts.append(number)
    return lasts


@dataclass(frozen=True)
class Places:
    """Byte addresses of the regions of the cache."""

    base: int
    chunk: int
    tail: int


class System:
    """A closer with a memory of random contents, answers in random order.

    Parameters
    ----------
    config
    lanes
    seed
        Of everything random.
    busy
        Probability that a stream waits in a cycle.
    """

    def __init__(
        self, config: AttentionConfig, *, lanes: int, seed: int = 1, busy: float = 0.3
    ) -> None:
        print(f"seed {seed}")
        self.config, self.busy = config, busy
        self.rng = random.Random(seed)
        self.layout = KVFormat(config)
        self._latency, self._ordered = range(1, 40), False
        self.closer = WindowCloser(config, lanes=lanes)
        self.pins = Pins(self.closer)
        #: Byte addresses that cannot be read, or written.
        self.unreadable, self.unwritable = range(0), range(0)
        self.cycles: list[int] = []

    def place(self, windows: int) -> Places:
        """Regions with gaps between them."""
        size = self.layout
        config = self.config
        chunks = windows * config.window // config.chunk
        at = 32 * self.rng.randrange(1, 9)
        base = at
        at += -(-chunks // config.chunk) * size.base_block_bytes + 64
        chunk = at
        at += chunks // config.group_chunks * size.group_bytes + 96
        tail = at
        at += size.tail_blocks * size.tail_block_bytes + 32
        self.data = bytearray(self.rng.randbytes(at))
        return Places(base, chunk, tail)

    def fill_tail(self, places: Places, tail: Tail, window: int) -> None:
        """The ring as it is when ``window`` is to be closed."""
        config = self.config
        start = window * config.window
        context = start + 2 * config.window
        region = pack_tail(tokens_of(tail, start, context), context, config)
        self.data[places.tail : places.tail + len(region)] = region

    def expect(self, places: Places, closed: CompressedWindow, window: int) -> bytearray:
        """The memory with the records of ``window``."""
        config, layout = self.config, self.layout
        data = bytearray(self.data)
        records = pack_chunks(closed, config)
        size = config.window // config.value_group * layout.group_bytes
        start = places.chunk + window * size
        data[start : start + size] = records[window * size : (window + 1) * size]
        blocks = pack_base_blocks(closed, config)
        pair_bytes, code_bytes = 4 * config.groups, config.head_dim * config.key_bits // 8
        chunks = config.window // config.chunk
        for number in range(window * chunks, (window + 1) * chunks):
            block = number // config.chunk * layout.base_block_bytes
            key = number % config.chunk
            for at, count in (
                (block + key * pair_bytes, pair_bytes),
                (block + layout.key_scale_bytes + key * code_bytes, code_bytes),
            ):
                data[places.base + at : places.base + at + count] = blocks[at : at + count]
        return data

    def request(self, places: Places, window: int) -> int:
        """The item that asks for a window."""
        return pack(
            window_layout(self.config),
            {
                "base_address": places.base,
                "chunk_address": places.chunk,
                "tail_address": places.tail,
                "window": window,
            },
        )

    def in_order(self, latency: int) -> None:
        """From now on the memory answers in order, a beat a cycle, after so many cycles."""
        self._latency, self._ordered = range(latency, latency + 1), True

    def run(self, jobs: Any, *, reset_at: int | None = None, limit: int = 60_000) -> None:
        """Run a generator that yields requests and is sent the status of each."""
        simulator = Simulator(self.pins.top)
        simulator.add_clock(1e-6)

        async def bench(context: Any) -> None:
            await self._bench(context, jobs, reset_at, limit)

        simulator.add_testbench(bench)
        simulator.run()

    def _models(self) -> None:
        model = OrderedReads if self._ordered else ReadModel
        self.reads = model(
            self.rng,
            lambda a: int.from_bytes(self.data[a : a + BEAT_BYTES], "little"),
            self.busy,
        )
        self.reads.latency = self._latency
        self.reads.refuses = lambda address: address in self.unreadable
        self.writes = WriteModel(self.rng, self.data, self.busy, 2)
        self.writes.refuses = self.unwritable

    async def _bench(self, context: Any, jobs: Any, reset_at: int | None, limit: int) -> None:
        pins, rng = self.pins, self.rng
        request, since = next(jobs), 0
        self._models()
        asked = False
        waiting: dict[str, int] = {}
        for now in range(limit):
            if now == reset_at:
                context.set(pins.reset, 1)
                await context.tick()
                context.set(pins.reset, 0)
                self._models()
                asked, waiting = False, {}
            pins.offer("window", None if asked else request)
            pins.set("answer__ready", rng.random() >= self.busy)
            pins.set("memory__request__ready", self.reads.ready())
            beat = self.reads.answer(now)
            pins.set("memory__response__valid", beat is not None)
            if beat is not None:
                pins.set_fields("memory__response__payload", vars(beat))
            pins.set("memory_write__request__ready", self.writes.ready())
            pins.set("memory_write__data__ready", self.writes.ready())
            pins.offer("memory_write__written", self.writes.end(now))
            pins.exchange(context)
            for name in (
                "answer",
                "memory__request",
                "memory_write__request",
                "memory_write__data",
            ):
                offered = pins.get(f"{name}__payload") if pins.get(f"{name}__valid") else None
                assert waiting.get(name) in (None, offered), f"{name} did not stay"
                waiting.pop(name, None)
                if offered is not None and not pins.get(f"{name}__ready"):
                    waiting[name] = offered
            assert pins.get("memory__response__ready")
            assert pins.get("memory_write__written__ready")
            if pins.moved("window") is not None:
                asked, since = True, now
            if pins.moved("memory__request") is not None:
                self.reads.take(self._request("memory__request"), now)
            if pins.moved("memory_write__request") is not None:
                self.writes.take(self._request("memory_write__request"), now)
            moved = pins.moved("memory_write__data")
            if moved is not None:
                self.writes.take_beat(moved & ((1 << 128) - 1), moved >> 128, now)
            answer = pins.moved("answer")
            if answer is not None:
                assert asked, "an answer to nothing"
                self.cycles.append(now - since)
                asked = False
                try:
                    request = jobs.send(Status(answer))
                except StopIteration:
                    return
            await context.tick()
        raise AssertionError(f"not done after {limit} cycles")

    def _request(self, port: str) -> Request:
        fields = self.pins.get_fields(f"{port}__payload")
        return Request(fields["address"], fields["bursts_less_one"] + 1, fields["tag"])
