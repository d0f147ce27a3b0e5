"""Operand selection: what every digit meets, unit headers, weights that come late, counters."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache
from typing import Any

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import memory, stream, wiring
from amaranth.lib.data import StructLayout
from amaranth.lib.wiring import In, Out

from hw.config import AttentionConfig
from hw.constants import OPERAND_BITS, PROBABILITY_MAX, QUERY_MAX, QUERY_SUM_BITS
from hw.cores.operand_select import OperandSelect, step_layout
from hw.cores.payloads import (
    SegmentKind,
    key_tag,
    slot_bits,
    step_tag,
    unit_header,
    unit_weights,
    work_layout,
)
from hw.cores.pe_row import OPERANDS
from hw.cores.query_store import operand_layout, query_sum_layout
from hw.formats import StepKind
from tb.cores.segments import FEW, Cache, Segment
from tb.cores.side_by_side import SideBySide
from tb.harness import Run, pack, simulate, unpack

SELECTS = {**FEW, "one_row": AttentionConfig(rows=1)}
COUNT_BITS = 16
COUNTERS = ("key_steps", "delta_steps", "value_steps", "tail_value_steps", "weight_wait")
VALUE_KINDS = (StepKind.VALUES, StepKind.TAIL_VALUES)


@cache
def queries(name: str) -> list[dict[str, Any]]:
    """What the store holds, by slot and group: codes and, independent of them, sums."""
    config = SELECTS[name]
    rng = random.Random(name)
    half = 1 << QUERY_SUM_BITS - 1
    return [
        {
            "operand": [
                [rng.randint(-QUERY_MAX, QUERY_MAX) & 0xFFF for _ in range(config.group)]
                for _ in range(config.rows)
            ],
            "query_sum": [rng.randrange(-half, half) for _ in range(config.rows)],
        }
        for _ in range(config.jobs_in_flight * config.groups)
    ]


class WithStore(wiring.Component):
    """The unit, a store with fixed queries at its read port, and its events counted."""

    def __init__(self, name: str) -> None:
        self._config = config = SELECTS[name]
        self._select = OperandSelect(config)
        self._queries = queries(name)
        super().__init__(
            {
                "work": In(stream.Signature(work_layout(config))),
                "weights": In(stream.Signature(unit_weights(config))),
                "step": Out(stream.Signature(step_layout(config))),
                "unit": Out(stream.Signature(unit_header(config))),
                **{counter: Out(COUNT_BITS) for counter in COUNTERS},
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.select = select = self._select
        for name in ("work", "weights"):
            wiring.connect(m, wiring.flipped(getattr(self, name)), getattr(select, name))
        for name in ("step", "unit"):
            wiring.connect(m, getattr(select, name), wiring.flipped(getattr(self, name)))
        layout = StructLayout(
            {
                "operand": operand_layout(self._config),
                "query_sum": query_sum_layout(self._config),
            }
        )
        m.submodules.queries = store = memory.Memory(
            shape=layout.size,
            depth=len(self._queries),
            init=[pack(layout, each) for each in self._queries],
        )
        port = store.read_port()
        found = layout(port.data)
        m.d.comb += [
            port.en.eq(select.read_enable),
            port.addr.eq(select.read_slot * self._config.groups + select.read_group),
            select.operand.eq(found.operand),
            select.query_sum.eq(found.query_sum),
        ]
        for counter in select.counters:
            total = Signal(COUNT_BITS, name=f"total_{counter.name}")
            m.d.sync += total.eq(total + counter.event)
            m.d.comb += getattr(self, counter.name).eq(total)
        return m


@cache
def bench() -> SideBySide:
    return SideBySide({name: WithStore(name) for name in SELECTS})


def weights(rng: random.Random, config: AttentionConfig) -> dict[str, Any]:
    """A unit's weights, a third of them extreme, and a header of random bits."""
    layout = unit_weights(config)
    found: dict[str, Any] = unpack(layout, rng.getrandbits(layout.size))
    found["weight"] = [
        [
            rng.choice((0, PROBABILITY_MAX, rng.randint(0, PROBABILITY_MAX)))
            for _ in range(config.chunk)
        ]
        for _ in range(config.rows)
    ]
    return found


def field(layout: StructLayout, name: str, item: int) -> int:
    """The bits of one field of a packed item."""
    return item >> layout[name].offset & (1 << layout[name].width) - 1


