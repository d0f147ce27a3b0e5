"""The PE array against its twin: all kinds, corner values, stalls, resets, latency, throughput."""

import random
from collections.abc import Iterable
from functools import cache
from itertools import product
from typing import Any

import pytest
import torch
from amaranth.hdl import Shape

from golden.twin.pe_array import pe_array
from hw.config import DIGITS, AttentionConfig, ConfigError, preset
from hw.constants import OPERAND_BITS, PROBABILITY_MAX, QUERY_MAX
from hw.cores.lanes import LANES, lanes_layout, tagged_payload
from hw.cores.pe_array import PEArray
from hw.cores.pe_row import OPERANDS
from hw.formats import StepKind
from tb.harness import Run, Stall, pack, simulate, unpack

TAG_BITS = 5
LATENCY = 3
CONFIGS = {
    "tiny": preset("tiny"),
    "lm": preset("lm"),
    "one_row": AttentionConfig(rows=1),
    "chunk4": AttentionConfig(rows=1, chunk=4),
    "chunk16": AttentionConfig(rows=1, chunk=16),
    "values4": AttentionConfig(rows=1, value_bits=4),
    "chunk16_values4": AttentionConfig(rows=1, chunk=16, value_bits=4),
}
KEY_KINDS = (StepKind.KEYS, StepKind.KEY_DIGITS)

#: kind, signed, digits, operands by row, tag, upper
Step = tuple[StepKind, int, list[int], list[list[int]], int, int]


@cache
def component(rows: int, chunk: int = 8, value_bits: int = 2) -> PEArray:
    """One build for all configurations with the same of all: nothing else changes the array."""
    config = AttentionConfig(rows=rows, chunk=chunk, value_bits=value_bits)
    return PEArray(config, tag_bits=TAG_BITS)


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
        tag = index % (1 << TAG_BITS)
        steps.append((kind, rng.randrange(2), digits, operands, tag, rng.randrange(2)))
    return steps


