"""The dot collector: sums of keys, byte planes joined to codes, and what passes as it is."""

import random
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch

from golden.twin.pe_array import pe_array
from hw.config import AttentionConfig, preset
from hw.constants import DOT_BITS, PROBABILITY_MAX, QUERY_MAX, SUM_BITS
from hw.cores.dot_collector import DotCollector
from hw.cores.lanes import LANES, lanes_layout
from hw.cores.payloads import scaled_tag, step_tag, tail_sums
from hw.formats import Mode, StepKind
from tb.harness import pack, payload_widths, simulate, unpack

CONFIGS = {
    "tiny": preset("tiny"),
    "lm": preset("lm"),
    "rows1": replace(preset("lm"), rows=1, head_dim=128),
    "rows4": replace(preset("tiny"), rows=4),
    "group64_chunk16": replace(preset("lm"), rows=3, group=64, chunk=16),
    "chunk4": replace(preset("tiny"), chunk=4),
}
#: FP16 2**-8, with which the scale bank leaves a sum as it is: 1024 * a >> 10.
UNIT_SCALE = 0x1C00
Fields = dict[str, Any]


@cache
def device(name: str) -> DotCollector:
    """One component per configuration, so that all runs share its elaboration and build."""
    return DotCollector(CONFIGS[name])


