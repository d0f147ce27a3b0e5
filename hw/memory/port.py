"""The memory port: tagged requests out, tagged beats in (docs/contracts.md, section 2)."""

from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import BEAT_BITS, BEAT_BYTES, BURST_BYTES, AttentionConfig

ADDRESS_BITS = 32
BURSTS_LESS_ONE_BITS = 4
#: Bursts of the longest request.
REQUEST_BURSTS = 1 << BURSTS_LESS_ONE_BITS
#: Beats of a burst.
BURST_BEATS = BURST_BYTES // BEAT_BYTES
#: Bits of the number of a beat within a request: up to 32 beats of 16 bytes.
BEAT_INDEX_BITS = (REQUEST_BURSTS * BURST_BEATS - 1).bit_length()


def tag_bits(config: AttentionConfig) -> int:
    """Bits of a tag, one value for each of ``memory_tags`` outstanding requests."""
    return (config.memory_tags - 1).bit_length()


def port_request(tag_bits: int) -> data.StructLayout:
    """A request: byte address (burst-aligned), bursts less one, tag."""
    return data.StructLayout(
        {"address": ADDRESS_BITS, "bursts_less_one": BURSTS_LESS_ONE_BITS, "tag": tag_bits}
    )


def read_response(tag_bits: int, gear: int = 1) -> data.StructLayout:
    """``gear`` beats of an answer: data, tag, number of the first beat, and a refused access."""
    return data.StructLayout(
        {"data": gear * BEAT_BITS, "tag": tag_bits, "beat": BEAT_INDEX_BITS, "error": 1}
    )


def write_data(gear: int = 1) -> data.StructLayout:
    """``gear`` beats to be written, and per byte whether it is."""
    return data.StructLayout({"data": gear * BEAT_BITS, "enable": gear * BEAT_BYTES})


def write_end(tag_bits: int) -> data.StructLayout:
    """The end of a write: its tag, and whether the memory refused it."""
    return data.StructLayout({"tag": tag_bits, "error": 1})


def read_port(tag_bits: int, gear: int = 1) -> wiring.Signature:
    """The port of a reader, from its side (docs/memory.md, section 2).

    Parameters
    ----------
    tag_bits
        Bits of ``tag``, which comes back with every beat, at least 1.
    gear
        Beats of 16 bytes in a clock: 1 or 2.
    """
    return wiring.Signature(
        {
            "request": Out(stream.Signature(port_request(tag_bits))),
            "response": In(stream.Signature(read_response(tag_bits, gear))),
        }
    )


def write_port(tag_bits: int, gear: int = 1) -> wiring.Signature:
    """The port of a writer, from its side (docs/memory.md, section 2).

    ``data`` are the words of the requests, in the order of these. The parameters are those of
    `read_port`.
    """
    return wiring.Signature(
        {
            "request": Out(stream.Signature(port_request(tag_bits))),
            "data": Out(stream.Signature(write_data(gear))),
            "written": In(stream.Signature(write_end(tag_bits))),
        }
    )


def request_layout(config: AttentionConfig) -> data.StructLayout:
    """A request of the core."""
    return port_request(tag_bits(config))


def response_layout(config: AttentionConfig) -> data.StructLayout:
    """A beat of an answer to the core."""
    return read_response(tag_bits(config))


def memory_port(config: AttentionConfig) -> wiring.Signature:
    """The memory port of the core, from its side."""
    return read_port(tag_bits(config))
