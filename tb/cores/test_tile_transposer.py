"""The tile transposer against the layouts of the memory image: every shape, stalls, pace."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pytest
import torch

from golden.memory_image import pack_tail
from golden.memory_image.dense_records import pack_value_codes
from golden.reference import Quantised, Tail
from hw.config import BEAT_BYTES, AttentionConfig, preset
from hw.cores.payloads import BEAT
from hw.cores.tile_transposer import TileTransposer
from hw.formats import KVFormat
from tb.cores.side_by_side import SideBySide
from tb.harness import Run, pack, simulate, unpack
from tb.harness.slow import slow_among

CONFIGS = {
    f"chunk{chunk}_{bits}": replace(preset("lm"), chunk=chunk, tail_value_bits=bits)
    for chunk in (4, 8, 16)
    for bits in (8, 16)
}
#: Every chunk and either width; the others are among the slow tests.
FEW = ("chunk4_16", "chunk8_16", "chunk16_8")
REST = tuple(name for name in CONFIGS if name not in FEW)
SETS = pytest.mark.parametrize(
    "names", [FEW, pytest.param(REST, marks=pytest.mark.slow)], ids=["few", "rest"]
)


@dataclass(frozen=True)
class Segment:
    """Beats that come and beats that must leave, as bytes."""

    tiles: bool
    coming: bytes
    leaving: bytes
    #: Places of beats that come with ``error``.
    errors: frozenset[int] = frozenset()

    @property
    def beats(self) -> int:
        return len(self.coming) // BEAT_BYTES


@cache
def bench(names: tuple[str, ...]) -> SideBySide:
    """One build for all runs of these."""
    return SideBySide({name: TileTransposer(CONFIGS[name]) for name in names})


def tail_values(config: AttentionConfig, generator: random.Random) -> Segment:
    """A tail value block as the memory holds it, and as a dense block would."""
    torch_generator = torch.Generator().manual_seed(generator.getrandbits(32))
    top = 1 << config.tail_value_bits - 1
    shape = (config.chunk, config.head_dim)
    codes = torch.randint(-top, top, shape, generator=torch_generator)
    zero = torch.zeros(config.chunk, config.groups, dtype=torch.int64)
    keys = Quantised(torch.zeros_like(codes), zero, zero)
    block = pack_tail(Tail(keys, codes, zero[:, 0], zero[:, 0]), config.chunk, config)
    values = block[KVFormat(config).tail_key_bytes :]
    return Segment(True, values, pack_value_codes(codes, config.tail_value_bits, config).tobytes())


def plain(generator: random.Random) -> Segment:
    """Whole bursts that pass as they are."""
    data = generator.randbytes(2 * BEAT_BYTES * generator.randint(1, 12))
    return Segment(False, data, data)


def mixture(name: str, seed: int, count: int, errors: float = 0.0) -> list[Segment]:
    generator = random.Random(f"{name} {seed}")
    made = []
    for _ in range(count):
        segment = generator.choice((plain(generator), tail_values(CONFIGS[name], generator)))
        wrong = (i for i in range(segment.beats) if generator.random() < errors)
        made.append(replace(segment, errors=frozenset(wrong)))
    return made


def play(segments: dict[str, list[Segment]], **options: Any) -> Run:
    """Run the segments; data and ``last`` of every beat are compared, errors tile by tile."""
    inputs, outputs = {}, {}
    names = FEW if set(segments) <= set(FEW) else REST
    for name in names:
        each = segments.get(name, [])
        inputs[f"{name}__tiles"] = [int(segment.tiles) for segment in each]
        inputs[f"{name}__input"] = [
            pack(
                BEAT,
                {
                    "data": int.from_bytes(segment.coming[16 * i : 16 * i + 16], "little"),
                    "error": int(i in segment.errors),
                    "last": int(i == segment.beats - 1),
                },
            )
            for segment in each
            for i in range(segment.beats)
        ]
        outputs[f"{name}__output"] = sum(segment.beats for segment in each)
    run = simulate(bench(names), name="tile_transposer", inputs=inputs, outputs=outputs, **options)
    for name, each in segments.items():
        found = [unpack(BEAT, item) for item in run.outputs[f"{name}__output"]]
        for segment in each:
            beats, found = found[: segment.beats], found[segment.beats :]
            data = b"".join(beat["data"].to_bytes(BEAT_BYTES, "little") for beat in beats)
            assert data == segment.leaving
            assert [beat["last"] for beat in beats] == [0] * (segment.beats - 1) + [1]
            step = 2 * CONFIGS[name].chunk if segment.tiles else 1
            for start in range(0, segment.beats, step):
                coming = sum(i in segment.errors for i in range(start, start + step))
                assert sum(beat["error"] for beat in beats[start : start + step]) == coming
    return run


@SETS
@pytest.mark.parametrize("stall", [0.0, 0.5, 0.9])
def test_random_order(stall: float, names: tuple[str, ...], seed: int) -> None:
    print(f"seed {seed}")
    segments = {name: mixture(name, seed, 12, errors=0.1) for name in names}
    play(segments, stall=stall, seed=seed)


@pytest.mark.parametrize("stream", ["tiles", "input", "output"])
def test_stalls_on_one_stream(stream: str, seed: int) -> None:
    print(f"seed {seed}")
    segments = {name: mixture(name, seed + 1, 8) for name in FEW}
    stall = {f"{name}__{stream}": 0.9 for name in FEW}
    play(segments, stall=stall, seed=seed)


@pytest.mark.parametrize("reset_at", [29, 120])
def test_reset_in_flight(reset_at: int, seed: int) -> None:
    print(f"seed {seed}")
    segments = {name: mixture(name, seed + reset_at, 8) for name in FEW}
    play(segments, stall=0.3, seed=seed, reset_at=reset_at)


@pytest.mark.parametrize("name", slow_among(CONFIGS, REST))
def test_a_beat_in_every_cycle(name: str) -> None:
    """From tile to tile, from tiles to other segments and back; the first tile is waited for."""
    chunk = CONFIGS[name].chunk
    generator = random.Random(1)
    kinds = "tptttpptpt"
    segments = [
        tail_values(CONFIGS[name], generator) if kind == "t" else plain(generator) for kind in kinds
    ]
    beats = sum(segment.beats for segment in segments)
    run = play({name: segments})
    # The first beat comes in cycle 1.
    first = 1 + chunk // 2 + 1 + 2 * chunk - 1
    assert run.first_output_cycle == {f"{name}__output": first}
    assert run.cycles == first + beats
    run = play({name: [plain(generator) for _ in range(5)]})
    assert run.first_output_cycle == {f"{name}__output": 1 + chunk // 2 + 1}
