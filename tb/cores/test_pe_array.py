"""The PE array against its twin: every step kind, corner values, stalls, resets, exact latency."""

import random
from collections.abc import Iterable
from functools import cache

import pytest
import torch
from amaranth.hdl import Shape

from golden.twin.pe_array import pe_array
from hw.config import DIGITS, PRESETS, AttentionConfig, ConfigError
from hw.constants import OPERAND_BITS, PROBABILITY_MAX, QUERY_MAX
from hw.cores.lanes import LANES, lanes_layout, tagged_payload
from hw.cores.pe_array import PEArray
from hw.cores.pe_row import OPERANDS
from hw.formats import StepKind
from tb.harness import pack, simulate, unpack

TAG_BITS = 5
LATENCY = 3
CONFIGS = {**PRESETS, "one_row": AttentionConfig(rows=1), "four_rows": AttentionConfig(rows=4)}
KEY_KINDS = (StepKind.KEYS, StepKind.DELTAS)

#: kind, signed, digits, operands by row, tag
Step = tuple[StepKind, int, list[int], list[list[int]], int]


@cache
def component(name: str) -> PEArray:
    return PEArray(CONFIGS[name], tag_bits=TAG_BITS)


def operand_range(kind: StepKind) -> tuple[int, int]:
    return (-QUERY_MAX, QUERY_MAX) if kind in KEY_KINDS else (0, PROBABILITY_MAX)


def random_steps(rng: random.Random, rows: int, number: int) -> list[Step]:
    """Steps of random kinds; a third of them have only extreme digits and operands."""
    steps: list[Step] = []
    for index in range(number):
        kind = rng.choice(list(StepKind))
        low, high = operand_range(kind)
        if rng.random() < 1 / 3:
            digits = [rng.choice((0, 3)) for _ in range(DIGITS)]
            operands = [[rng.choice((low, 0, high)) for _ in range(OPERANDS)] for _ in range(rows)]
        else:
            digits = [rng.randrange(4) for _ in range(DIGITS)]
            operands = [[rng.randint(low, high) for _ in range(OPERANDS)] for _ in range(rows)]
        steps.append((kind, rng.randrange(2), digits, operands, index % (1 << TAG_BITS)))
    return steps


def corner_steps(rows: int) -> list[Step]:
    """All digits and all operands at each extreme, for every kind, and single digits alone."""
    steps: list[Step] = []
    for kind in StepKind:
        for sign in (0, 1):
            for value in (*operand_range(kind), 0, 1):
                for digit in range(4):
                    steps.append((kind, sign, [digit] * DIGITS, [[value] * OPERANDS] * rows, 9))
            for position in range(DIGITS):
                digits = [3 * (k == position) for k in range(DIGITS)]
                row = [3 * i + 1 for i in range(OPERANDS)]
                steps.append((kind, sign, digits, [row] * rows, 22))
    return steps


def packed_steps(array: PEArray, steps: Iterable[Step]) -> list[int]:
    mask = (1 << OPERAND_BITS) - 1
    return [
        pack(
            array.step.p.shape(),
            {
                "kind": kind,
                "signed": sign,
                "digits": digits,
                "operand": [[x & mask for x in row] for row in operands],
                "tag": tag,
            },
        )
        for kind, sign, digits, operands, tag in steps
    ]


def expected_results(config: AttentionConfig, steps: list[Step]) -> list[tuple[object, ...]]:
    """Per step the twin's ``a`` and ``b``, ``[row][lane]``, and the tag."""
    results: dict[int, tuple[object, ...]] = {}
    for kind in StepKind:
        for sign in (0, 1):
            at = [i for i, step in enumerate(steps) if step[:2] == (kind, sign)]
            if not at:
                continue
            digits = torch.tensor([steps[i][2] for i in at])
            operand = torch.tensor([steps[i][3] for i in at])
            a, b = pe_array(config, kind, digits, operand, signed_bytes=bool(sign))
            for place, i in enumerate(at):
                results[i] = (a[place].tolist(), b[place].tolist(), steps[i][4])
    return [results[i] for i in range(len(steps))]


def unpacked_results(array: PEArray, items: Iterable[int]) -> list[tuple[object, ...]]:
    found: list[tuple[object, ...]] = []
    for item in items:
        fields = unpack(array.result.p.shape(), item)
        a = [[lane["a"] for lane in row] for row in fields["lane"]]
        b = [[lane["b"] for lane in row] for row in fields["lane"]]
        found.append((a, b, fields["tag"]))
    return found


