"""Value scales and value records of a window against the golden bytes."""

import random
from dataclasses import replace

from golden.memory_image.records import pack_chunks
from golden.reference.compress import order_window
from hw.config import preset
from hw.cores.compressor.value_closer import ValueCloser
from hw.cores.payloads import BEAT
from hw.formats import KVFormat
from tb.cores.compressor.bench import (
    closed_windows,
    header_sections,
    put_bursts,
    random_tail,
    tail_beats,
)
from tb.cores.compressor.streams import play
from tb.harness import pack


def test_a_window(seed: int) -> None:
    config = replace(preset("tiny"), window=32)
    layout = KVFormat(config)
    tail = random_tail(config, random.Random(seed), config.window)
    headers, _, values = tail_beats(tail, config)
    _, scales = header_sections(headers, config)
    order = order_window(tail.saliency, config).unflatten(-1, (-1, config.chunk)) % config.chunk
    records = pack_chunks(closed_windows(tail, config), config)
    unit = ValueCloser(config, lanes=8)
    groups = config.window // config.value_group
    sizes = {
        "scale_bursts": groups * layout.value_scale_bytes // 32,
        "record_bursts": len(order) * layout.value_bytes // 32,
    }
    played = play(
        unit,
        inputs={
            "order": [pack(unit.order.payload.shape(), one) for one in order.tolist()],
            "scales": scales,
            "codes": [pack(BEAT, {"data": beat, "error": 0, "last": 0}) for beat in values],
        },
        outputs=sizes,
        settings={
            "scale_address": 0,
            "records": (layout.value_scale_bytes + layout.delta_bytes) // 32,
        },
        seed=seed,
        first=("order", "scales"),
    )
    found = bytearray(len(records))
    for name, count in sizes.items():
        assert put_bursts(found, played.outputs[name]) == [count - 1]
    # The delta records are not its own.
    expected = bytearray(records)
    for number in range(len(order)):
        group, chunk = divmod(number, config.group_chunks)
        at = group * layout.group_bytes + layout.value_scale_bytes + chunk * layout.chunk_bytes
        expected[at : at + layout.delta_bytes] = bytes(layout.delta_bytes)
    assert found == expected
