"""Packs elements without gaps into records and says where their bursts go."""

from collections.abc import Sequence
from math import gcd

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.cores.compressor.address_walk import AddressWalk
from hw.cores.compressor.payloads import BURST, BURST_ADDRESS_BITS, BURST_BITS


class RecordPacker(wiring.Component):
    """Latency 1 cycle from the element that fills a burst; one element a cycle.

    Records of one size are filled side by side, an element each in turn, so that they are all as
    full. Behind the last elements of records that end within a burst the rests follow, a cycle
    each.

    Parameters
    ----------
    element_bits : int
        1 to 256.
    elements : int
        Elements of a record, at least 1.
    records : int
        Records side by side, at least 1.
    loops : sequence of (count, stride)
        The bursts of a window in the order in which they leave (`AddressWalk`), in bursts.

    Members
    -------
    start : In(1)
        A window begins; everything of the one before must have left.
    address : In(27)
        Of its first burst.
    elements : In(stream)
    bursts : Out(stream of BURST)
        Padded with zeros.

    Raises
    ------
    ValueError
        A parameter has an illegal value.
    """

    def __init__(
        self,
        *,
        element_bits: int,
        elements: int,
        records: int,
        loops: Sequence[tuple[int, int]],
    ) -> None:
        if not 1 <= element_bits <= BURST_BITS:
            raise ValueError(f"element_bits must be from 1 to {BURST_BITS}, not {element_bits!r}")
        if elements < 1 or records < 1:
            raise ValueError(
                f"elements and records must be at least 1, not {elements!r}, {records!r}"
            )
        self._element_bits = element_bits
        self._count = elements
        self._records = records
        self._walk = AddressWalk(loops, bits=BURST_ADDRESS_BITS)
        super().__init__(
            {
                "start": In(1),
                "address": In(BURST_ADDRESS_BITS),
                "elements": In(stream.Signature(element_bits)),
                "bursts": Out(stream.Signature(BURST)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.walk = walk = self._walk
        elements, bursts = self.elements, self.bursts
        # The fill level is a multiple of this unit, which keeps the shifter small.
        unit = gcd(BURST_BITS, self._element_bits)
        burst_units, element_units = BURST_BITS // unit, self._element_bits // unit
        # The records take turns: the one of this turn is the first.
        held = [Signal(BURST_BITS, name=f"held_{i}") for i in range(self._records)]
        record = Signal(range(max(2, self._records)))
        element = Signal(range(max(2, self._count)))
        level = Signal(range(burst_units))
        flush = Signal()

        free, step, emit, full = Signal(), Signal(), Signal(), Signal()
        last_record = record == self._records - 1
        final = element == self._count - 1
        offset = Cat(Const(0, unit.bit_length() - 1), level)
        wide = Signal(BURST_BITS + self._element_bits)
        total = Signal(range(burst_units + element_units))
        m.d.comb += [
            free.eq(~bursts.valid | bursts.ready),
            elements.ready.eq(free & ~flush),
            step.eq(free & (elements.valid | flush)),
            wide.eq(held[0] | (elements.payload << offset)),
            total.eq(level + element_units),
            full.eq(total >= burst_units),
            emit.eq(step & (full | flush)),
        ]
        rest: Value = Mux(full, wide[BURST_BITS:], wide[:BURST_BITS])
        ends_within = self._count * self._element_bits % BURST_BITS != 0
        last_burst = flush if ends_within else final
        with m.If(step):
            m.d.sync += [
                Cat(*held).eq(Cat(*held[1:], Mux(flush, 0, rest)[:BURST_BITS])),
                record.eq(Mux(last_record, 0, record + 1)),
            ]
            with m.If(last_record):
                m.d.sync += level.eq(Mux(full, total - burst_units, total))
                with m.If(flush):
                    m.d.sync += [flush.eq(0), level.eq(0)]
                with m.Else():
                    m.d.sync += element.eq(Mux(final, 0, element + 1))
                    with m.If(final):
                        m.d.sync += flush.eq(1) if ends_within else level.eq(0)
        with m.If(free):
            m.d.sync += [
                bursts.valid.eq(emit),
                bursts.p.data.eq(Mux(flush, held[0], wide[:BURST_BITS])),
                bursts.p.address.eq(walk.address),
                bursts.p.record.eq(record),
                bursts.p.end.eq(last_burst),
                bursts.p.last.eq(walk.ends[-1]),
                bursts.p.enable.eq(-1),
            ]
        m.d.comb += [
            walk.start.eq(self.start),
            walk.base.eq(self.address),
            walk.step.eq(emit),
        ]
        return m
