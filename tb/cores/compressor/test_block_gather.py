"""Gathered blocks against the bytes of their tokens; the order of what leaves."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.config import BURST_BYTES, AttentionConfig, preset
from hw.cores.compressor.block_gather import BlockGather
from hw.cores.compressor.burst_builder import HALF_BITS, HALVES
from hw.cores.compressor.payloads import BURST, ENABLED_BYTES
from hw.cores.compressor.tail_appender import ORIGIN
from hw.formats import KVFormat
from hw.streams import StreamFIFO
from tb.cores.compressor.streams import play
from tb.formal.mutant import mutant
from tb.harness import pack, unpack

TINY = preset("tiny")
#: The second one has padding behind the header that is no whole burst.
CONFIGS = {"tiny": TINY, "chunk4": replace(TINY, chunk=4), "lm": preset("lm")}
ITEM = data.StructLayout({"burst": BURST, "origin": ORIGIN})
ALL = (1 << HALVES) - 1


class Bench(wiring.Component):
    """The unit, with each origin in the stream of its burst, and a stream of what has left.

    Gathered bursts leave in one of ``pace`` cycles at most.
    """

    def __init__(
        self, config: AttentionConfig, unit: type[BlockGather] = BlockGather, pace: int = 1
    ) -> None:
        self._gather = unit(config)
        self._pace = pace
        bursts = stream.Signature(BURST)
        left = self._gather.left.shape()
        super().__init__(
            {
                "items": In(stream.Signature(ITEM)),
                "passed": Out(bursts),
                "blocks": Out(bursts),
                "left": Out(stream.Signature(left)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Connect them."""
        m = Module()
        m.submodules.gather = gather = self._gather
        m.submodules.left = left = StreamFIFO(gather.left.shape(), depth=64)
        connect(m, gather.passed, flipped(self.passed))
        wait = Signal(range(self._pace))
        blocks, out = gather.blocks, self.blocks
        m.d.comb += [
            out.payload.eq(blocks.payload),
            out.valid.eq(blocks.valid & (wait == 0)),
            blocks.ready.eq(out.ready & (wait == 0)),
        ]
        with m.If(wait != 0):
            m.d.sync += wait.eq(wait - 1)
        with m.Elif(out.valid & out.ready):
            m.d.sync += wait.eq(self._pace - 1)
        connect(m, left.output, flipped(self.left))
        m.d.comb += [
            gather.bursts.payload.eq(self.items.payload.burst),
            gather.bursts.valid.eq(self.items.valid),
            self.items.ready.eq(gather.bursts.ready),
            gather.origin.eq(self.items.payload.origin),
            left.input.payload.eq(gather.left),
            left.input.valid.eq(gather.left != 0),
        ]
        return m


@dataclass
class Case:
    """What comes in, and what must come out."""

    items: list[int] = field(default_factory=list)
    passed: list[dict[str, int]] = field(default_factory=list)
    blocks: list[dict[str, int]] = field(default_factory=list)
    left: list[int] = field(default_factory=list)


def padding(config: AttentionConfig, place: int) -> int:
    """Enables of the halves of a burst of a block that no token has."""
    layout = KVFormat(config)
    used = layout.saliency_bytes + layout.key_scale_bytes + 2 * config.chunk
    halves = range(place * HALVES, (place + 1) * HALVES)
    return sum(
        1 << i
        for i, half in enumerate(halves)
        if used <= half * ENABLED_BYTES < layout.tail_header_bytes
    )


def add_block(case: Case, config: AttentionConfig, rng: random.Random, tokens: int) -> None:
    """The first ``tokens`` tokens of a prompt's block, each with halves of any bursts of it."""
    size = KVFormat(config).tail_block_bytes // BURST_BYTES
    block = rng.randrange(1 << 20)
    gathered = tokens == config.chunk
    content = [rng.getrandbits(BURST_BYTES * 8) for _ in range(size)]
    owners = []
    for _ in range(size):
        some = rng.sample(range(config.chunk), rng.choice([1, 1, 1, config.chunk]))
        owners.append([rng.choice(some) for _ in range(HALVES)])
    for token in range(tokens):
        # A token has something at least: its burst is written twice if it must be.
        places = [i for i, owner in enumerate(owners) if token in owner] or [0]
        rng.shuffle(places)
        for place in places:
            enable = sum(1 << i for i, owner in enumerate(owners[place]) if owner == token)
            enable &= ~padding(config, place)
            # What is not enabled is anything.
            keep = sum(0xFFFF << HALF_BITS * i for i in range(HALVES) if enable >> i & 1)
            burst = {
                "record": 0,
                "address": block + place,
                "data": content[place] & keep | rng.getrandbits(BURST_BYTES * 8) & ~keep,
                "enable": enable,
                "end": rng.randrange(2),
                "last": int(place == places[-1]),
            }
            origin = {
                "of_prompt": 1,
                "gathered": int(gathered),
                "ends_block": int(token == config.chunk - 1),
                "block": block,
            }
            case.items.append(pack(ITEM, {"burst": burst, "origin": origin}))
            if not gathered:
                case.passed.append(burst)
    case.left += [config.chunk] if gathered else [1] * tokens
    if gathered:
        for i, word in enumerate(content):
            last = int(i == size - 1)
            burst = {"address": block + i, "data": word, "enable": ALL & ~padding(config, i)}
            case.blocks.append({**burst, "record": 0, "end": last, "last": last})


