"""MmuConfig: legal values, and where tables and pages lie."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, cast

import pytest

from hw.config import ConfigError, preset
from hw.formats import KVFormat, Mode, modes
from hw.memory.kv_mmu.config import MmuConfig
from hw.memory.kv_mmu.formats import Region, pack_entry, unpack_entry, virtual_address

WITH_SLOTS = replace(preset("tiny"), slots=40, slot_caches=64)
TINY = MmuConfig(attention=preset("tiny"), page_bytes=1024)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("sequences", 1, "sequences must be an integer from 2 to 64, not 1"),
        ("sequences", 65, "sequences must be an integer from 2 to 64, not 65"),
        ("sequences", True, "sequences must be an integer from 2 to 64, not True"),
        ("page_bytes", 512, "page_bytes must be a power of two from 1024 to 65536, not 512"),
        ("page_bytes", 3072, "page_bytes must be a power of two from 1024 to 65536, not 3072"),
        ("page_bytes", 1 << 17, "page_bytes must be a power of two from 1024 to 65536, not 131072"),
        ("pages", 1, "pages must be an integer from 2 to 1048576, not 1"),
        ("pages", (1 << 20) + 1, "pages must be an integer from 2 to 1048576, not 1048577"),
        (
            "channel_bytes",
            1 << 33,
            "channel_bytes must be an integer from 4096 to 4294967296 and a multiple of 4096, "
            "not 8589934592",
        ),
        (
            "table_address",
            1024,
            "table_address must be an integer from 0 to 4294967296 and a multiple of 4096, "
            "not 1024",
        ),
        (
            "page_address",
            512,
            "page_address must be an integer from 0 to 4294967296 and a multiple of 1024, not 512",
        ),
        ("page_address", 1024, "page_address must keep the pages off the tables (0x0 to 0x"),
        ("channel_bytes", 4096, "tables must end within channel_bytes 4096, not at"),
        ("channel_bytes", 1 << 20, "pages must end within channel_bytes 1048576, not at"),
    ],
)
def test_illegal_values(field: str, value: int, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        replace(TINY, **cast(dict[str, Any], {field: value}))


def test_the_slot_area_lies_behind_everything_else() -> None:
    """A place for each number of a cache, on a multiple of its own size; and no page."""
    config = replace(TINY, attention=WITH_SLOTS, writes=True, staging_bytes=1 << 12)
    area = config.slot_area
    assert area.address >= config.staging_address + config.staging_bytes
    size = KVFormat(WITH_SLOTS).region_bytes(40, Mode.SLOTS)["tail"]
    assert (area.pages - 1) * 1024 < size == 4480 <= area.pages * 1024 <= area.stride == 8192
    core = config.attention
    places = [
        config.place_address(sequence, layer, head)
        for sequence in range(config.sequences)
        for layer in range(core.layers)
        for head in range(core.kv_heads)
    ]
    assert places == [area.address + 8192 * i for i in range(64)]
    assert area.address % 8192 == 0
    assert config.pages_of(40, Mode.SLOTS) == dict.fromkeys(Region, 0)
    # It costs the tables nothing, and is nothing where the core does not write or has no slots.
    assert config.entries == replace(TINY, writes=True).entries
    for other in (replace(TINY, writes=True), replace(TINY, attention=WITH_SLOTS)):
        assert (other.slot_area.pages, other.slot_area.bytes) == (0, 0)
    assert replace(TINY, attention=WITH_SLOTS).pages_of(40, Mode.SLOTS)[Region.TAIL] == 5
    # Every place starts a page at least.
    assert replace(config, page_bytes=65536, pages=2).slot_area.stride == 65536


def test_a_slot_area_that_does_not_fit() -> None:
    config = replace(TINY, attention=WITH_SLOTS, writes=True)
    end = config.slot_area.address + config.slot_area.bytes
    replace(config, channel_bytes=end)
    message = f"slots must end within channel_bytes {end - 4096}, not at {end}"
    with pytest.raises(ConfigError, match=message):
        replace(config, channel_bytes=end - 4096)
    with pytest.raises(ConfigError, match="slot_caches must be at least 64, one of each sequence"):
        replace(config, attention=replace(WITH_SLOTS, slot_caches=63))


@pytest.mark.parametrize("name", ["tiny", "lm", "paper", "paper-gqa"])
@pytest.mark.parametrize("page_bytes", [1024, 4096, 65536])
def test_tables_hold_every_context(name: str, page_bytes: int) -> None:
    attention = preset(name)
    config = MmuConfig(attention=attention, page_bytes=page_bytes, sequences=2, pages=64)
    for context in {*range(1, 2 * attention.window + 2), attention.max_context}:
        for mode in modes(attention):
            sizes = KVFormat(attention).region_bytes(context, mode)
            for region, pages in config.pages_of(context, mode).items():
                size = sizes[region.name.lower()]
                assert (pages - 1) * page_bytes < size <= pages * page_bytes or size == pages == 0
                assert pages <= config.region_entries(region)


def test_entries_have_places_of_their_own() -> None:
    core = TINY.attention
    addresses = [
        TINY.entry_address(sequence, layer, head, region, index)
        for sequence in range(TINY.sequences)
        for layer in range(core.layers)
        for head in range(core.kv_heads)
        for region in Region
        for index in range(TINY.region_entries(region))
    ]
    assert len(set(addresses)) == len(addresses)
    assert all(address % 4 == 0 and address < TINY.table_bytes for address in addresses)
    # A region starts on a burst.
    assert all(TINY.entry_address(1, 2, 1, region, 0) % 32 == 0 for region in Region)
    assert TINY.first_page >= TINY.table_bytes


def test_formats() -> None:
    assert [unpack_entry(pack_entry(page)) for page in (None, 0, 5)] == [None, 0, 5]
    # An entry with anything in its reserved bits names no page.
    assert [unpack_entry(word) for word in (0x0000_0007, 0x8010_0007, 0xC000_0007)] == [None] * 3
    assert unpack_entry(0x800F_FFFF) == 0xF_FFFF
    assert virtual_address(8, Region.TAIL, 32) == 0x8800_0020
