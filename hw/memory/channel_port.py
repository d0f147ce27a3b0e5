"""The channel port: what an arbiter asks of one memory channel (docs/memory.md, section 1)."""

from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import BEAT_BITS
from hw.memory.port import ADDRESS_BITS, BEAT_INDEX_BITS, BURSTS_LESS_ONE_BITS, write_data


def channel_request(id_bits: int) -> data.StructLayout:
    """A request: byte address within the channel, bursts less one, what comes back, direction."""
    return data.StructLayout(
        {
            "address": ADDRESS_BITS,
            "bursts_less_one": BURSTS_LESS_ONE_BITS,
            "id": id_bits,
            "write": 1,
        }
    )


def channel_response(id_bits: int, gear: int) -> data.StructLayout:
    """What a clock of reading moves: ``gear`` beats, their request, the number of the first one."""
    return data.StructLayout(
        {
            "data": gear * BEAT_BITS,
            "id": id_bits,
            "beat": BEAT_INDEX_BITS,
            "error": 1,
        }
    )


def channel_written(id_bits: int) -> data.StructLayout:
    """The end of a write: its request, and whether the memory refused it."""
    return data.StructLayout({"id": id_bits, "error": 1})


def channel_port(id_bits: int, gear: int) -> wiring.Signature:
    """The port from the arbiter's side.

    Parameters
    ----------
    id_bits
        Bits of ``id``, which comes back as it was sent, at least 1.
    gear
        Beats of 16 bytes in a clock of the logic: 1 or 2.
    """
    return wiring.Signature(
        {
            "request": Out(stream.Signature(channel_request(id_bits))),
            "write_data": Out(stream.Signature(write_data(gear))),
            "response": In(stream.Signature(channel_response(id_bits, gear))),
            "written": In(stream.Signature(channel_written(id_bits))),
        }
    )
