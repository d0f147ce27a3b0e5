"""The dot collector: sums of keys, byte planes joined to codes, and what passes as it is."""

import random
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch

from golden.twin.pe_array import pe_array
from hw.config import AttentionConfig, preset
from hw.constants import DOT_BITS, PROBABILITY_MAX, QUERY_MAX
from hw.cores.dot_collector import DotCollector
from hw.cores.lanes import LANES, lanes_layout, second_sum_bits
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
    "codes4": replace(preset("tiny"), key_bits=4, key_delta_bits=4, value_bits=4),
    "group64_chunk16_codes4": replace(
        preset("lm"), group=64, chunk=16, key_bits=4, key_delta_bits=4, value_bits=4
    ),
}
#: What the others show with other sizes.
SLOW = ("rows4", "chunk4")
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

    def _lanes(self, spare_bits: int = 0) -> list[list[Fields]]:
        """Sums with so many bits less than their widths."""
        a_bits, b_bits = DOT_BITS, second_sum_bits(self.config)
        return [
            [
                {"a": self._number(a_bits - spare_bits), "b": self._number(b_bits - spare_bits)}
                for _ in range(LANES)
            ]
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
            pack(lanes_layout(self.config), lanes)
            | pack(layout, tag) << lanes_layout(self.config).size
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
        """A group of deltas or four channels of closed values."""
        if kind is StepKind.KEY_DIGITS:
            self.deltas()
        else:
            self.values()

    def deltas(self) -> None:
        """The steps of a delta group; the tag is that of the last.

        32 channels after the others, each lower digits first; those count once, upper ones 4 times.
        """
        planes = self.config.key_delta_bits // 2
        count = planes * max(1, self.config.group // 32)
        total = [{"a": 0, "b": 0} for _ in range(self.config.rows)]
        for step in range(count):
            lanes = self._lanes(0 if count == 1 else 4)
            upper = step % planes
            key = {"base": 0, "tail": 0, "group_end": int(step == count - 1)}
            tag = self._step(StepKind.KEY_DIGITS, lanes, key, upper=upper)
            for row, sums in zip(lanes, total, strict=True):
                sums["a"] += row[0]["a"] << 2 * upper
                sums["b"] += row[0]["b"]
        for row, sums in zip(lanes, total, strict=True):
            row[0] = sums
        self._forward(tag, lanes)

    def values(self) -> None:
        """The steps of four channels of closed values; the tag is that of the last.

        With chunks of 16 tokens two channels after the others, each lower digits first.
        """
        planes = self.config.value_bits // 2
        parts = max(1, self.config.chunk // 8)
        channels = LANES // parts
        total: list[list[Fields]] = [[] for _ in range(self.config.rows)]
        for part in range(parts):
            for upper in range(planes):
                lanes = self._lanes(0 if planes == 1 else 4)
                end = int(part == parts - 1 and upper == planes - 1)
                tag = self._step(StepKind.VALUES, lanes, {"group_end": end}, upper=upper)
                for row, sums in zip(lanes, total, strict=True):
                    if upper == 0:
                        sums += [dict(lane) for lane in row[:channels]]
                        continue
                    for lane, both in zip(row[:channels], sums[-channels:], strict=True):
                        both["a"] += 4 * lane["a"]
        self._forward(tag, total)

    def packed_keys(self) -> None:
        """The steps of a group of 4-bit codes: low digits in ``a``, high digits in ``b``."""
        parts = max(1, self.config.group // 32)
        total = [0] * self.config.rows
        for part in range(parts):
            lanes = self._lanes(4)
            base = self.random.getrandbits(1)
            key = {"base": base, "tail": 1 - base, "dense": 0, "group_end": int(part == parts - 1)}
            tag = self._step(StepKind.KEY_DIGITS, lanes, key, upper=0)
            total = [x + row[0]["a"] + 4 * row[0]["b"] for x, row in zip(total, lanes, strict=True)]
        for row, found, queries in zip(lanes, total, tag["query_sum"], strict=True):
            row[0] = {"a": found, "b": queries}
        self._forward(tag, lanes)

    def keys(self) -> None:
        """The beats of one key group; the sum of the queries and the tag are those of the last."""
        beats = self.config.group // 16
        steps = []
        for beat in range(beats):
            # Up to four of them are added.
            lanes = self._lanes(2)
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
        elif kind is StepKind.KEY_DIGITS and config.key_bits == 4 and case.random.random() < 0.5:
            case.packed_keys()
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
    lanes = config.rows * 4 * (29 + (20 if config.value_bits == 2 else 22))
    key = 3 + 2 + 3 + 3 + 16
    assert payload_widths(device(name)) == {
        "result": lanes + 2 + 3 + 4 * 32 + 20 * config.rows + key,
        "sums": lanes + 4 * 32 + 2 + key,
        "tail": config.rows * 4 * {4: 30, 8: 31, 16: 32}[config.chunk],
    }


@pytest.mark.parametrize(
    "name",
    [pytest.param(x, marks=pytest.mark.slow) if x in SLOW else x for x in CONFIGS],
)
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
