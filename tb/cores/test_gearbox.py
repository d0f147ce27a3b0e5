"""The gearbox: packed records of many widths, stalls, resets, exact throughput."""

from __future__ import annotations

import random
from functools import cache

import pytest

from hw.config import BEAT_BITS
from hw.cores.gearbox import Gearbox
from hw.cores.payloads import BEAT
from tb.cores.side_by_side import SideBySide
from tb.harness import pack, simulate

#: ``element_bits``, ``elements``: the delta and value elements of the presets, and extremes.
CASES = {
    "delta_lm": (80, 14),
    "delta_tiny": (56, 14),
    "values": (100, 16),
    "beat": (128, 3),
    "bit": (1, 130),
    "odd": (127, 5),
    "nibble": (4, 70),
    "single": (16, 1),
    "single_beat": (128, 1),
    "delta_group64": (136, 15),
    "delta_most": (160, 9),
    "two_beats": (256, 3),
    "longer_than_a_record": (300, 1),
}


@cache
def bench() -> SideBySide:
    return SideBySide(
        {name: Gearbox(element_bits=bits, elements=count) for name, (bits, count) in CASES.items()}
    )


class Records:
    """Random records of one case: their beats, and the elements that must come out."""

    def __init__(self, name: str, rng: random.Random, count: int) -> None:
        bits, elements = CASES[name]
        self.beats: list[int] = []
        self.elements: list[int] = []
        for _ in range(count):
            record = [
                rng.choice((0, (1 << bits) - 1, rng.getrandbits(bits))) for _ in range(elements)
            ]
            self.elements += [
                element | (index == elements - 1) << bits for index, element in enumerate(record)
            ]
            packed = sum(element << index * bits for index, element in enumerate(record))
            size = -(-bits * elements // BEAT_BITS)
            # Padding must play no part, so it is not zero here.
            packed |= rng.getrandbits(size * BEAT_BITS) >> bits * elements << bits * elements
            self.beats += [
                pack(
                    BEAT,
                    {
                        "data": packed >> index * BEAT_BITS & (1 << BEAT_BITS) - 1,
                        "error": rng.getrandbits(1),
                        "last": index == size - 1,
                    },
                )
                for index in range(size)
            ]


def play(records: dict[str, Records], **options: object) -> int:
    """Send records and compare the elements; return the cycles."""
    none: list[int] = []
    beats = {name: records[name].beats if name in records else none for name in CASES}
    elements = {name: records[name].elements if name in records else none for name in CASES}
    run = simulate(
        bench(),
        name="gearbox",
        inputs={f"{name}__beats": each for name, each in beats.items()},
        outputs={f"{name}__elements": len(each) for name, each in elements.items()},
        **options,  # type: ignore[arg-type]
    )
    for name, each in elements.items():
        assert run.outputs[f"{name}__elements"] == each, name
    return run.cycles


def random_records(rng: random.Random, count: int) -> dict[str, Records]:
    return {name: Records(name, rng, count) for name in CASES}


@pytest.mark.parametrize("bits", [0, -4])
def test_illegal_element_bits(bits: int) -> None:
    with pytest.raises(ValueError, match=f"element_bits must be at least 1, not {bits}"):
        Gearbox(element_bits=bits, elements=4)


@pytest.mark.parametrize("elements", [0, -1])
def test_illegal_elements(elements: int) -> None:
    with pytest.raises(ValueError, match=f"elements must be at least 1, not {elements}"):
        Gearbox(element_bits=16, elements=elements)


@pytest.mark.parametrize("bits", [1, 80, 128, 160])
def test_element_width(bits: int) -> None:
    assert Gearbox(element_bits=bits, elements=2).elements.payload.shape().size == bits + 1


@pytest.mark.parametrize("stall", [0.0, 0.5, 0.9])
def test_records(stall: float, seed: int) -> None:
    print(f"seed {seed}")
    play(random_records(random.Random(seed), 12), stall=stall, seed=seed)


@pytest.mark.parametrize("side", ["beats", "elements"])
def test_stalls_on_one_side(side: str, seed: int) -> None:
    print(f"seed {seed}")
    stall = {f"{name}__{side}": 0.7 for name in CASES}
    play(random_records(random.Random(seed + 1), 6), stall=stall, seed=seed)


@pytest.mark.parametrize("reset_at", [2, 17])
def test_reset_in_flight(reset_at: int, seed: int) -> None:
    print(f"seed {seed}")
    records = random_records(random.Random(seed + reset_at), 4)
    play(records, stall=0.3, seed=seed, reset_at=reset_at)


@pytest.mark.parametrize(
    ("total", "names"),
    [
        (910, ("delta_lm", "delta_tiny", "bit", "odd", "nibble", "single", "single_beat")),
        (912, ("values", "beat")),
    ],
)
def test_an_element_in_every_cycle(total: int, names: tuple[str, ...]) -> None:
    rng = random.Random(total)
    records = {name: Records(name, rng, total // CASES[name][1]) for name in names}
    assert {len(each.elements) for each in records.values()} == {total}
    # The first beat is offered in cycle 1, its first element comes one cycle later.
    assert play(records) == 2 + total


@pytest.mark.parametrize("name", ["delta_group64", "delta_most", "two_beats"])
def test_a_beat_in_every_cycle(name: str) -> None:
    """Elements wider than a beat: the beats set the pace, also from record to record."""
    records = {name: Records(name, random.Random(5), 8)}
    # The last beat is taken in cycle n; its element comes one cycle later.
    assert play(records) == 2 + len(records[name].beats)
