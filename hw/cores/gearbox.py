"""Beats in, packed elements of another width out."""

from math import gcd

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import BEAT_BITS
from hw.cores.payloads import BEAT


class Gearbox(wiring.Component):
    """Cuts a record of packed elements out of its beats: latency 1 cycle, one element a cycle.

    Of elements with more bits than a beat, the first comes one cycle after its last beat.
    A record is ``elements`` elements of ``element_bits`` bits without gaps, padded to a beat; its
    last beat is marked ``last``. The next record's first beat may come with this one's last
    element, so records follow each other without a gap.

    Parameters
    ----------
    element_bits : int
        At least 1.
    elements : int
        Elements of one record, at least 1.

    Members
    -------
    beats : stream of ``BEAT``
    elements : stream of {``data``, ``last``}
        ``last`` marks the record's last element.

    Raises
    ------
    ValueError
        A parameter is out of range.
    """

    def __init__(self, *, element_bits: int, elements: int) -> None:
        if element_bits < 1:
            raise ValueError(f"element_bits must be at least 1, not {element_bits!r}")
        if elements < 1:
            raise ValueError(f"elements must be at least 1, not {elements!r}")
        self._element_bits = element_bits
        self._count = elements
        element = data.StructLayout({"data": element_bits, "last": 1})
        super().__init__(
            {
                "beats": In(stream.Signature(BEAT)),
                "elements": Out(stream.Signature(element)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        beats, elements = self.beats, self.elements
        # The fill level is a multiple of this unit, which keeps the insertion shifter small.
        unit = gcd(BEAT_BITS, self._element_bits)
        element_units = self._element_bits // unit
        beat_units = BEAT_BITS // unit
        capacity = element_units + beat_units

        buffer = Signal(capacity * unit)
        level = Signal(range(capacity + 1))
        index = Signal(range(self._count))
        #: The record's last beat is in the buffer.
        complete = Signal()

        take = Signal()
        give = Signal()
        final = index == self._count - 1
        m.d.comb += [
            elements.valid.eq(level >= element_units),
            elements.payload.data.eq(buffer[: self._element_bits]),
            elements.payload.last.eq(final),
            give.eq(elements.valid & elements.ready),
            take.eq(beats.valid & beats.ready),
        ]

        over = Signal()
        left = Signal(range(element_units + beat_units + 1))
        m.d.comb += [
            over.eq(give & final),
            left.eq(Mux(over, 0, level - Mux(give, element_units, 0))),
            # A beat needs room. One of the next record may come as soon as this one's are all out.
            beats.ready.eq((~complete | over) & (left <= element_units)),
        ]
        # Bits above the fill level are 0, so that a beat can be put in with an OR.
        kept = Mux(over, 0, Mux(give, buffer >> self._element_bits, buffer))
        # At most this many units are left when a beat comes: the shifter needs no more.
        offset = Cat(Const(0, unit.bit_length() - 1), left[: element_units.bit_length()])

        m.d.sync += [buffer.eq(kept), level.eq(left)]
        with m.If(give):
            m.d.sync += index.eq(Mux(final, 0, index + 1))
        with m.If(take):
            m.d.sync += [
                buffer.eq(kept | (beats.payload.data << offset)),
                level.eq(left + beat_units),
                complete.eq(beats.payload.last),
            ]
        with m.Elif(over):
            m.d.sync += complete.eq(0)
        return m
