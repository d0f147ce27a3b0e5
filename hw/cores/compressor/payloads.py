"""The stream payloads between the units that close a window."""

from amaranth.hdl import unsigned
from amaranth.lib import data

from hw.config import BEAT_BITS, BURST_BYTES, AttentionConfig
from hw.cores.quantiser.affine_quantiser import base_field
from hw.formats import FP16_BITS, Status
from hw.memory.port import ADDRESS_BITS

BURST_BITS = 8 * BURST_BYTES
#: Bits of an address in bursts, and in words of 4 bytes.
BURST_ADDRESS_BITS = ADDRESS_BITS - (BURST_BYTES - 1).bit_length()
WORD_ADDRESS_BITS = ADDRESS_BITS - 2
WORD_BITS = 32
BURST_WORDS = BURST_BITS // WORD_BITS

#: Records that are filled side by side, at most: the chunks of a value group.
MOST_RECORDS = 16

#: Bytes that an enable of a burst is for.
ENABLED_BYTES = 2
#: A burst to be written: its number in the memory, an enable for each 2 bytes, which of the records
#: side by side it belongs to, whether it ends a run of successive bursts of it, and whether it is
#: the last one of its source in the window, or of its token.
BURST = data.StructLayout(
    {
        "address": BURST_ADDRESS_BITS,
        "data": BURST_BITS,
        "enable": BURST_BYTES // ENABLED_BYTES,
        "record": range(MOST_RECORDS),
        "end": 1,
        "last": 1,
    }
)

#: What a base key block gets of a key: FP16 scale and minimum of a group in the lowest 32 bits of
#: ``data``, or a beat of codes.
BASE_ITEM = data.StructLayout({"data": BEAT_BITS, "codes": 1})


def window_count(config: AttentionConfig) -> int:
    """Windows of a cache that can ever be closed."""
    return config.closed_tokens(config.max_context) // config.window


def window_layout(config: AttentionConfig) -> data.StructLayout:
    """Which window is to be closed: regions of its cache, and windows closed before it."""
    return data.StructLayout(
        {
            "base_address": ADDRESS_BITS,
            "chunk_address": ADDRESS_BITS,
            "tail_address": ADDRESS_BITS,
            "window": max(1, (config.max_context // config.window - 1).bit_length()),
        }
    )


#: How the closing of a window ended.
ANSWER = data.StructLayout({"status": Status})


def chunk_order(config: AttentionConfig) -> data.ArrayLayout:
    """For each rank of a chunk the place of its token in the order of arrival."""
    return data.ArrayLayout(unsigned((config.chunk - 1).bit_length()), config.chunk)


def pruned_layout(bits: int, group: int, base_every: int | None = None) -> data.StructLayout:
    """A quantised group with its pruning mask, lowest index first."""
    return data.StructLayout(
        {
            "code": data.ArrayLayout(bits, group),
            "mask": group,
            **base_field(bits, group, base_every),
            "scale": FP16_BITS,
            "minimum": FP16_BITS,
        }
    )
