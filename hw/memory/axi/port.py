"""The signals of an AXI4 master (AMBA AXI Protocol Specification, ARM IHI 0022)."""

from amaranth.lib.wiring import In, Member, Out

from hw.config import BEAT_BITS, BEAT_BYTES
from hw.memory.port import ADDRESS_BITS

#: No burst crosses a multiple of this.
PAGE_BYTES = 4096
#: ``AxBURST`` of addresses that count up.
INCREMENTING = 0b01
#: ``AxCACHE`` of normal memory that is not cached and may be buffered; accesses may be modified.
CACHE_BITS = 0b0011
#: The bit of ``xRESP`` that SLVERR and DECERR have in common.
RESPONSE_ERROR_BIT = 1


def axi_port(id_bits: int, gear: int) -> dict[str, Member]:
    """The members of a master, under the names of the specification in lower case.

    Parameters
    ----------
    id_bits
        Bits of ``awid``, ``bid``, ``arid`` and ``rid``.
    gear
        Beats of 16 bytes in a word of data: 1 or 2.
    """
    members: dict[str, Member] = {}
    for channel in ("aw", "ar"):
        members |= {
            f"{channel}id": Out(id_bits),
            f"{channel}addr": Out(ADDRESS_BITS),
            f"{channel}len": Out(8),
            f"{channel}size": Out(3),
            f"{channel}burst": Out(2),
            f"{channel}lock": Out(1),
            f"{channel}cache": Out(4),
            f"{channel}prot": Out(3),
            f"{channel}valid": Out(1),
            f"{channel}ready": In(1),
        }
    return {
        **members,
        "wdata": Out(gear * BEAT_BITS),
        "wstrb": Out(gear * BEAT_BYTES),
        "wlast": Out(1),
        "wvalid": Out(1),
        "wready": In(1),
        "bid": In(id_bits),
        "bresp": In(2),
        "bvalid": In(1),
        "bready": Out(1),
        "rid": In(id_bits),
        "rdata": In(gear * BEAT_BITS),
        "rresp": In(2),
        "rlast": In(1),
        "rvalid": In(1),
        "rready": Out(1),
    }