def corner_steps(config: AttentionConfig) -> list[Step]:
    """All digits and all operands at each extreme, for every kind, and single digits alone."""
    rows, steps = config.rows, list[Step]()
    for kind, sign, upper in product(StepKind, (0, 1), range(config.value_bits // 2)):
        for value in (*operand_range(kind), 0, 1):
            for digit in range(4):
                operands = [[value] * OPERANDS] * rows
                steps.append((kind, sign, [digit] * DIGITS, operands, 9, upper))
        for position in range(DIGITS):
            digits = [3 * (k == position) for k in range(DIGITS)]
            row = [3 * i + 1 for i in range(OPERANDS)]
            steps.append((kind, sign, digits, [row] * rows, 22, upper))
    return steps


def as_legal(config: AttentionConfig, steps: list[Step]) -> list[Step]:
    """The steps as a chunk of this size can have them.

    Operands of tokens that the chunk does not have are 0. With chunks of 16 tokens mask digits are
    0 or 1: more would not fit the sum. Only 4-bit values have upper digits.
    """
    masks = [k for k in range(DIGITS) if k % 32 in (*range(7, 14), *range(23, 30), 31)]
    found: list[Step] = []
    for kind, sign, digits, operands, tag, upper in steps:
        if kind not in KEY_KINDS and config.chunk != 8:
            none = [0] * (OPERANDS - config.chunk)
            operands = [[*row[: config.chunk], *none] for row in operands]
            if kind is StepKind.VALUES and config.chunk == 16:
                digits = [d & 1 if k in masks else d for k, d in enumerate(digits)]
        found.append((kind, sign, digits, operands, tag, upper & (config.value_bits == 4)))
    return found


def packed_steps(array: PEArray, steps: Iterable[Step]) -> list[int]:
    mask = (1 << OPERAND_BITS) - 1
    return [
        pack(
            array.step.p.shape(),
            {
                "kind": kind,
                "signed": sign,
                "upper": upper,
                "digits": digits,
                "operand": [[x & mask for x in row] for row in operands],
                "tag": tag,
            },
        )
        for kind, sign, digits, operands, tag, upper in steps
    ]


def expected_results(config: AttentionConfig, steps: list[Step]) -> list[tuple[object, ...]]:
    """Per step the twin's ``a`` and ``b``, ``[row][lane]``, and the tag."""
    results: dict[int, tuple[object, ...]] = {}
    for kind, sign, upper in product(StepKind, (0, 1), (0, 1)):
        flags = (kind, sign, upper)
        at = [i for i, step in enumerate(steps) if (*step[:2], step[5]) == flags]
        if not at:
            continue
        digits = torch.tensor([steps[i][2] for i in at])
        operand = torch.tensor([steps[i][3] for i in at])
        a, b = pe_array(config, kind, digits, operand, signed_bytes=bool(sign), upper=bool(upper))
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


def check(name: str, steps: list[Step], **options: Any) -> Run:
    """Compare a run with the twin; return the run."""
    config = CONFIGS[name]
    steps = as_legal(config, steps)
    array = component(config.rows, config.chunk, config.value_bits)
    run = simulate(
        array,
        name=f"pe_array_{config.rows}_rows_chunk_{config.chunk}_values_{config.value_bits}",
        inputs={"step": packed_steps(array, steps)},
        outputs={"result": len(steps)},
        **options,
    )
    found = unpacked_results(array, run.outputs["result"])
    wanted = expected_results(config, steps)
    for index, (got, want) in enumerate(zip(found, wanted, strict=True)):
        assert got == want, f"step {index}, {steps[index][0]!r}, signed {steps[index][1]}"
    return run


@pytest.mark.parametrize("rows", [1, 2, 3, 4])
def test_payload_widths(rows: int) -> None:
    array = component(rows)
    assert Shape.cast(array.step.p.shape()).width == 2 + 2 + 2 * 64 + 12 * 32 * rows + TAG_BITS
    assert Shape.cast(array.result.p.shape()).width == 49 * 4 * rows + TAG_BITS
    for value_bits, lane in ((2, 29 + 20), (4, 29 + 22)):
        config = AttentionConfig(rows=rows, value_bits=value_bits)
        assert Shape.cast(lanes_layout(config)).width == lane * LANES * rows


def test_twin_of_other_chunks_by_hand() -> None:
    operand = torch.zeros(1, 1, 32, dtype=torch.int64)
    operand[0, 0, :16] = torch.arange(1, 17)
    digits = torch.zeros(1, 64, dtype=torch.int64)
    # Chunks of 16, channel 0: base 9, code of token 1, mask of 7; second part: code of token 8,
    # mask of 14, code and mask of 15. Channel 1: mask of token 8.
    digits[0, [0, 13, 14, 15, 16, 29, 30, 31, 55]] = torch.tensor([1, 1, 1, 2, 2, 1, 3, 1, 1])
    a, b = pe_array(CONFIGS["chunk16"], StepKind.VALUES, digits, operand)
    assert a[0, 0].tolist() == [9 + 5 * (2 + 2 * 9 + 3 * 16), 0, 0, 0]
    assert b[0, 0].tolist() == [5 * (1 + 8 + 15 + 16), 5 * (1 + 9), 0, 0]
    a, _ = pe_array(CONFIGS["chunk16"], StepKind.TAIL_VALUES, digits, operand)
    # The digits as bytes.
    codes = [1, 0, 0, 4 + 16 + 2 * 64, 2, 0, 0, 4 + 3 * 16 + 64, 0, 0, 0, 0, 0, 64, 0, 0]
    assert a[0, 0].tolist() == [sum(c * (i + 1) for i, c in enumerate(codes)), 0, 0, 0]
    operand[0, 0, 4:] = 0
    a, b = pe_array(CONFIGS["chunk4"], StepKind.TAIL_VALUES, digits, operand)
    by_channel = [codes[4 * i : 4 * i + 4] for i in range(4)]
    assert a[0, 0].tolist() == [sum(c * (i + 1) for i, c in enumerate(x)) for x in by_channel]
    assert not b.any()


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
    digits[0, [3, 4, 63]] = torch.tensor([2, 3, 3])
    a, b = pe_array(config, StepKind.KEYS, digits, operand)
    assert (a[0, 0].tolist(), b[0, 0].tolist()) == ([128 + 2 * 3 + 16 * 192, 0, 0, 0], [0] * 4)
    # Bytes 0x80, 3 and, at the 16th element, 0xC0.
    a, b = pe_array(config, StepKind.KEYS, digits, operand, signed_bytes=True)
    assert (a[0, 0].tolist(), b[0, 0].tolist()) == ([-128 + 2 * 3 - 16 * 64, 0, 0, 0], [0] * 4)
    for signed in (False, True):
        a, b = pe_array(config, StepKind.KEY_DIGITS, digits, operand, signed_bytes=signed)
        assert (a[0, 0].tolist(), b[0, 0].tolist()) == ([8 + 15, 0, 0, 0], [96, 0, 0, 0])
        a, b = pe_array(config, StepKind.VALUES, digits, operand, signed_bytes=signed)
        assert a[0, 0].tolist() == [5 * (2 * 5 + 3 * 6), 0, 0, 12]
        assert b[0, 0].tolist() == [5, 5, 5, 5]
    a, b = pe_array(config, StepKind.TAIL_VALUES, digits, operand, signed_bytes=True)
    assert (a[0, 0].tolist(), b[0, 0].tolist()) == ([-128 + 2 * 3, -64 * 8, 0, 0], [0] * 4)


def test_largest_values_fit() -> None:
    """Whole codes of 16 tokens at their ends, as the scale bank sees them, within the contract."""
    config = CONFIGS["chunk16_values4"]
    operand = torch.full((1, 1, 32), PROBABILITY_MAX)
    digits = torch.full((1, 64), 3)
    digits[0, [k for k in range(DIGITS) if k % 32 in (*range(7, 14), *range(23, 30), 31)]] = 1
    lower, b = pe_array(config, StepKind.VALUES, digits, operand)
    upper, _ = pe_array(config, StepKind.VALUES, digits, operand, upper=True)
    assert (lower + 4 * upper)[0, 0, :2].tolist() == [4095 * (255 + 17 * 15 * 15)] * 2
    assert 4095 * (255 + 17 * 15 * 15) < 1 << 24
    assert b[0, 0, :2].tolist() == [17 * 16 * 4095] * 2
    assert 17 * 16 * 4095 < 1 << 21


@pytest.mark.parametrize("name", ["tiny", "one_row", "chunk4", "chunk16", "chunk16_values4"])
def test_corners_in_exact_time(name: str) -> None:
    steps = corner_steps(CONFIGS[name])
    run = check(name, steps)
    # Counted from cycle 1, in which the first step is there.
    assert run.first_output_cycle == {"result": 1 + LATENCY}
    assert run.cycles == len(steps) + 1 + LATENCY


@pytest.mark.parametrize("query", [QUERY_MAX, -QUERY_MAX])
def test_every_byte_of_a_signed_key(query: int) -> None:
    """Sixteen equal bytes against one query: 16 times two's complement byte times query."""
    rows = CONFIGS["one_row"].rows
    steps: list[Step] = [
        (
            StepKind.KEYS,
            1,
            [byte >> 2 * k & 3 for k in range(4)] * 16,
            [[query] * OPERANDS] * rows,
            1,
            0,
        )
        for byte in range(256)
    ]
    run = check("one_row", steps)
    found = unpacked_results(component(rows), run.outputs["result"])
    codes = [byte - 256 * (byte >= 128) for byte in range(256)]
    assert [a for a, _, _ in found] == [[[16 * query * code, 0, 0, 0]] for code in codes]


@pytest.mark.parametrize(
    ("name", "stall"),
    [
        ("tiny", 0.0),
        ("tiny", 0.5),
        ("lm", 0.9),
        ("lm", {"step": 0.9}),
        ("tiny", {"result": 0.9}),
        ("chunk4", 0.5),
        ("chunk16", 0.5),
        pytest.param("values4", 0.0, marks=pytest.mark.slow),
        ("chunk16_values4", 0.5),
    ],
)
def test_random(name: str, stall: Stall) -> None:
    seed = list(CONFIGS).index(name) + 10
    print(f"seed {seed}")
    steps = random_steps(random.Random(seed), CONFIGS[name].rows, 300)
    check(name, steps, stall=stall, seed=seed)


@pytest.mark.parametrize(("cycle", "stall"), [(2, 0.0), (5, {"result": 0.9}), (20, 0.5)])
def test_reset_in_flight(cycle: int, stall: Stall) -> None:
    steps = random_steps(random.Random(cycle), CONFIGS["tiny"].rows, 60)
    check("tiny", steps, stall=stall, seed=cycle, reset_at=cycle)