def check(name: str, steps: list[Step], **options: object) -> int:
    """Compare a run with the twin; return its cycles."""
    array = component(name)
    run = simulate(
        array,
        name=f"pe_array_{name}",
        inputs={"step": packed_steps(array, steps)},
        outputs={"result": len(steps)},
        **options,  # type: ignore[arg-type]
    )
    found = unpacked_results(array, run.outputs["result"])
    for index, (got, want) in enumerate(
        zip(found, expected_results(CONFIGS[name], steps), strict=True)
    ):
        assert got == want, f"step {index}, {steps[index][0]!r}, signed {steps[index][1]}"
    return run.cycles


@pytest.mark.parametrize("rows", [1, 2, 3, 4])
def test_payload_widths(rows: int) -> None:
    array = PEArray(AttentionConfig(rows=rows), tag_bits=7)
    assert Shape.cast(array.step.p.shape()).width == 2 + 1 + 2 * 64 + 12 * 32 * rows + 7
    assert Shape.cast(array.result.p.shape()).width == 46 * 4 * rows + 7
    assert Shape.cast(lanes_layout(rows)).width == 46 * LANES * rows


@pytest.mark.parametrize("tag_bits", [0, -1, 1.5, True, "4"])
def test_illegal_tag_bits(tag_bits: object) -> None:
    message = rf"tag_bits must be an integer of at least 1, not {tag_bits!r}"
    with pytest.raises(ConfigError, match=message):
        PEArray(CONFIGS["tiny"], tag_bits=tag_bits)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=message):
        tagged_payload({}, tag_bits)  # type: ignore[arg-type]


def test_twin_by_hand() -> None:
    config = CONFIGS["tiny"]
    operand = torch.arange(1, 33).view(1, 1, 32)
    digits = torch.zeros(1, 64, dtype=torch.int64)
    digits[0, [0, 3, 4, 63]] = torch.tensor([1, 2, 3, 3])
    a, b = pe_array(config, StepKind.KEYS, digits, operand)
    assert (a[0, 0].tolist(), b[0, 0].tolist()) == ([129 + 2 * 3 + 16 * 192, 0, 0, 0], [0] * 4)
    a, b = pe_array(config, StepKind.DELTAS, digits, operand)
    assert (a[0, 0].tolist(), b[0, 0].tolist()) == ([1 + 8 + 15, 0, 0, 0], [96, 0, 0, 0])
    a, b = pe_array(config, StepKind.VALUES, digits, operand)
    assert a[0, 0].tolist() == [5 * (2 + 2 * 5 + 3 * 6), 0, 0, 12]
    assert b[0, 0].tolist() == [5, 5, 5, 5]
    a, b = pe_array(config, StepKind.TAIL_VALUES, digits, operand, signed_bytes=True)
    assert (a[0, 0].tolist(), b[0, 0].tolist()) == ([-127 + 2 * 3, -64 * 8, 0, 0], [0] * 4)


@pytest.mark.parametrize("name", CONFIGS)
def test_corners(name: str) -> None:
    check(name, corner_steps(CONFIGS[name].rows))


@pytest.mark.parametrize("stall", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", ["tiny", "lm"])
def test_random(name: str, seed: int, stall: float) -> None:
    print(f"seed {seed}")
    steps = random_steps(random.Random(seed), CONFIGS[name].rows, 200)
    check(name, steps, stall=stall, seed=seed)


@pytest.mark.parametrize("stall", [{"step": 0.9}, {"result": 0.9}])
def test_one_sided_stalls(stall: dict[str, float]) -> None:
    steps = random_steps(random.Random(3), CONFIGS["tiny"].rows, 100)
    check("tiny", steps, stall=stall, seed=3)


@pytest.mark.parametrize("name", ["one_row", "four_rows"])
def test_other_rows(name: str) -> None:
    steps = random_steps(random.Random(4), CONFIGS[name].rows, 100)
    check(name, steps, stall=0.5, seed=4)


@pytest.mark.parametrize("cycle", [1, 2, 3, 4, 20])
@pytest.mark.parametrize("stall", [0.0, 0.5])
def test_reset_in_flight(cycle: int, stall: float) -> None:
    steps = random_steps(random.Random(cycle), CONFIGS["tiny"].rows, 60)
    check("tiny", steps, stall=stall, seed=cycle, reset_at=cycle)


def test_exact_throughput() -> None:
    counts = (1, 2, 100)
    array = component("tiny")
    for count in counts:
        steps = random_steps(random.Random(count), CONFIGS["tiny"].rows, count)
        run = simulate(
            array,
            name="pe_array_tiny",
            inputs={"step": packed_steps(array, steps)},
            outputs={"result": count},
        )
        print(count, run.cycles, run.first_output_cycle)
        assert run.cycles == count + LATENCY
