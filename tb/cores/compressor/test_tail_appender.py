"""Appended tokens against the golden tail, byte for byte, and what is not written."""

from dataclasses import dataclass, replace
from functools import cache
from itertools import chain
from typing import Any

import pytest
import torch
from torch import Tensor

from golden.memory_image.packing import byte_planes
from golden.memory_image.tail_records import pack_tail
from golden.reference import Tail, from_fp16, quantise
from hw.config import BURST_BYTES, AttentionConfig, preset
from hw.cores.compressor.payloads import BURST, ENABLED_BYTES
from hw.cores.compressor.tail_appender import TailAppender, token_layout
from hw.formats import KVFormat
from tb.configurations import AWKWARD
from tb.harness import Run, pack, simulate, unpack
from tb.harness.slow import slow_among

TINY = preset("tiny")
CONFIGS = {
    "tiny": TINY,
    "lm": preset("lm"),
    "paper": preset("paper"),
    "bytes_chunk4": replace(TINY, tail_value_bits=8, chunk=4),
    "four_bits_chunk16": replace(TINY, key_bits=4, chunk=16, budget=48),
    **AWKWARD,
}
LANES = {"bytes_chunk4": 8}


@cache
def device(name: str) -> TailAppender:
    """One component per configuration, so that all runs share its elaboration and build."""
    return TailAppender(CONFIGS[name], lanes=LANES.get(name, 4))


@dataclass(frozen=True)
class Tokens:
    """FP16 patterns of keys, values' codes and scales, of consecutive tokens from ``first`` on."""

    first: int
    keys: Tensor
    codes: Tensor
    scale: Tensor
    #: ``[n]``, of a prompt; else None.
    saliency: Tensor | None = None

    def tail(self, config: AttentionConfig) -> Tail:
        """What the tail holds of them."""
        return Tail(
            keys=quantise(from_fp16(self.keys), config.key_bits, config.group),
            value_codes=self.codes,
            value_scale=self.scale,
            saliency=torch.zeros_like(self.scale) if self.saliency is None else self.saliency,
        )


def make_tokens(config: AttentionConfig, seed: int, count: int, first: int) -> Tokens:
    """Keys of one size, of all sizes, all equal; any codes."""
    print(f"tokens of seed {seed}")
    torch.manual_seed(seed)
    shape = (count, config.head_dim)
    kinds = [
        torch.randn(shape).half().view(torch.int16).long() & 0xFFFF,
        torch.randint(0, 0x7C00, shape) | torch.randint(0, 2, shape) << 15,
        torch.full(shape, 0x7BFF),
        torch.zeros(shape, dtype=torch.int64),
    ]
    kind = torch.randint(0, 4, (count,))
    keys = torch.stack(kinds)[kind, torch.arange(count)]
    limit = 1 << config.tail_value_bits - 1
    return Tokens(
        first,
        keys,
        torch.randint(1 - limit, limit, shape),
        torch.randint(0, 0x7C00, (count,)),
    )


