"""Bit fields of the KV-MMU: addresses, table entries, commands, the job of a system.

Sizes and field positions only, no Amaranth: the twin shares this file.
"""

from enum import IntEnum

from hw.config import AttentionConfig
from hw.formats import job_fields

#: A table entry: the page in the low bits, and whether there is one in the top bit.
ENTRY_BYTES = 4
ENTRY_VALID_BIT = 8 * ENTRY_BYTES - 1
#: Bits of the largest page number.
PAGE_BITS = 20

#: A core's address: byte offset in the region, region, job slot.
OFFSET_BITS = 26
REGION_BITS = 2
SLOT_BITS = 4


class Region(IntEnum):
    """Regions of a job, each contiguous in virtual space; their names are `region_bytes`' keys."""

    BASE = 0
    CHUNK = 1
    #: Tail blocks; in the dense modes the dense blocks.
    TAIL = 2


class Opcode(IntEnum):
    """What a command asks of the MMU."""

    #: Let ``sequence`` live.
    CREATE = 0
    #: Map a fresh page at (``sequence``, ``layer``, ``kv_head``, ``region``, ``index``).
    ALLOCATE = 1
    #: End ``sequence``: all its pages are free again.
    FREE = 2
    #: Say which page is mapped there.
    LOOKUP = 3
    #: Let jobs of ``layer`` read the cache of layer ``index``.
    SET_LAYER = 4


class CommandStatus(IntEnum):
    """How a command ended; all but ``OK`` changed nothing."""

    OK = 0
    #: No such opcode.
    OPCODE = 1
    #: A number of the command is too large.
    RANGE = 2
    SEQUENCE_EXISTS = 3
    NO_SEQUENCE = 4
    #: A job of the sequence is in flight.
    BUSY = 5
    #: There is a page already; ``value`` names it.
    ALREADY_MAPPED = 6
    NOT_MAPPED = 7
    OUT_OF_PAGES = 8
    #: The memory refused to read or write the table.
    TABLE_ERROR = 9


class Violation(IntEnum):
    """Why an access was refused."""

    NONE = 0
    #: Behind the pages of the region, over the end of a page, or of a slot without a job.
    BOUNDS = 1
    #: The page does not belong to the job's sequence.
    OWNER = 2


#: Fields of a command and their bits, least significant first.
COMMAND_FIELDS = {
    "opcode": 8,
    "sequence": 8,
    "layer": 8,
    "kv_head": 8,
    "region": 8,
    "index": 16,
}
#: ``value``: the page (ALLOCATE, LOOKUP, ALREADY_MAPPED), the pages returned (FREE), else 0.
REPLY_FIELDS = {"status": 8, "value": 24}


def system_job_fields(config: AttentionConfig) -> dict[str, int]:
    """The job descriptor with a sequence in the place of the three addresses."""
    fields: dict[str, int] = {}
    for name, bits in job_fields(config).items():
        if name == "base_address":
            fields["sequence"] = 8
        elif name not in ("chunk_address", "tail_address"):
            fields[name] = bits
    return fields


#: Fields of a prompt of a system and their bits, least significant first. ``source_address`` counts
#: from the start of the staging area.
SYSTEM_PROMPT_FIELDS = {
    "source_address": 32,
    "sequence": 8,
    "layer": 8,
    "kv_head": 8,
    "first": 16,
    "tokens": 16,
    "mode": 8,
}


def virtual_address(slot: int, region: Region, offset: int = 0) -> int:
    """The address that the core of job slot ``slot`` uses."""
    return (slot << REGION_BITS | region) << OFFSET_BITS | offset


def pack_entry(page: int | None) -> int:
    """A table entry: a page, or none."""
    return 0 if page is None else 1 << ENTRY_VALID_BIT | page


def unpack_entry(entry: int) -> int | None:
    """The page of a table entry whose reserved bits are zero, else None."""
    valid = entry >> PAGE_BITS == 1 << (ENTRY_VALID_BIT - PAGE_BITS)
    return entry & ((1 << PAGE_BITS) - 1) if valid else None