def join(layout: StructLayout, **bits: int) -> int:
    """A packed item from the bits of all its fields."""
    assert bits.keys() == layout.members.keys()
    return sum(value << layout[name].offset for name, value in bits.items())


def operands(numbers: list[list[int]]) -> int:
    """The packed operands of all rows; those that no digit meets are 0."""
    return sum(
        number << OPERAND_BITS * (row * OPERANDS + place)
        for row, each in enumerate(numbers)
        for place, number in enumerate(each)
    )


@cache
def stored(name: str, kind: StepKind, slot: int, group: int, part: int) -> tuple[int, int]:
    """What a key step meets: the packed operands and query sums."""
    config = SELECTS[name]
    found = queries(name)[slot * config.groups + group]
    channels = 16 if kind is StepKind.KEYS else 32
    met = slice(channels * part, channels * part + channels)
    sums = pack(query_sum_layout(config), found["query_sum"])
    return operands([row[met] for row in found["operand"]]), sums


def steps_of_segment(name: str, segment: Segment, unit: dict[str, Any] | None) -> list[int]:
    """The packed steps that must come out; for values the query sums are those of group 0."""
    config, kind = SELECTS[name], segment.steps.kind
    work, tag, step = work_layout(config), step_tag(config), step_layout(config)
    found = []
    for item in segment.work:
        group, part = field(work, "group", item), field(work, "part", item)
        x, sums = stored(name, kind, segment.slot, group, part)
        if unit is not None:
            x = operands(unit["weight"])
        names = ("kind", "signed", "wide", "upper", "pairs", "key")
        fields = {each: field(work, each, item) for each in names}
        found.append(
            join(
                step,
                kind=fields["kind"],
                signed=fields["signed"],
                upper=fields["upper"],
                digits=field(work, "digits", item),
                operand=x,
                tag=join(tag, query_sum=sums, **fields),
            )
        )
    return found


def play(
    segments: dict[str, list[Segment]], *, seed: int, observe: Sequence[str] = (), **options: Any
) -> Run:
    """Send segments and, for those of values, random weights; compare steps and headers."""
    rng = random.Random(seed)
    units = {
        name: [
            weights(rng, SELECTS[name]) if segment.steps.kind in VALUE_KINDS else None
            for segment in segments.get(name, [])
        ]
        for name in SELECTS
    }
    inputs: dict[str, list[int]] = {}
    outputs: dict[str, int] = {}
    for name, config in SELECTS.items():
        present = [unit for unit in units[name] if unit is not None]
        inputs[f"{name}__work"] = [x for segment in segments.get(name, []) for x in segment.work]
        inputs[f"{name}__weights"] = [pack(unit_weights(config), unit) for unit in present]
        outputs[f"{name}__step"] = len(inputs[f"{name}__work"])
        outputs[f"{name}__unit"] = len(present)
    run = simulate(
        bench(),
        name="operand_select",
        inputs=inputs,
        outputs=outputs,
        seed=seed,
        observe=observe,
        **options,
    )
    for name, sent in segments.items():
        expected = [
            step
            for segment, unit in zip(sent, units[name], strict=True)
            for step in steps_of_segment(name, segment, unit)
        ]
        for index, (got, want) in enumerate(
            zip(run.outputs[f"{name}__step"], expected, strict=True)
        ):
            if got != want:
                shape = step_layout(SELECTS[name])
                assert unpack(shape, got) == unpack(shape, want), f"{name}, step {index}"
        layout = unit_header(SELECTS[name])
        headers = [unpack(layout, item) for item in run.outputs[f"{name}__unit"]]
        assert headers == [
            {field: unit[field] for field, _ in layout} for unit in units[name] if unit is not None
        ]
    return run


def shuffled(rng: random.Random, name: str, count: int) -> list[Segment]:
    config = SELECTS[name]
    cached = Cache(config, chunks=3, tail=11, seed=rng.getrandbits(32))
    makers = (
        cached.base_keys,
        cached.tail_keys,
        cached.tail_values,
        cached.deltas,
        cached.values,
        cached.dense_keys,
        cached.dense_values,
    )
    return [
        (makers[index] if index < len(makers) else rng.choice(makers))(
            0, rng.randrange(config.jobs_in_flight)
        )
        for index in range(count)
    ]


