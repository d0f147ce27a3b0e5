"""The bytes that a core reads: records, the image of the memory, jobs, and files of golden data."""

from golden.memory_image.bundle import GoldenDataError, load_golden, save_golden
from golden.memory_image.dense_records import pack_dense, unpack_dense
from golden.memory_image.image import MemoryImage, MemoryImageError, Placement
from golden.memory_image.job import (
    JobDescriptor,
    prompt_records,
    query_beats,
    query_codes,
    token_beats,
)
from golden.memory_image.packing import RecordError
from golden.memory_image.records import pack_base_blocks, pack_chunks, unpack_cache, unpack_slots
from golden.memory_image.tail_records import pack_tail

__all__ = [
    "GoldenDataError",
    "JobDescriptor",
    "MemoryImage",
    "MemoryImageError",
    "Placement",
    "RecordError",
    "load_golden",
    "pack_base_blocks",
    "pack_chunks",
    "pack_dense",
    "pack_tail",
    "prompt_records",
    "query_beats",
    "query_codes",
    "save_golden",
    "token_beats",
    "unpack_cache",
    "unpack_dense",
    "unpack_slots",
]
