"""What a closing window reads: every byte once, in an order that keeps keys and values busy."""

from dataclasses import replace

import pytest

from hw.config import AttentionConfig, preset
from hw.cores.compressor.read_plan import PLANNED, ReadPlan, Section
from hw.formats import KVFormat
from tb.cores.compressor.streams import play
from tb.harness import unpack

TINY = preset("tiny")
CONFIGS = {
    "tiny": TINY,
    "lm": preset("lm"),
    "paper": preset("paper"),
    "more keys than tiles": replace(TINY, chunk=4, window=64, value_group=64),
    "three tiles": replace(TINY, head_dim=96, group=32, tail_value_bits=8, window=64),
    "one chunk": replace(TINY, chunk=16, budget=48, window=32),
}
TAIL = 0x4000


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_order(config: AttentionConfig, seed: int) -> None:
    layout = KVFormat(config)
    chunks, per_group = config.window // config.chunk, config.group_chunks
    tiles = config.head_dim // layout.value_tile_channels
    groups = chunks // per_group
    count = chunks * (2 + tiles)
    played = play(
        ReadPlan(config),
        inputs={},
        outputs={"segments": count},
        settings={"address": TAIL // 32},
        stall=0.2,
        seed=seed,
    )
    found = {Section.HEADER: [], Section.KEYS: [], Section.VALUES: []}  # type: ignore[var-annotated]
    for item in played.outputs["segments"]:
        fields = unpack(PLANNED, item)
        section = Section(fields["section"])
        found[section].append((fields["segment"]["address"], fields["segment"]["bursts"]))
        headers, keys, values = (len(found[section]) for section in Section)
        # Headers go ahead of what needs them.
        assert headers >= min(chunks, keys)
        assert headers >= min(chunks, (-(-values // (per_group * tiles))) * per_group)
        # Keys keep pace with values: both are read to the same share, give or take a chunk.
        if section == Section.VALUES and values % per_group == 0:
            assert abs(keys - values / (tiles * groups * per_group) * chunks) <= max(
                1, per_group / tiles
            )
    block = layout.tail_block_bytes
    starts = [TAIL + number * block for number in range(chunks)]
    assert found[Section.HEADER] == [(at, layout.tail_header_bytes // 32) for at in starts]
    assert found[Section.KEYS] == [
        (at + layout.tail_header_bytes, layout.key_code_bytes // 32) for at in starts
    ]
    assert found[Section.VALUES] == [
        (at + layout.tail_key_bytes + tile * config.chunk * 32, config.chunk)
        for group in range(groups)
        for tile in range(tiles)
        for at in starts[group * per_group : (group + 1) * per_group]
    ]
