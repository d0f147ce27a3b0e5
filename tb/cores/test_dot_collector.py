"""The dot collector: sums of key groups, joined byte planes of tail values, and what passes."""

import random
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch

from golden.twin.pe_array import pe_array
from hw.config import AttentionConfig, preset
from hw.constants import DOT_BITS, PROBABILITY_MAX, SUM_BITS
from hw.cores.dot_collector import DotCollector
from hw.cores.lanes import LANES, lanes_layout
from hw.cores.payloads import scaled_tag, step_tag, tail_sums
from hw.formats import StepKind
from tb.harness import pack, simulate, unpack

CONFIGS = {
    "tiny": preset("tiny"),
    "lm": preset("lm"),
    "rows1_bytes": replace(preset("lm"), rows=1, tail_value_bits=8),
    "rows4": replace(preset("tiny"), rows=4),
}
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

    def _step(self, kind: StepKind, lanes: list[list[Fields]], group_end: int) -> Fields:
        """Add one step with a random tag, which comes back."""
        layout = step_tag(self.config)
        tag = unpack(layout, self.random.getrandbits(layout.size))
        tag["kind"] = kind
        tag["key"]["group_end"] = group_end
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
        lanes = self._lanes()
        self._forward(self._step(kind, lanes, self.random.getrandbits(1)), lanes)

    def keys(self) -> None:
        """The beats of one key group; the sum of the queries and the tag are those of the last."""
        beats = self.config.group // 16
        steps = []
        for beat in range(beats):
            lanes = self._lanes(DOT_BITS - 1)
            steps.append((self._step(StepKind.KEYS, lanes, int(beat == beats - 1)), lanes))
        tag, last = steps[-1]
        for row in range(self.config.rows):
            last[row][0]["a"] = sum(lanes[row][0]["a"] for _, lanes in steps)
            last[row][0]["b"] = tag["query_sum"][row]
        self._forward(tag, last)

    def tail_values(self, codes: torch.Tensor, weights: torch.Tensor) -> None:
        """A quad of channels: ``codes [4, 8]``, ``weights [rows, 8]``, through the PE array."""
        wide = self.config.tail_value_bits == 16
        planes = [(codes & 255, False), (codes >> 8, True)] if wide else [(codes, True)]
        digits, signs = [], []
        for plane, signed in planes:
            for pair in plane.reshape(2, 16):
                digits.append(((pair[:, None] >> 2 * torch.arange(4)) & 3).flatten())
                signs.append(signed)
        operand = torch.zeros(1, self.config.rows, 32, dtype=torch.int64)
        operand[:, :, :8] = weights
        for step, signed in zip(digits, signs, strict=True):
            a, b = pe_array(
                self.config, StepKind.TAIL_VALUES, step[None], operand, signed_bytes=signed
            )
            lanes = [
                [{"a": int(x), "b": int(y)} for x, y in zip(*pair, strict=True)]
                for pair in zip(a[0], b[0], strict=True)
            ]
            self._step(StepKind.TAIL_VALUES, lanes, self.random.getrandbits(1))
        self.tail.append({"v": (weights @ codes.T).tolist()})

    def random_tail_values(self) -> None:
        """A quad with random or extreme codes and weights."""
        half = 1 << (self.config.tail_value_bits - 1)
        shape = (LANES, self.config.chunk)
        codes = torch.randint(-half, half, shape)
        if self.random.random() < 0.5:
            codes = torch.tensor([-half, half - 1, -1, 0])[torch.randint(0, 4, shape)]
        weights = torch.randint(0, PROBABILITY_MAX + 1, (self.config.rows, self.config.chunk))
        if self.random.random() < 0.5:
            weights = torch.full_like(weights, PROBABILITY_MAX)
        self.tail_values(codes, weights)


def make_case(config: AttentionConfig, seed: int, count: int = 60) -> Case:
    """Groups, quads and passing steps in random order."""
    print(f"dot collector case of seed {seed}")
    torch.manual_seed(seed)
    case = Case(config, random.Random(seed))
    # The largest and the smallest sum of a tail: all codes and weights at their ends.
    half = 1 << (config.tail_value_bits - 1)
    full = torch.full((config.rows, config.chunk), PROBABILITY_MAX)
    for extreme in (-half, half - 1):
        case.tail_values(torch.full((LANES, config.chunk), extreme), full)
    for _ in range(count):
        kind = case.random.choice(list(StepKind))
        if kind is StepKind.KEYS:
            case.keys()
        elif kind is StepKind.TAIL_VALUES:
            case.random_tail_values()
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
    ports = device(name).signature.members
    widths = {port: len(ports[port].signature.create().payload.as_value()) for port in ports}
    lanes = config.rows * 4 * (26 + 20)
    key = 2 + 2 + 3 + 3 + 16
    assert widths == {
        "result": lanes + 2 + 4 * 32 + 20 * config.rows + key,
        "sums": lanes + 4 * 32 + 2 + key,
        "tail": config.rows * 4 * 31,
    }


@pytest.mark.parametrize("name", CONFIGS)
def test_every_step_without_stalls(name: str) -> None:
    case = make_case(CONFIGS[name], 1, count=150)
    run = check(name, case)
    # One step a cycle from cycle 1, and what the last one completes comes in its own cycle.
    assert run.cycles == len(case.results) + 1


@pytest.mark.parametrize(
    ("name", "stall"),
    [("tiny", 0.5), ("lm", {"sums": 0.9, "tail": 0.9}), ("rows1_bytes", 0.9)],
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
    case.random_tail_values()
    run = check("lm", case)
    assert run.first_output_cycle == {"sums": 2, "tail": 6}
