"""Pieces of a record become bursts."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import BEAT_BITS, BURST_BYTES
from hw.cores.compressor.payloads import BURST, ENABLED_BYTES
from hw.memory.port import ADDRESS_BITS

#: A *half* is what an enable stands for: half a word.
HALF_BITS = 8 * ENABLED_BYTES
HALVES = BURST_BYTES // ENABLED_BYTES
HALF_ADDRESS_BITS = ADDRESS_BITS - (ENABLED_BYTES - 1).bit_length()
_SIZES = range((BEAT_BITS // HALF_BITS).bit_length())

#: 1, 2, 4 or 8 halves, as many as ``size`` is the logarithm of, at an address in halves that is a
#: multiple of them. After ``end`` the burst leaves even if it is not full, and ends a run.
PIECE = data.StructLayout(
    {
        "address": HALF_ADDRESS_BITS,
        "data": BEAT_BITS,
        "size": range(len(_SIZES)),
        "end": 1,
        "last": 1,
    }
)


class BurstBuilder(wiring.Component):
    """One piece a cycle; latency 1 cycle.

    A burst leaves when its last half has come, or at an ``end``. Between two of these the pieces
    are of one burst.

    Members
    -------
    pieces : In(stream of PIECE)
    bursts : Out(stream of BURST)
        Of record 0; ``end`` and ``last`` are those of the burst's last piece.
    """

    def __init__(self) -> None:
        super().__init__(
            {"pieces": In(stream.Signature(PIECE)), "bursts": Out(stream.Signature(BURST))}
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        pieces, bursts = self.pieces, self.bursts
        piece = pieces.payload
        place_bits = (HALVES - 1).bit_length()
        place = piece.address[:place_bits]
        sizes = [1 << size for size in _SIZES]
        spread = Array(piece.data[: size * HALF_BITS].replicate(HALVES // size) for size in sizes)[
            piece.size
        ]
        pattern = Array(Const((1 << size) - 1, HALVES) for size in sizes)[piece.size]
        enable = Signal(HALVES)
        halves, kept = Signal(HALVES * HALF_BITS), Signal(HALVES)
        taken, full = Signal(), Signal()
        m.d.comb += [
            enable.eq(pattern << place),
            full.eq(enable[-1] | piece.end),
            # The next burst begins while this one leaves.
            pieces.ready.eq(~bursts.valid | bursts.ready),
            taken.eq(pieces.valid & pieces.ready),
            bursts.p.data.eq(halves),
            bursts.p.enable.eq(kept),
        ]
        chosen = Cat(bit.replicate(HALF_BITS) for bit in enable)
        with m.If(taken):
            m.d.sync += [
                halves.eq((spread & chosen) | (halves & ~chosen)),
                kept.eq(Mux(bursts.valid, 0, kept) | enable),
                bursts.p.address.eq(piece.address[place_bits:]),
                bursts.p.end.eq(piece.end),
                bursts.p.last.eq(piece.last),
                bursts.valid.eq(full),
            ]
        with m.Elif(bursts.valid & bursts.ready):
            m.d.sync += [kept.eq(0), bursts.valid.eq(0)]
        return m
