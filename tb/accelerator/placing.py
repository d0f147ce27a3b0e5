"""Puts the caches of golden data into pages, each in the channel of its slice."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from golden.memory_image.bundle import Arrays
from golden.memory_image.image import MemoryImage, Placement
from golden.memory_image.job import JobDescriptor
from golden.memory_image.pages import PagedImage, pack_system_job
from hw.accelerator_config import AcceleratorConfig
from hw.config import AttentionConfig
from hw.formats import Mode, Status, job_fields
from hw.placement import home_slice


@dataclass(frozen=True)
class Placed:
    """The jobs of a system, and a paged channel per slice."""

    jobs: list[int]
    channels: list[PagedImage]

    def contents(self, channel: int) -> bytes:
        """The bytes of a channel from address 0 to its last page in use."""
        pages = self.channels[channel].contents()
        fill = bytes([self.channels[channel].fill])
        image = bytearray()
        for address, content in pages.items():
            image += fill * (address - len(image)) + content
        return bytes(image)


def of_system(data: Arrays) -> Arrays:
    """Golden arrays of a core as those of a system, whose jobs have no addresses to refuse.

    A job that a core refuses for one names a sequence that does not live.
    """
    status = data["status"]
    return data | {"status": np.where(status == Status.ADDRESS_RANGE, Status.NO_SEQUENCE, status)}


def place_jobs(config: AcceleratorConfig, data: Arrays) -> Placed:
    """Give every cache a sequence, so that no two share a layer and KV head, and allocate pages.

    Parameters
    ----------
    config
        The accelerator's.
    data
        Golden arrays of its core, see ``golden.workload``.

    Raises
    ------
    ConfigError
        There are more caches of one KV head than sequences.
    PagesError
        There are not enough pages.
    """
    core = config.mmu.attention
    image = MemoryImage(core)
    image.data = bytearray(data["image"].tobytes())
    channels = [PagedImage(config.mmu) for _ in range(config.slices)]
    living: list[set[int]] = [set() for _ in channels]
    sequences: dict[tuple[int, int, Placement], int] = {}
    used: dict[tuple[int, int], int] = {}
    jobs = []
    for number, packed in enumerate(data["job"]):
        job = unpack_job(core, int.from_bytes(packed.tobytes(), "little"))
        where = (job.layer, job.kv_head)
        if Status(int(data["status"][number])).refused:
            # Of a sequence that does not live.
            jobs.append(pack_system_job(job, config.mmu.sequences - 1, config.mmu))
            continue
        placement = Placement(
            context=job.context,
            base_address=job.base_address,
            chunk_address=job.chunk_address,
            tail_address=job.tail_address,
            mode=Mode(job.mode),
        )
        key = (*where, placement)
        if key not in sequences:
            sequence = sequences[key] = used.get(where, 0)
            used[where] = sequence + 1
            home = home_slice(sequence, *where, config.slices)
            if sequence not in living[home]:
                channels[home].create(sequence)
                living[home].add(sequence)
            channels[home].place(
                image, placement, sequence=sequence, layer=job.layer, kv_head=job.kv_head
            )
        jobs.append(pack_system_job(job, sequences[key], config.mmu))
    return Placed(jobs, channels)


def unpack_job(config: AttentionConfig, packed: int) -> JobDescriptor:
    """The descriptor of the core with this payload."""
    rest = packed
    fields: dict[str, int] = {}
    for name, bits in job_fields(config).items():
        fields[name] = rest & ((1 << bits) - 1)
        rest >>= bits
    scales = fields.pop("query_scale")
    return JobDescriptor(
        **fields,
        query_scale=tuple(scales >> 16 * row & 0xFFFF for row in range(config.rows)),
    )
