"""Base keys in their blocks: every place that a window can have, enables, gaps."""

import random
from dataclasses import replace

import pytest

from hw.config import AttentionConfig, preset
from hw.cores.compressor.base_rows import BaseRows
from hw.cores.compressor.payloads import BASE_ITEM, BURST
from hw.formats import KVFormat
from tb.cores.compressor.bench import put_bursts
from tb.cores.compressor.streams import play
from tb.harness import pack, unpack

TINY = preset("tiny")
CONFIGS = {
    "tiny": TINY,
    "lm": preset("lm"),
    "several blocks": replace(TINY, chunk=4, window=64),
    "one key": replace(TINY, chunk=16, budget=48),
    # Parameters of a key cross a burst; codes begin in the middle of one.
    "six groups": replace(TINY, head_dim=96, chunk=4),
    "three groups": replace(TINY, head_dim=96, group=32, chunk=4, key_bits=4),
    "half a burst": replace(TINY, key_bits=4, group=32, chunk=4),
}


def first_key(config: AttentionConfig, window: int) -> tuple[int, int]:
    """Block and key of the first chunk of a window."""
    return divmod(window * config.window // config.chunk, config.chunk)


@pytest.mark.parametrize("window", [0, 1, 3])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_rows(config: AttentionConfig, window: int, seed: int) -> None:
    layout = KVFormat(config)
    rng = random.Random(seed)
    blocks = 8 * max(1, config.window // config.chunk**2)
    found, expected = (bytearray(blocks * layout.base_block_bytes) for _ in range(2))
    block, key = first_key(config, window)
    pair_bytes, code_bytes = 4 * config.groups, config.head_dim * config.key_bits // 8
    chunks = config.window // config.chunk
    items = []
    for number in range(chunks):
        at, place = divmod(key + number, config.chunk)
        start = (block + at) * layout.base_block_bytes
        pairs, codes = rng.randbytes(pair_bytes), rng.randbytes(code_bytes)
        for section, row in ((0, pairs), (layout.key_scale_bytes, codes)):
            place_at = start + section + place * len(row)
            expected[place_at : place_at + len(row)] = row
        items += [(pairs[i : i + 4] + rng.randbytes(12), 0) for i in range(0, pair_bytes, 4)]
        items += [(codes[i : i + 16], 1) for i in range(0, code_bytes, 16)]
    start = block * layout.base_block_bytes
    pair_start = start + key * pair_bytes
    code_start = start + layout.key_scale_bytes + key * code_bytes
    bursts = 0
    for number in range(chunks):
        place = (key + number) % config.chunk
        for section, size in ((0, pair_bytes), (layout.key_scale_bytes, code_bytes)):
            first = section + place * size
            bursts += (first + size - 1) // 32 - first // 32 + 1
    played = play(
        BaseRows(config),
        inputs={
            "items": [
                pack(BASE_ITEM, {"data": int.from_bytes(data, "little"), "codes": codes})
                for data, codes in items
            ]
        },
        outputs={"bursts": bursts},
        settings={"pairs": pair_start // 4, "codes": code_start // 4},
        seed=seed,
    )
    lasts = []
    for item in played.outputs["bursts"]:
        fields = unpack(BURST, item)
        lasts.append(fields["last"])
    put_bursts(found, played.outputs["bursts"])
    assert found == expected
    assert lasts == [0] * (bursts - 1) + [1]
