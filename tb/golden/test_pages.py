"""Paged images: every byte of a cache is found through the twin's pages, and nowhere else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from golden.memory_image import JobDescriptor, MemoryImage
from golden.memory_image.image import Placement
from golden.memory_image.pages import PagedImage, PagesError, pack_system_job
from golden.twin.kv_mmu import Command, KvMmuTwin
from hw.config import preset
from hw.formats import KVFormat, Mode, Status
from hw.memory.kv_mmu.config import MmuConfig
from hw.memory.kv_mmu.formats import (
    Opcode,
    Region,
    Violation,
    system_job_fields,
    virtual_address,
)

TINY = preset("tiny")
CONFIG = MmuConfig(attention=TINY, page_bytes=1024, pages=64, sequences=4)


def image_of(context: int, seed: int) -> tuple[MemoryImage, Placement]:
    """An image with the regions of one cache; their bytes tell their place."""
    image = MemoryImage(TINY)
    sizes = KVFormat(TINY).region_bytes(context)
    starts: dict[str, Any] = {}
    for name, size in sizes.items():
        starts[f"{name}_address"] = len(image.data)
        image.data += bytes((seed + 7 * i + i // 256) % 251 for i in range(size))
    return image, Placement(context=context, **starts)


def test_every_byte_is_found() -> None:
    paged = PagedImage(CONFIG)
    caches = {}
    for sequence in (0, 3):
        paged.create(sequence)
        for head in (0, 1):
            context = 100 + 30 * head + sequence
            image, placement = image_of(context, 10 * sequence + head)
            paged.place(image, placement, sequence=sequence, layer=2, kv_head=head)
            caches[sequence, head] = image, placement
    contents = paged.contents()
    used = sum(sum(CONFIG.pages_of(p.context).values()) for _, p in caches.values())
    assert len(contents) == used == CONFIG.pages - paged.twin.free_pages
    for (sequence, head), (image, placement) in caches.items():
        status, grant = paged.twin.start_job(sequence, 2, head, placement.context)
        assert status == Status.OK
        for name, size in KVFormat(TINY).region_bytes(placement.context).items():
            start = getattr(placement, f"{name}_address")
            for offset in range(0, size, 32):
                address = virtual_address(1, Region[name.upper()], offset)
                physical = paged.twin.access(grant, address, 1)
                base = physical - physical % CONFIG.page_bytes
                found = contents[base][physical - base : physical - base + 32]
                assert found == image.data[start + offset : start + offset + 32]


def test_caches_of_constant_size_have_places() -> None:
    """Each has its own, behind everything else, without a page; only of a sequence that lives."""
    core = replace(TINY, slots=64, slot_caches=64)
    config = replace(CONFIG, attention=core, writes=True, staging_bytes=1 << 12)
    area, size = config.slot_area, KVFormat(core).region_bytes(64, Mode.SLOTS)["tail"]
    paged, image = PagedImage(config), MemoryImage(core)
    caches = {}
    for number, (sequence, head) in enumerate(((0, 0), (0, 1), (3, 0))):
        placement = Placement(64, 0, 0, len(image.data), Mode.SLOTS)
        image.data += bytes((number + 7 * i + i // 256) % 251 for i in range(size))
        caches[sequence, head] = placement
        if not head:
            with pytest.raises(PagesError, match=rf"sequence {sequence} live"):
                paged.place(image, placement, sequence=sequence, layer=2, kv_head=head)
            paged.create(sequence)
        paged.place(image, placement, sequence=sequence, layer=2, kv_head=head)
        with pytest.raises(PagesError, match=r"place 0x\w+ must be free"):
            paged.place(image, placement, sequence=sequence, layer=2, kv_head=head)
    assert paged.twin.free_pages == config.pages
    for (sequence, head), placement in caches.items():
        status, grant = paged.twin.start_job(sequence, 2, head, 64, Mode.SLOTS)
        assert status == Status.OK
        for offset in range(0, size, 32):
            found = paged.twin.access(grant, virtual_address(1, Region.TAIL, offset), 1)
            start = config.place_address(sequence, 2, head)
            assert found == start + offset
            there = paged.contents()[start][offset : offset + 32]
            assert there == image.data[placement.tail_address + offset :][:32]
        end = area.pages * config.page_bytes
        assert start + end <= area.address + area.bytes == area.address + (32 << 13)
        for region, offset in ((Region.TAIL, end), (Region.BASE, 0), (Region.CHUNK, 0)):
            address = virtual_address(1, region, offset)
            assert paged.twin.access(grant, address, 1) == Violation.BOUNDS


def test_the_commands_alone_make_the_same_state() -> None:
    paged = PagedImage(CONFIG)
    paged.create(1)
    paged.place(*image_of(90, 1), sequence=1, layer=0, kv_head=0)
    twin = KvMmuTwin(CONFIG)
    assert [twin.command(command) for command in paged.commands] == paged.replies
    assert twin.table == paged.twin.table


def test_a_command_that_would_fail() -> None:
    paged = PagedImage(CONFIG)
    message = r"sequence=1.* must be answered OK, not NO_SEQUENCE"
    with pytest.raises(PagesError, match=message):
        paged.place(*image_of(90, 1), sequence=1, layer=0, kv_head=0)


def test_numbers_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="index must have 16 bits, not 0x10000"):
        Command(opcode=Opcode.ALLOCATE, index=1 << 16).pack()


def test_system_job() -> None:
    job = JobDescriptor(
        job_id=5,
        config_hash=TINY.config_hash,
        layer=3,
        kv_head=1,
        mode=0,
        context=77,
        base_address=0,
        chunk_address=0,
        tail_address=0,
        value_scale=9,
        query_scale=(1, 2),
    )
    payload = pack_system_job(job, 3, CONFIG)
    got = {}
    for name, bits in system_job_fields(TINY).items():
        got[name] = payload & ((1 << bits) - 1)
        payload >>= bits
    assert payload == 0
    assert (got["sequence"], got["context"], got["query_scale"]) == (3, 77, 2 << 16 | 1)
    assert list(got)[5:8] == ["context", "sequence", "value_scale"]
    with pytest.raises(ValueError, match="sequence must have 8 bits, not 0x100"):
        pack_system_job(job, 256, CONFIG)