def add_token(case: Case, rng: random.Random) -> None:
    """A token of a job, which does not wait for blocks; its block is of no interest."""
    for last in (0, 0, 1):
        burst = {"address": rng.randrange(1 << 20), "data": rng.getrandbits(256), "last": last}
        burst |= {"enable": rng.randrange(1, ALL + 1), "end": last, "record": 0}
        origin = {"of_prompt": 0, "gathered": 0, "ends_block": 1, "block": 0}
        case.items.append(pack(ITEM, {"burst": burst, "origin": origin}))
        case.passed.append(burst)


def make_case(config: AttentionConfig, seed: int, blocks: int) -> Case:
    """Prompts that begin and end within blocks, and tokens of jobs between them."""
    case, rng = Case(), random.Random(seed)
    for _ in range(blocks):
        add_block(case, config, rng, rng.choice([1, config.chunk - 1, *[config.chunk] * 4]))
        if rng.random() < 0.3:
            add_token(case, rng)
    return case


def masked(config: AttentionConfig, item: int) -> dict[str, int]:
    """A burst, the halves that are not written as 0."""
    burst = unpack(BURST, item)
    keep = sum(0xFFFF << HALF_BITS * i for i in range(HALVES) if burst["enable"] >> i & 1)
    return burst | {"data": burst["data"] & keep}


def check(
    name: str,
    seed: int,
    *,
    blocks: int = 5,
    stall: float = 0.3,
    pace: int = 1,
    reset_at: int | None = None,
    unit: type[BlockGather] = BlockGather,
) -> int:
    """Compare all that leaves; return the cycles."""
    config = CONFIGS[name]
    case = make_case(config, seed, blocks)
    wanted = {"passed": case.passed, "blocks": case.blocks}
    run = play(
        Bench(config, unit, pace),
        inputs={"items": case.items},
        outputs={**{name: len(items) for name, items in wanted.items()}, "left": len(case.left)},
        stall=stall,
        seed=seed,
        reset_at=reset_at,
    )
    for output, bursts in wanted.items():
        found = [masked(config, item) for item in run.outputs[output]]
        assert found == [masked(config, pack(BURST, burst)) for burst in bursts], output
    assert run.outputs["left"] == case.left
    return run.cycles


@pytest.mark.parametrize("name", CONFIGS)
def test_blocks(name: str, seed: int) -> None:
    check(name, seed)


def test_stalls_and_reset(seed: int) -> None:
    check("tiny", seed, stall=0.8, blocks=3)
    check("chunk4", seed, pace=5)
    check("tiny", seed + 1, blocks=3, reset_at=150)


def test_a_burst_a_cycle_while_the_next_block_comes(seed: int) -> None:
    config = CONFIGS["tiny"]
    case, rng = Case(), random.Random(seed)
    for _ in range(4):
        add_block(case, config, rng, config.chunk)
    size = KVFormat(config).tail_block_bytes // BURST_BYTES
    run = play(
        Bench(config),
        inputs={"items": case.items},
        outputs={"blocks": len(case.blocks), "left": len(case.left)},
        stall=0,
        seed=seed,
    )
    # Only the last block is not hidden behind what comes in.
    assert run.cycles <= len(case.items) + size + 8


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("passes = ~origin.of_prompt | ~full.any()", "passes = Const(1)"),
        ("room = ~full.bit_select(filled, 1)", "room = Const(1, 1)"),
        ("Mux(index == last, partial, everything)", "everything"),
        ("write.en.eq(Mux(taken, source.p.enable, 0))", "write.en.eq(taken.replicate(HALVES))"),
    ],
    ids=["passes too early", "overwrites a block", "writes padding", "drops enables"],
)
def test_a_faulty_unit_is_found(old: str, new: str, seed: int) -> None:
    faulty = mutant(BlockGather, old, new)
    with pytest.raises(AssertionError):
        check("chunk4", seed, blocks=8, pace=5, unit=faulty)
