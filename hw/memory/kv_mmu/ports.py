"""Streams of the KV-MMU: memory clients, commands, jobs, owners (docs/kv_mmu.md)."""

from amaranth.hdl import unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import BEAT_BITS, BEAT_BYTES, BURST_BYTES
from hw.memory.kv_mmu.config import MmuConfig
from hw.memory.kv_mmu.formats import COMMAND_FIELDS, REPLY_FIELDS, Region, system_job_fields
from hw.memory.port import ADDRESS_BITS, BURSTS_LESS_ONE_BITS, REQUEST_BURSTS

#: Beats of a burst, and bits of the number of a beat within a request.
BURST_BEATS = BURST_BYTES // BEAT_BYTES
BEAT_INDEX_BITS = (REQUEST_BURSTS * BURST_BEATS - 1).bit_length()


def client_request(tag_bits: int) -> data.StructLayout:
    """A request: byte address (burst-aligned), bursts less one, tag."""
    return data.StructLayout(
        {"address": ADDRESS_BITS, "bursts_less_one": BURSTS_LESS_ONE_BITS, "tag": tag_bits}
    )


def client_response(tag_bits: int) -> data.StructLayout:
    """One beat of an answer: data, request's tag, which of its beats, whether it was refused."""
    return data.StructLayout(
        {"data": BEAT_BITS, "tag": tag_bits, "beat": BEAT_INDEX_BITS, "error": 1}
    )


def read_client(tag_bits: int) -> wiring.Signature:
    """The memory port from the requester's side; the beats of an answer come in any order."""
    return wiring.Signature(
        {
            "request": Out(stream.Signature(client_request(tag_bits))),
            "response": In(stream.Signature(client_response(tag_bits))),
        }
    )


#: One beat of a write, and per byte whether it is written.
WRITE_DATA = data.StructLayout({"data": BEAT_BITS, "enable": BEAT_BYTES})


#: Bits of the tags of the writer of pages.
WRITE_TAG_BITS = 2


def written_layout(tag_bits: int) -> data.StructLayout:
    """The end of a write: its tag, and whether the memory refused it."""
    return data.StructLayout({"tag": tag_bits, "error": 1})


def write_client(tag_bits: int) -> wiring.Signature:
    """The write port from the requester's side: requests, their beats in order, their ends."""
    return wiring.Signature(
        {
            "request": Out(stream.Signature(client_request(tag_bits))),
            "data": Out(stream.Signature(WRITE_DATA)),
            "written": In(stream.Signature(written_layout(tag_bits))),
        }
    )


COMMAND = data.StructLayout({name: unsigned(bits) for name, bits in COMMAND_FIELDS.items()})
REPLY = data.StructLayout({name: unsigned(bits) for name, bits in REPLY_FIELDS.items()})


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
    """Whose job is in a slot, and how many pages of each region it may access."""
    pages = data.ArrayLayout(range(config.most_pages + 1), len(Region))
    return data.StructLayout({"sequence": config.sequence_bits, "pages": pages})
