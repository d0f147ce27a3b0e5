"""Streams of the KV-MMU: commands, jobs, owners (docs/kv_mmu.md)."""

from amaranth.hdl import unsigned
from amaranth.lib import data

from hw.memory.kv_mmu.config import MmuConfig
from hw.memory.kv_mmu.formats import (
    COMMAND_FIELDS,
    REPLY_FIELDS,
    SYSTEM_PROMPT_FIELDS,
    Region,
    system_job_fields,
)

#: Bits of the tags of the writer of pages.
WRITE_TAG_BITS = 2

COMMAND = data.StructLayout({name: unsigned(bits) for name, bits in COMMAND_FIELDS.items()})
REPLY = data.StructLayout({name: unsigned(bits) for name, bits in REPLY_FIELDS.items()})
#: A prompt that names a sequence.
SYSTEM_PROMPT = data.StructLayout(
    {name: unsigned(bits) for name, bits in SYSTEM_PROMPT_FIELDS.items()}
)


def system_job_layout(config: MmuConfig) -> data.StructLayout:
    """The job descriptor that names a sequence."""
    fields = system_job_fields(config.attention)
    return data.StructLayout({name: unsigned(bits) for name, bits in fields.items()})


def place_layout(config: MmuConfig) -> data.StructLayout:
    """What a page is for: the key of the one table entry that may name it."""
    return data.StructLayout(
        {
            "sequence": config.sequence_bits,
            "layer": config.layer_bits,
            "kv_head": config.head_bits,
            "region": Region,
            "index": config.index_bits,
        }
    )


def layer_change(config: MmuConfig) -> data.StructLayout:
    """A change of the layer map, for one cycle with ``enable``."""
    bits = config.layer_bits
    return data.StructLayout({"enable": 1, "layer": bits, "kv_layer": bits})


def page_check(config: MmuConfig) -> data.StructLayout:
    """The question whether a page was given out for a place, for one cycle with ``enable``."""
    return data.StructLayout({"enable": 1, "page": config.page_bits, "place": place_layout(config)})


def owner_layout(config: MmuConfig) -> data.StructLayout:
    """A change of a page's owner, for one cycle with ``enable``."""
    return data.StructLayout(
        {
            "enable": 1,
            "page": config.page_bits,
            "allocated": 1,
            "sequence": config.sequence_bits,
        }
    )


def table_load(config: MmuConfig) -> data.StructLayout:
    """A page for a job slot, for one cycle with ``enable``."""
    return data.StructLayout(
        {
            "enable": 1,
            "slot": range(config.slots),
            "region": Region,
            "index": config.index_bits,
            "page": config.page_bits,
        }
    )


def slot_layout(config: MmuConfig) -> data.StructLayout:
    """Whose job is in a slot, and how many pages of each region it may access.

    With a slot area, ``direct`` tells that these are no pages but parts of a place there, that of
    the sequence and ``cache``.
    """
    most = max(config.most_pages, config.slot_area.pages)
    pages = data.ArrayLayout(range(most + 1), len(Region))
    of_area = {"direct": 1, "cache": config.cache_bits} if config.has_slot_area else {}
    return data.StructLayout({"sequence": config.sequence_bits, "pages": pages, **of_area})