def inputs(config: AttentionConfig, tokens: Tokens, address: int) -> dict[str, list[int]]:
    """The streams of the tokens."""
    beats = []
    for key, codes in zip(tokens.keys, tokens.codes, strict=True):
        row = key.numpy().astype("<u2").tobytes()
        row += byte_planes(codes.numpy(), config.tail_value_bits // 8).tobytes()
        beats += [int.from_bytes(row[i : i + 16], "little") for i in range(0, len(row), 16)]
    layout = token_layout(config)
    return {
        "token": [
            pack(
                layout,
                {
                    "tail_address": address,
                    "place": (tokens.first + i) % (2 * config.window),
                    "value_scale": int(scale),
                    "of_prompt": int(tokens.saliency is not None),
                    "gathered": 0,
                    "saliency": 0 if tokens.saliency is None else int(tokens.saliency[i]),
                },
            )
            for i, scale in enumerate(tokens.scale)
        ],
        "beats": beats,
    }


def written(config: AttentionConfig, tokens: Tokens) -> list[list[range]]:
    """Of each token, part by part, its bytes of the tail region."""
    layout = KVFormat(config)
    found: list[list[range]] = []
    row, pairs = config.head_dim * config.key_bits // 8, 4 * config.groups
    for i in range(len(tokens.keys)):
        block, place = divmod((tokens.first + i) % (2 * config.window), config.chunk)
        start = block * layout.tail_block_bytes
        scales = start + layout.saliency_bytes
        codes = start + layout.tail_header_bytes + place * row
        scale = scales + layout.key_scale_bytes + 2 * place
        parts = [(codes, row), (scales + place * pairs, pairs), (scale, 2)]
        if tokens.saliency is not None:
            parts.append((start + 4 * place, 4))
        for tile in range(config.head_dim // layout.value_tile_channels):
            at = layout.tail_key_bytes + (tile * config.chunk + place) * BURST_BYTES
            parts.append((start + at, BURST_BYTES))
        found.append([range(at, at + size) for at, size in parts])
    return found


def bursts_of(part: range, address: int) -> list[int]:
    """Bursts of the memory that a part of the region lies in."""
    first, last = ((address + byte) // BURST_BYTES for byte in (part[0], part[-1]))
    return list(range(first, last + 1))


def check(name: str, tokens: Tokens, **options: Any) -> Run:
    """Append the tokens and compare what was written, and that nothing else was."""
    config, address = CONFIGS[name], 96
    layout = KVFormat(config)
    parts = written(config, tokens)
    #: Burst, whether it ends its part, and whether it is the token's last one.
    wanted: list[tuple[int, int, int]] = []
    for of_token in parts:
        for part in of_token:
            *others, end = bursts_of(part, address)
            wanted += [(number, 0, 0) for number in others] + [(end, 1, int(part is of_token[-1]))]
    run = simulate(
        device(name),
        name=f"tail_appender_{name}",
        inputs=inputs(config, tokens, address),
        outputs={"bursts": len(wanted)},
        **options,
    )
    size = layout.tail_blocks * layout.tail_block_bytes
    found: list[int | None] = [None] * size
    items = [unpack(BURST, item) for item in run.outputs["bursts"]]
    assert [(item["address"], item["end"], item["last"]) for item in items] == wanted
    for item in items:
        start = item["address"] * BURST_BYTES - address
        data = item["data"].to_bytes(BURST_BYTES, "little")
        for byte in range(BURST_BYTES):
            if item["enable"] >> byte // ENABLED_BYTES & 1:
                found[start + byte] = data[byte]
    context = tokens.first + len(tokens.keys)
    golden = pack_tail(tokens.tail(config), context, config)
    golden += bytes(size - len(golden))
    expected: list[int | None] = [None] * size
    for part in chain.from_iterable(parts):
        expected[part.start : part.stop] = golden[part.start : part.stop]
    assert found == expected
    return run


@pytest.mark.parametrize("name", slow_among(CONFIGS, [n for n in CONFIGS if n != "tiny"]))
def test_a_ring_of_tokens(name: str, seed: int) -> None:
    """From the first token of a cache to a full ring."""
    config = CONFIGS[name]
    run = check(name, make_tokens(config, seed, 2 * config.window, 0))
    print(f"{run.cycles / (2 * config.window):.1f} cycles a token")
    lanes = LANES.get(name, 4)
    key = config.head_dim // lanes
    value = config.head_dim * config.tail_value_bits // 128
    comes_in = config.groups * max(6, config.group // lanes) + value + 2
    goes_out = key + config.groups + 1 + value
    latency = 2 * key + value + 40
    assert run.cycles <= 2 * config.window * max(comes_in, goes_out) + latency


def test_the_ring_wraps(seed: int) -> None:
    """The window that began in the middle of the ring goes on at its start."""
    window = TINY.window
    check("tiny", make_tokens(TINY, seed, 2 * window, window))


def test_tokens_of_a_prompt(seed: int) -> None:
    """They come with their saliency."""
    tokens = make_tokens(TINY, seed, 2 * TINY.window, 0)
    saliency = torch.randint(0, 1 << 32, (2 * TINY.window,))
    check("tiny", replace(tokens, saliency=saliency), stall=0.2, seed=seed)


@pytest.mark.parametrize("stall", [0.5, {"beats": 0.9}, {"token": 0.98}, {"bursts": 0.9}], ids=str)
def test_stalls(stall: Any, seed: int) -> None:
    check("tiny", make_tokens(TINY, seed, 11, 0), stall=stall, seed=seed)


@pytest.mark.parametrize("cycle", [9, 40, 100])
def test_reset_in_flight(cycle: int, seed: int) -> None:
    check("tiny", make_tokens(TINY, seed, 5, 0), stall=0.3, seed=seed, reset_at=cycle)


def test_lanes() -> None:
    with pytest.raises(ValueError, match=r"lanes must be one of \(4, 8\), not 2"):
        TailAppender(TINY, lanes=2)


def test_a_block_is_covered() -> None:
    """`written` has every byte of a block but saliency and padding, once."""
    tokens = make_tokens(TINY, 1, TINY.chunk, 0)
    bytes_ = [byte for part in chain.from_iterable(written(TINY, tokens)) for byte in part]
    assert len(bytes_) == len(set(bytes_))
    layout = KVFormat(TINY)
    padding = layout.tail_header_bytes - layout.saliency_bytes - 4 * 8 * 2 - 2 * 8
    assert len(bytes_) == layout.tail_block_bytes - layout.saliency_bytes - padding
