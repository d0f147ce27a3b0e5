"""Base keys and delta records of a window against the golden bytes."""

import random
from dataclasses import replace

import pytest

from golden.memory_image.records import pack_base_blocks, pack_chunks
from golden.reference.compress import order_window
from hw.config import preset
from hw.cores.compressor.key_closer import KeyCloser
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

TINY = preset("tiny")


def test_a_window(seed: int) -> None:
    config = TINY
    layout = KVFormat(config)
    tail = random_tail(config, random.Random(seed), config.window)
    headers, keys, _ = tail_beats(tail, config)
    pairs, _ = header_sections(headers, config)
    order = order_window(tail.saliency, config).unflatten(-1, (-1, config.chunk)) % config.chunk
    closed = closed_windows(tail, config)
    records, blocks = pack_chunks(closed, config), pack_base_blocks(closed, config)
    unit = KeyCloser(config, lanes=8)
    chunks = len(order)
    played = play(
        unit,
        inputs={
            "order": [pack(unit.order.payload.shape(), one) for one in order.tolist()],
            "pairs": pairs,
            "codes": [pack(BEAT, {"data": beat, "error": 0, "last": 0}) for beat in keys],
        },
        outputs={"base_bursts": 2 * chunks, "delta_bursts": chunks * layout.delta_bytes // 32},
        settings={
            "base_pairs": 0,
            "base_codes": layout.key_scale_bytes // 4,
            "deltas": layout.value_scale_bytes // 32,
        },
        seed=seed,
        first=("order", "pairs"),
    )
    base, chunk = bytearray(len(blocks)), bytearray(len(records))
    assert put_bursts(base, played.outputs["base_bursts"]) == [2 * chunks - 1]
    bursts = played.outputs["delta_bursts"]
    assert put_bursts(chunk, bursts) == [len(bursts) - 1]
    assert base == blocks
    for number in range(chunks):
        at = layout.value_scale_bytes + number * layout.chunk_bytes
        place = slice(at, at + layout.delta_bytes)
        assert chunk[place] == records[place]


def test_a_mask_for_a_chunk_is_refused() -> None:
    with pytest.raises(ValueError, match="mask_scope must be 'token' to close windows, not 'chunk"):
        KeyCloser(replace(TINY, mask_scope="chunk"), lanes=8)