def steps_of(segments: list[Segment], kind: StepKind) -> int:
    """How many there are; of single digits, those of deltas."""
    return sum(
        len(segment.steps.digits)
        for segment in segments
        if segment.steps.kind is kind
        and (kind is not StepKind.KEY_DIGITS or segment.kind is SegmentKind.DELTAS)
    )


def test_payload_widths() -> None:
    for name, config in SELECTS.items():
        tag = step_tag(config).size
        assert tag == 2 + 3 + 128 + 20 * config.rows + key_tag(config).size, name
        assert step_layout(config).size == 2 + 2 + 128 + 12 * 32 * config.rows + tag, name
        select = OperandSelect(config)
        assert len(select.read_slot) == slot_bits(config)
        assert len(select.read_group) == max(1, (config.groups - 1).bit_length())


@pytest.mark.parametrize("stall", [0.0, 0.5, 0.9])
def test_random_order(stall: float, seed: int) -> None:
    print(f"seed {seed}")
    rng = random.Random(seed)
    play({name: shuffled(rng, name, 9) for name in SELECTS}, stall=stall, seed=seed)


def test_dense_segments_of_both_widths() -> None:
    """Two steps a 16 channels with 16-bit codes, one with 8-bit codes; the tag says which."""
    cached = Cache(SELECTS["tiny"], chunks=3, tail=8, seed=7)
    # Slots 0 and 1 hold 8-bit and 16-bit codes: 8 tokens with 32 channels.
    makers = (cached.dense_keys, cached.dense_values)
    segments = [make(0, slot) for slot in (0, 1, 0) for make in makers]
    run = play({"tiny": segments}, seed=7)
    step, tag = step_layout(SELECTS["tiny"]), step_tag(SELECTS["tiny"])
    found = []
    for item in run.outputs["tiny__step"]:
        fields = unpack(step, item)
        inner = unpack(tag, fields["tag"])
        assert fields["signed"] == inner["signed"]
        assert fields["kind"] == inner["kind"]
        found.append((StepKind(inner["kind"]), inner["wide"], inner["signed"]))
    keys, values = StepKind.KEYS, StepKind.TAIL_VALUES
    narrow = [(keys, 0, 1)] * 16 + [(values, 0, 1)] * 16
    wide = [(keys, 1, 0), (keys, 1, 1)] * 16
    wide += [(values, 1, 0), (values, 1, 0), (values, 1, 1), (values, 1, 1)] * 8
    assert found == [*narrow, *wide, *narrow]


@pytest.mark.parametrize("stream_name", ["work", "weights", "step", "unit"])
def test_stalls_on_one_stream(stream_name: str, seed: int) -> None:
    print(f"seed {seed}")
    rng = random.Random(seed)
    stall = {f"{name}__{stream_name}": 0.9 for name in SELECTS}
    play({name: shuffled(rng, name, 7) for name in SELECTS}, stall=stall, seed=seed)


@pytest.mark.parametrize("reset_at", [7, 50])
def test_reset_in_flight(reset_at: int, seed: int) -> None:
    print(f"seed {seed}")
    rng = random.Random(seed + reset_at)
    found = {name: shuffled(rng, name, 7) for name in SELECTS}
    play(found, stall=0.2, seed=seed, reset_at=reset_at)


@pytest.mark.parametrize("name", ["tiny", "lm"])
def test_exact_cycles_and_counts(name: str) -> None:
    segments = shuffled(random.Random(1), name, 8)
    run = play({name: segments}, seed=1, observe=[f"{name}__{each}" for each in COUNTERS])
    steps = sum(len(segment.steps.digits) for segment in segments)
    # The first step is offered in cycle 1 and leaves one cycle later.
    assert run.first_output_cycle[f"{name}__step"] == 2
    assert run.cycles == 2 + steps
    counted = [run.observed[f"{name}__{each}"] for each in COUNTERS]
    assert counted == [*(steps_of(segments, kind) for kind in StepKind), 0]


def test_waiting_for_weights_is_counted(seed: int) -> None:
    print(f"seed {seed}")
    cached = Cache(SELECTS["tiny"], chunks=3, tail=1, seed=seed)
    segments = [cached.values(chunk) for chunk in range(3)]
    stall = {"tiny__weights": 0.97}
    run = play({"tiny": segments}, seed=seed, stall=stall, observe=["tiny__weight_wait"])
    steps = steps_of(segments, StepKind.VALUES)
    assert run.observed["tiny__weight_wait"] == run.cycles - 2 - steps > 0
