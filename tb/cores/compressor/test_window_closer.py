"""Whole windows against the golden bytes, with a memory that answers in any order."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace

import pytest
import torch

from golden.reference import Quantised, Tail
from hw.config import AttentionConfig, preset
from hw.cores.compressor.window_closer import WindowCloser
from hw.formats import Status
from tb.cores.compressor.bench import Places, System, closed_windows, random_tail, tokens_of

TINY = preset("tiny")
LM = preset("lm")
Jobs = Generator[int, Status, None]

#: Configurations and lanes: every size of chunk, group and code, padding, keys across bursts.
CONFIGS: dict[str, tuple[AttentionConfig, int]] = {
    "tiny": (TINY, 8),
    "tiny, 4 lanes": (TINY, 4),
    "chunk 4": (replace(TINY, chunk=4), 8),
    "chunk 16": (replace(TINY, chunk=16, budget=48), 8),
    "chunk 16, 2 groups": (replace(TINY, chunk=16, budget=48, window=32), 4),
    "8-bit tail": (replace(TINY, tail_value_bits=8), 8),
    "all of 4 bits": (replace(TINY, key_bits=4, key_delta_bits=4, value_bits=4), 8),
    "96 channels": (
        replace(TINY, head_dim=96, group=32, chunk=16, budget=48, tail_value_bits=8),
        8,
    ),
    "96 channels, chunk 4": (replace(TINY, head_dim=96, group=32, chunk=4, key_bits=4), 4),
    "group 32": (replace(TINY, group=32, key_keep=16, window=32, value_group=32), 8),
    "groups of 64": (
        replace(TINY, head_dim=64, group=64, key_keep=5, window=64, value_group=64, value_keep=20),
        8,
    ),
    "16 chunks a group": (
        replace(TINY, chunk=4, window=64, value_group=64, value_keep=20, value_bits=4),
        8,
    ),
    "4 groups a window": (replace(TINY, chunk=4, window=64), 8),
    "lm": (LM, 4),
    "lm, 8 lanes": (LM, 8),
    "paper": (preset("paper"), 8),
}


def plain(config: AttentionConfig, code: int, scale: int, minimum: int, value: int) -> Tail:
    """A window of equal tokens, equal in saliency."""
    tokens = config.window
    pairs = torch.ones(tokens, config.groups, dtype=torch.int64)
    return Tail(
        Quantised(torch.full((tokens, config.head_dim), code), pairs * scale, pairs * minimum),
        torch.full((tokens, config.head_dim), value),
        torch.full((tokens,), 0x7BFF if value else 0),
        torch.zeros(tokens, dtype=torch.int64),
    )


def joined(*tails: Tail) -> Tail:
    """One after the other."""

    def cat(*parts: torch.Tensor) -> torch.Tensor:
        return torch.cat(parts)

    return Tail(
        Quantised(
            cat(*(t.keys.codes for t in tails)),
            cat(*(t.keys.scale for t in tails)),
            cat(*(t.keys.minimum for t in tails)),
        ),
        cat(*(t.value_codes for t in tails)),
        cat(*(t.value_scale for t in tails)),
        cat(*(t.saliency for t in tails)),
    )


def corner_tail(config: AttentionConfig) -> Tail:
    """All zero; the largest keys and values, of either sign, in one window."""
    zero = plain(config, 0, 168, 0, 0)
    limit = (1 << config.tail_value_bits - 1) - 1
    # 255 * 256 = 65280: a key from -65504 to -224, and one that is 65504 less that.
    high = plain(config, (1 << config.key_bits) - 1, 0x5C00, 0x7800, limit)
    low = plain(config, 0, 168, 0xFBFF, -limit)
    mixed = joined(high, low)
    every_other = torch.arange(0, 2 * config.window, 2) + torch.arange(config.window) % 2
    extreme = Tail(
        mixed.keys.each(lambda part: part[every_other]),
        mixed.value_codes[every_other],
        mixed.value_scale[every_other],
        torch.arange(config.window),
    )
    return joined(zero, extreme)


def closing(system: System, tail: Tail, windows: int) -> Generator[int, Status, Places]:
    """Close the windows one after the other, the memory compared after each; where they lie."""
    config = system.config
    golden = closed_windows(tokens_of(tail, 0, windows * config.window), config)
    places = system.place(windows)
    for window in range(windows):
        system.fill_tail(places, tail, window)
        expected = system.expect(places, golden, window)
        status = yield system.request(places, window)
        assert status == Status.OK
        wrong = [i for i, byte in enumerate(expected) if byte != system.data[i]]
        assert not wrong, f"window {window}: {len(wrong)} bytes differ, first at {wrong[0]}"
    return places


def refusals(system: System, places: Places, *, thorough: bool) -> Jobs:
    """Windows that are not closed, with statuses that say why; then a good one.

    ``thorough`` tries more places of each kind of error.
    """
    places_of = slice(None) if thorough else slice(1, 2)
    config = system.config
    tail = random_tail(config, system.rng, 2 * config.window)
    golden = closed_windows(tokens_of(tail, 0, config.window), config)
    system.fill_tail(places, tail, 0)
    good = system.request(places, 0)
    untouched, reads = bytes(system.data), len(system.reads.requests)
    last = config.closed_tokens(config.max_context) // config.window
    assert (yield system.request(places, last)) == Status.CONTEXT_RANGE
    for name in ("base", "chunk", "tail"):
        odd = replace(places, **{name: getattr(places, name) + 16})
        assert (yield system.request(odd, 0)) == Status.ADDRESS_RANGE
    assert system.data == untouched
    assert len(system.reads.requests) == reads

    size = system.layout.tail_block_bytes
    for offset in [0, system.layout.tail_header_bytes, 2 * size - 16][places_of]:
        system.unreadable = range(places.tail + offset, places.tail + offset + 1)
        assert (yield good) == Status.MEMORY_ERROR
    system.unreadable = range(0)
    deltas = places.chunk + system.layout.value_scale_bytes
    for at in [places.base, places.chunk, deltas][places_of]:
        # The burst with which a run begins.
        system.unwritable = range(at // 32 * 32, at // 32 * 32 + 1)
        system.writes.refuses = system.unwritable
        assert (yield good) == Status.MEMORY_ERROR
    system.writes.refuses = system.unwritable = range(0)

    scales = places.tail + system.layout.saliency_bytes
    value_scales = scales + system.layout.key_scale_bytes
    for at in [scales, scales + 2, value_scales + 2 * config.chunk - 2][places_of]:
        kept = bytes(system.data[at : at + 2])
        system.data[at : at + 2] = (0x7C00).to_bytes(2, "little")
        assert (yield good) == Status.SCALE_NOT_FINITE
        system.data[at : at + 2] = kept

    # Whatever the memory holds, there is an answer, and the next window is right.
    system.data[places.tail :] = system.rng.randbytes(len(system.data) - places.tail)
    assert (yield good) == Status.SCALE_NOT_FINITE
    system.fill_tail(places, tail, 0)
    expected = system.expect(places, golden, 0)
    assert (yield good) == Status.OK
    assert system.data == expected


def both(system: System, tail: Tail, windows: int, *, thorough: bool) -> Jobs:
    """Windows that are closed, then those that are not."""
    places = yield from closing(system, tail, windows)
    yield from refusals(system, places, thorough=thorough)


def test_windows(seed: int) -> None:
    """Extreme windows, a random one, then errors; every stream in waits."""
    system = System(TINY, lanes=8, seed=seed)
    random_one = random_tail(TINY, system.rng, TINY.window)
    tail = joined(corner_tail(TINY), random_one, random_one)
    system.run(both(system, tail, 3, thorough=False))


@pytest.mark.slow
def test_refusals_and_errors(seed: int) -> None:
    system = System(TINY, lanes=4, seed=seed)
    tail = random_tail(TINY, system.rng, 2 * TINY.window)
    system.run(both(system, tail, 1, thorough=True))


@pytest.mark.slow
@pytest.mark.parametrize("reset_at", [3, 60, 200, 420])
def test_reset_in_flight(reset_at: int, seed: int) -> None:
    system = System(TINY, lanes=8, seed=seed)
    tail = random_tail(TINY, system.rng, 2 * TINY.window)
    system.run(closing(system, tail, 1), reset_at=reset_at)


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_sizes(name: str, seed: int) -> None:
    config, lanes = CONFIGS[name]
    system = System(config, lanes=lanes, seed=seed)
    windows = 2
    tail = random_tail(config, system.rng, (windows + 1) * config.window)
    system.run(closing(system, tail, windows))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "most"), [("tiny", 500), ("lm", 1400), ("lm, 8 lanes", 1100), ("paper", 1950)]
)
def test_pace(name: str, most: int) -> None:
    """Cycles of a window with 40 cycles of latency and no other waits."""
    config, lanes = CONFIGS[name]
    system = System(config, lanes=lanes, busy=0.0)
    system.in_order(40)
    tail = random_tail(config, system.rng, 3 * config.window)
    system.run(closing(system, tail, 1))
    print(f"{name}: {system.cycles[0]} cycles, {system.cycles[0] / config.window:.1f} a token")
    assert system.cycles[0] <= most


@pytest.mark.parametrize("lanes", [2, 16])
def test_illegal_lanes(lanes: int) -> None:
    with pytest.raises(ValueError, match=rf"lanes must be one of \(4, 8\), not {lanes}"):
        WindowCloser(TINY, lanes=lanes)


def test_illegal_write_tags() -> None:
    with pytest.raises(ValueError, match=r"write_tag_bits must be one of \(2, .*, 6\), not 1"):
        WindowCloser(TINY, lanes=4, write_tag_bits=1)


def test_a_mask_for_a_chunk_is_refused() -> None:
    with pytest.raises(ValueError, match="mask_scope must be 'token' to close windows, not 'chunk"):
        WindowCloser(replace(TINY, mask_scope="chunk"), lanes=8)


def test_counters_have_names() -> None:
    names = [counter.name for counter in WindowCloser(TINY, lanes=4).counters]
    assert names == ["windows", "failed", "busy", "beats", "bursts"]
