"""Records side by side: every bit, the padding, addresses, ends, back-pressure, a reset, pace."""

import random

import pytest

from hw.cores.compressor.payloads import BURST
from hw.cores.compressor.record_packer import RecordPacker
from tb.cores.compressor.streams import Played, play
from tb.harness import unpack

#: Element bits, elements, records: deltas, values, value scales, records that end with a burst.
SHAPES = {
    "deltas": (80, 14, 1),
    "values": (25, 64, 4),
    "small values": (13, 32, 16),
    "scales": (32, 64, 1),
    "whole": (64, 8, 2),
    "wide": (224, 7, 1),
}
GROUPS = 3


def bursts_of(shape: str) -> int:
    bits, elements, _ = SHAPES[shape]
    return -(-bits * elements // 256)


def run(shape: str, items: list[int], **options: object) -> Played:
    bits, elements, records = SHAPES[shape]
    count = bursts_of(shape)
    packer = RecordPacker(
        element_bits=bits,
        elements=elements,
        records=records,
        loops=[(records, 1000), (count, 1), (GROUPS, 20000)],
    )
    return play(
        packer,
        inputs={"elements": items},
        outputs={"bursts": GROUPS * records * count},
        settings={"address": 77},
        **options,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("reset_at", [None, 60])
@pytest.mark.parametrize("shape", SHAPES)
def test_records(shape: str, reset_at: int | None, seed: int) -> None:
    bits, elements, records = SHAPES[shape]
    rng = random.Random(seed)
    items = [rng.getrandbits(bits) for _ in range(GROUPS * elements * records)]
    played = run(shape, items, seed=seed, reset_at=reset_at)
    expected = []
    count = bursts_of(shape)
    for group in range(GROUPS):
        of_group = items[group * elements * records : (group + 1) * elements * records]
        packed = [
            sum(item << bits * i for i, item in enumerate(of_group[record::records]))
            for record in range(records)
        ]
        expected += [
            {
                "address": 77 + group * 20000 + number + 1000 * record,
                "data": packed[record] >> 256 * number & ((1 << 256) - 1),
                "enable": 0xFFFF,
                "record": record,
                "end": int(number == count - 1),
                "last": int(group == GROUPS - 1 and number == count - 1 and record == records - 1),
            }
            for number in range(count)
            for record in range(records)
        ]
    assert [unpack(BURST, item) for item in played.outputs["bursts"]] == expected


@pytest.mark.parametrize("shape", SHAPES)
def test_pace(shape: str) -> None:
    """An element a cycle, and a cycle for the rest of each record."""
    bits, elements, records = SHAPES[shape]
    rest = bits * elements % 256 != 0
    played = run(shape, [0] * (GROUPS * elements * records), stall=0.0)
    assert played.cycles == GROUPS * records * (elements + rest) + 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"element_bits": 0}, "element_bits must be from 1 to 256, not 0"),
        ({"element_bits": 257}, "element_bits must be from 1 to 256, not 257"),
        ({"elements": 0}, "elements and records must be at least 1, not 0, 1"),
        ({"records": 0}, "elements and records must be at least 1, not 8, 0"),
    ],
)
def test_illegal_parameters(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RecordPacker(**({"element_bits": 8, "elements": 8, "records": 1} | options), loops=[(1, 1)])