class Case:
    """Steps for a collector and what has to come out of it."""

    def __init__(self, config: AttentionConfig, generator: random.Random) -> None:
        self.config = config
        self.random = generator
        self.results: list[int] = []
        self.sums: list[Fields] = []
        self.tail: list[Fields] = []

    def _number(self, bits: int) -> int:
        high = (1 << (bits - 1)) - 1
        return self.random.choice([self.random.randint(-high - 1, high), 0, -1, high, -high - 1])

    def _lanes(self, a_bits: int = DOT_BITS) -> list[list[Fields]]:
        return [
            [{"a": self._number(a_bits), "b": self._number(SUM_BITS)} for _ in range(LANES)]
            for _ in range(self.config.rows)
        ]

    def _step(
        self, kind: StepKind, lanes: list[list[Fields]], key: Fields | None = None, **fields: int
    ) -> Fields:
        """Add one step with a random tag, given fields excepted; the tag comes back."""
        layout = step_tag(self.config)
        tag = unpack(layout, self.random.getrandbits(layout.size))
        tag |= {"kind": kind, "key": tag["key"] | (key or {}), **fields}
        self.results.append(
            pack(lanes_layout(self.config.rows), lanes)
            | pack(layout, tag) << lanes_layout(self.config.rows).size
        )
        return tag

    def _forward(self, tag: Fields, lanes: list[list[Fields]]) -> None:
        self.sums.append(
            {
                "lane": lanes,
                "scale": [pair["scale"] for pair in tag["pairs"]],
                "minimum": [pair["minimum"] for pair in tag["pairs"]],
                "tag": pack(scaled_tag(self.config), {"kind": tag["kind"], "key": tag["key"]}),
            }
        )

    def passing(self, kind: StepKind) -> None:
        """A step of deltas or closed values."""
        if kind is StepKind.DELTAS and self.config.group > 32:
            self.deltas_in_two_steps()
            return
        if kind is StepKind.VALUES and self.config.chunk > 8:
            self.values_in_two_steps()
            return
        lanes = self._lanes()
        self._forward(self._step(kind, lanes), lanes)

    def deltas_in_two_steps(self) -> None:
        """The halves of a delta group of 64 channels; the tag is that of the second."""
        halves = [self._lanes(DOT_BITS - 1) for _ in range(2)]
        for half in halves:
            for row in half:
                row[0]["b"] >>= 1
        self._step(StepKind.DELTAS, halves[0], {"group_end": 0})
        tag = self._step(StepKind.DELTAS, halves[1], {"group_end": 1})
        for first, second in zip(*halves, strict=True):
            for name in ("a", "b"):
                second[0][name] += first[0][name]
        self._forward(tag, halves[1])

    def values_in_two_steps(self) -> None:
        """Four channels of closed values, two a step; the tag is that of the second."""
        halves = [self._lanes() for _ in range(2)]
        self._step(StepKind.VALUES, halves[0], {"group_end": 0})
        tag = self._step(StepKind.VALUES, halves[1], {"group_end": 1})
        self._forward(tag, [[*x[:2], *y[:2]] for x, y in zip(*halves, strict=True)])

    def keys(self) -> None:
        """The beats of one key group; the sum of the queries and the tag are those of the last."""
        beats = self.config.group // 16
        steps = []
        for beat in range(beats):
            # Up to four of them are added.
            lanes = self._lanes(DOT_BITS - 2)
            key = {"group_end": int(beat == beats - 1), "dense": 0}
            steps.append((self._step(StepKind.KEYS, lanes, key), lanes))
        tag, last = steps[-1]
        for row in range(self.config.rows):
            last[row][0]["a"] = sum(lanes[row][0]["a"] for _, lanes in steps)
            last[row][0]["b"] = tag["query_sum"][row]
        self._forward(tag, last)

    def _multiplied(
        self, kind: StepKind, codes: torch.Tensor, operand: torch.Tensor, *, signed: bool
    ) -> list[list[Fields]]:
        """The lanes of the PE array for 16 bytes and operands ``[rows, n]``."""
        digits = ((codes.reshape(16, 1) >> 2 * torch.arange(4)) & 3).flatten()
        padded = torch.zeros(1, self.config.rows, 32, dtype=torch.int64)
        padded[:, :, : operand.shape[1]] = operand
        a, b = pe_array(self.config, kind, digits[None], padded, signed_bytes=signed)
        return [
            [{"a": int(x), "b": int(y)} for x, y in zip(*row, strict=True)]
            for row in zip(a[0], b[0], strict=True)
        ]

    def dense_key(self, codes: torch.Tensor, query: torch.Tensor, *, wide: bool) -> None:
        """A dense key: ``codes [d]``, ``query [rows, d]``, through the PE array.

        Beat after beat of 16 channels, low bytes before high bytes; the sum is that of all.
        """
        planes = [(codes & 255, False), (codes >> 8, True)] if wide else [(codes, True)]
        beats = len(codes) // 16
        for beat in range(beats):
            at = slice(16 * beat, 16 * beat + 16)
            for plane, signed in planes:
                lanes = self._multiplied(StepKind.KEYS, plane[at], query[:, at], signed=signed)
                end = int(signed and beat == beats - 1)
                key = {"dense": 1, "group_end": end}
                flags = {"wide": int(wide), "signed": int(signed)}
                tag = self._step(StepKind.KEYS, lanes, key, **flags)
        for row, dot in enumerate((query @ codes).tolist()):
            # Aligned to 2**-19 of a query scale: rhu(dot, 7) or 2 * dot.
            lanes[row][0]["a"] = (dot + 64) // 128 if wide else 2 * dot
            lanes[row][0]["b"] = tag["query_sum"][row]
        tag["pairs"][0]["scale"] = UNIT_SCALE
        self._forward(tag, lanes)

    def random_dense_key(self, *, wide: bool) -> None:
        """A key with random or extreme codes and queries."""
        half = 1 << (15 if wide else 7)
        codes = torch.randint(-half, half, (self.config.head_dim,))
        query = torch.randint(-QUERY_MAX, QUERY_MAX + 1, (self.config.rows, self.config.head_dim))
        if self.random.random() < 0.5:
            codes = torch.tensor([-half, half - 1, -1, 0])[torch.randint(0, 4, codes.shape)]
        if self.random.random() < 0.5:
            query = torch.where(query < 0, -QUERY_MAX, QUERY_MAX)
        self.dense_key(codes, query, wide=wide)

    def tail_values(self, codes: torch.Tensor, weights: torch.Tensor, *, wide: bool) -> None:
        """A quad of channels: ``codes [4, C]``, ``weights [rows, C]``, through the PE array."""
        planes = [(codes & 255, False), (codes >> 8, True)] if wide else [(codes, True)]
        for plane, signed in planes:
            for beat in plane.reshape(-1, 16):
                lanes = self._multiplied(StepKind.TAIL_VALUES, beat, weights, signed=signed)
                self._step(StepKind.TAIL_VALUES, lanes, wide=int(wide), signed=int(signed))
        scale = 1 if wide else 256
        self.tail.append({"v": (scale * weights @ codes.T).tolist()})

    def random_tail_values(self, *, wide: bool) -> None:
        """A quad with random or extreme codes and weights."""
        half = 1 << (15 if wide else 7)
        shape = (LANES, self.config.chunk)
        codes = torch.randint(-half, half, shape)
        if self.random.random() < 0.5:
            codes = torch.tensor([-half, half - 1, -1, 0])[torch.randint(0, 4, shape)]
        weights = torch.randint(0, PROBABILITY_MAX + 1, (self.config.rows, self.config.chunk))
        if self.random.random() < 0.5:
            weights = torch.full_like(weights, PROBABILITY_MAX)
        self.tail_values(codes, weights, wide=wide)


def make_case(config: AttentionConfig, seed: int, count: int = 60) -> Case:
    """Groups, dense keys, quads and passing steps in random order, both widths mixed."""
    print(f"dot collector case of seed {seed}")
    torch.manual_seed(seed)
    case = Case(config, random.Random(seed))
    # The largest and the smallest sums: all codes, weights and queries at their ends.
    full = torch.full((config.rows, config.chunk), PROBABILITY_MAX)
    query = torch.full((config.rows, config.head_dim), QUERY_MAX)
    for wide in (True, False):
        half = 1 << (15 if wide else 7)
        for extreme in (-half, half - 1):
            case.tail_values(torch.full((LANES, config.chunk), extreme), full, wide=wide)
            for sign in (1, -1):
                codes = torch.full((config.head_dim,), extreme)
                case.dense_key(codes, sign * query, wide=wide)
    for _ in range(count):
        kind, wide = case.random.choice(list(StepKind)), case.random.random() < 0.5
        if kind is StepKind.KEYS and case.random.random() < 0.5:
            case.random_dense_key(wide=wide)
        elif kind is StepKind.KEYS:
            case.keys()
        elif kind is StepKind.TAIL_VALUES:
            case.random_tail_values(wide=wide)
        else:
            case.passing(kind)
    return case


