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


def request_layout(config: AttentionConfig) -> data.StructLayout:
    """A request: byte address (burst-aligned), bursts less one, tag."""
    return data.StructLayout(
        {
            "address": ADDRESS_BITS,
            "bursts_less_one": BURSTS_LESS_ONE_BITS,
            "tag": tag_bits(config),
        }
    )


def response_layout(config: AttentionConfig) -> data.StructLayout:
    """One beat of an answer: data, the request's tag, which of its beats, and a refused access."""
    return data.StructLayout(
        {"data": BEAT_BITS, "tag": tag_bits(config), "beat": BEAT_INDEX_BITS, "error": 1}
    )


def memory_port(config: AttentionConfig) -> wiring.Signature:
    """The port from the requester's side: ``request`` goes out, ``response`` comes in."""
    return wiring.Signature(
        {
            "request": Out(stream.Signature(request_layout(config))),
            "response": In(stream.Signature(response_layout(config))),
        }
    )