def check(name: str, case: Case, **options: Any) -> Any:
    """Run the case and compare every item; the run comes back."""
    ports = device(name).signature.members
    run = simulate(
        device(name),
        name=f"dot_collector_{name}",
        inputs={"result": case.results},
        outputs={"sums": len(case.sums), "tail": len(case.tail)},
        **options,
    )
    sums = ports["sums"].signature.members["payload"].shape
    assert [unpack(sums, item) for item in run.outputs["sums"]] == case.sums
    assert [unpack(tail_sums(case.config), x) for x in run.outputs["tail"]] == case.tail
    return run


@pytest.mark.parametrize("name", CONFIGS)
def test_derived_widths(name: str) -> None:
    config = CONFIGS[name]
    lanes = config.rows * 4 * (29 + 20)
    key = 3 + 2 + 3 + 3 + 16
    assert payload_widths(device(name)) == {
        "result": lanes + 2 + 2 + 4 * 32 + 20 * config.rows + key,
        "sums": lanes + 4 * 32 + 2 + key,
        "tail": config.rows * 4 * {4: 30, 8: 31, 16: 32}[config.chunk],
    }


@pytest.mark.parametrize("name", CONFIGS)
def test_every_step_without_stalls(name: str) -> None:
    case = make_case(CONFIGS[name], 1, count=150)
    run = check(name, case)
    # One step a cycle from cycle 1, and what the last one completes comes in its own cycle.
    assert run.cycles == len(case.results) + 1


@pytest.mark.parametrize(
    ("name", "stall"),
    [("tiny", 0.5), ("lm", {"sums": 0.9, "tail": 0.9}), ("rows1", 0.9)],
    ids=str,
)
def test_stalls(name: str, stall: Any) -> None:
    check(name, make_case(CONFIGS[name], 2), stall=stall, seed=5)


@pytest.mark.parametrize("cycle", [2, 13])
def test_reset_in_flight(cycle: int) -> None:
    check("lm", make_case(CONFIGS["lm"], 3, count=30), stall=0.2, seed=cycle, reset_at=cycle)


def test_latency_is_zero() -> None:
    case = Case(CONFIGS["lm"], random.Random(4))
    case.keys()
    case.random_tail_values(wide=True)
    run = check("lm", case)
    assert run.first_output_cycle == {"sums": 2, "tail": 6}
    case = Case(CONFIGS["lm"], random.Random(5))
    case.random_tail_values(wide=False)
    # 64 channels: 4 beats of low bytes and 4 of high bytes.
    case.random_dense_key(wide=True)
    run = check("lm", case)
    assert run.first_output_cycle == {"sums": 2 + 8, "tail": 2}


@pytest.mark.parametrize(
    ("mode", "codes", "wanted"),
    [
        (Mode.DENSE8, [63, 64, -1, -64, 127, -128], [126, 128, -2, -128, 254, -256]),
        # Halves are rounded up: 64 / 128 to 1, -64 / 128 to 0.
        (Mode.DENSE16, [63, 64, -64, -65, 191, 192, 0x7FFF], [0, 1, 0, -1, 1, 2, 256]),
    ],
)
def test_alignment_by_hand(mode: Mode, codes: list[int], wanted: list[int]) -> None:
    """Keys whose last channel alone meets a query, which is 1."""
    config = CONFIGS["tiny"]
    case = Case(config, random.Random(6))
    query = torch.zeros(config.rows, config.head_dim, dtype=torch.int64)
    query[:, -1] = 1
    for code in codes:
        # All other codes are at one end and meet 0.
        key = torch.full((config.head_dim,), -(1 << 8 * mode.code_bytes - 1))
        key[-1] = code
        case.dense_key(key, query, wide=mode == Mode.DENSE16)
    run = check("tiny", case)
    shape = device("tiny").signature.members["sums"].signature.members["payload"].shape
    found = [unpack(shape, item) for item in run.outputs["sums"]]
    for row in range(config.rows):
        assert [item["lane"][row][0]["a"] for item in found] == wanted
    assert {item["scale"][0] for item in found} == {UNIT_SCALE}


def test_widths_in_any_order() -> None:
    """A quad of 8-bit codes after one of 16-bit codes and the other way round, and so for keys."""
    case = Case(CONFIGS["tiny"], random.Random(7))
    torch.manual_seed(7)
    for order in ((True, False), (False, True), (False, False), (True, True)):
        for wide in order:
            case.random_tail_values(wide=wide)
        for wide in order:
            case.random_dense_key(wide=wide)
            case.keys()
    run = check("tiny", case)
    assert run.cycles == len(case.results) + 1
