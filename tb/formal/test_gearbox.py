"""Gearbox: every element of a record comes out once, whole, in order, whatever the padding holds.

One bit stands for each unit of data (the greatest common divisor of beat and element), and one
tracked unit of the record, whichever it is, for all. The claims hold over any records in sequence,
under any back-pressure and any reset.
"""

from __future__ import annotations

from math import gcd

import pytest
from amaranth.hdl import Cat, Mux, Signal

from hw.config import BEAT_BITS
from hw.cores.gearbox import Gearbox
from tb.formal.bench import Bench
from tb.formal.mutant import mutant
from tb.formal.prove import prove, refute

LAST = "last marks the last element of the record"
EARLY = "no element comes out before all of it came in"
DATA = "an element is what its beats held"
OFFERED = "a whole element inside is offered"
READY = "a beat is taken when no whole element is inside"
STAYS = "elements stays until its transfer"


def cutting(gearbox: Gearbox, *, element_bits: int, elements: int) -> Bench:
    """Say what a gearbox promises."""
    bench = Bench(gearbox)
    m = bench.module
    source, sink = bench.stream("beats"), bench.stream("elements")
    unit = gcd(BEAT_BITS, element_bits)
    beat_units, element_units = BEAT_BITS // unit, element_bits // unit
    units = element_units * elements
    beats = -(-units // beat_units)
    come, gone = source.valid & source.ready, sink.valid & sink.ready

    came, went = Signal(range(beats + 1)), Signal(range(elements))
    bits = bench.free("bits", beat_units)
    beat = Signal.like(source.payload)
    over = gone & (went == elements - 1)
    first = (came == 0) | over
    m.d.comb += [
        beat.data.eq(Cat(bit.replicate(unit) for bit in bits)),
        beat.last.eq(Mux(first, beats == 1, came == beats - 1)),
    ]
    bench.tie("beats__payload", beat)
    m.d.sync += came.eq(Mux(over, 0, came) + come)
    with m.If(gone):
        m.d.sync += went.eq(Mux(over, 0, went + 1))

    # The tracked unit: where it comes in, where it goes out, and what it was.
    number = bench.constant("number", range(units))
    bench.assume(number < units)
    place = [(n // beat_units, n % beat_units) for n in range(units)]
    exits = [(n // element_units, n % element_units * unit) for n in range(units)]
    value, comes_in, offered, is_out = (Signal(name=n) for n in ("value", "in", "offered", "out"))
    for n in range(units):
        with m.If(number == n):
            here = Mux(first, place[n][0] == 0, came == place[n][0])
            m.d.comb += [
                comes_in.eq(here),
                offered.eq(bits[place[n][1]]),
                is_out.eq(
                    sink.payload.data[exits[n][1] : exits[n][1] + unit] == value.replicate(unit)
                ),
            ]
    its_element = Signal(range(elements))
    m.d.comb += its_element.eq(number // element_units)
    with m.If(come & comes_in):
        m.d.sync += value.eq(offered)

    inside = came * beat_units
    needed = (went + 1) * element_units
    bench.check(LAST, ~sink.valid | (sink.payload.last == (went == elements - 1)))
    bench.check(EARLY, ~sink.valid | (inside >= needed))
    bench.check(DATA, ~(sink.valid & (went == its_element)) | is_out)
    bench.check(OFFERED, (inside < needed) | sink.valid)
    bench.check(READY, (inside >= needed) | source.ready)
    bench.check_stream_rule("elements")
    return bench


#: Bits and number of the elements: three or eight units in a beat, a beat and more than one.
CASES = [
    (96, 3),
    (64, 1),
    *(pytest.param(*case, marks=pytest.mark.slow) for case in ((48, 5), (32, 5), (128, 2))),
]


@pytest.mark.parametrize(("element_bits", "elements"), CASES)
def test_gearbox(element_bits: int, elements: int) -> None:
    """For all time, by property directed reachability; 212 to 397 flip-flops."""
    unit = Gearbox(element_bits=element_bits, elements=elements)
    prove(cutting(unit, element_bits=element_bits, elements=elements))


#: What goes wrong, the claim that shows it, and the fault as a change of the source.
FAULTS = {
    "the next record counts on": (LAST, "Mux(final, 0, index + 1)", "index + 1"),
    "a part of an element": (EARLY, "level >= element_units", "level >= element_units - 1"),
    "padding joins the next record": (DATA, "kept = Mux(over, 0, Mux(", "kept = Mux(0, 0, Mux("),
    "a beat replaces another": (DATA, "(left <= element_units)", "(left <= capacity)"),
    "the record may end early": (READY, "complete.eq(beats.payload.last)", "complete.eq(1)"),
    "a beat counts for less": (OFFERED, "left + beat_units)", "left + beat_units - 2)"),
    "a record that never ends": (READY, "m.d.sync += complete.eq(0)", "pass"),
    "an element does not wait": (STAYS, "elements.valid & elements.ready", "elements.valid"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faulty_gearbox_is_refuted(fault: str) -> None:
    """A counterexample of at most 30 cycles, by bounded model checking."""
    claim, old, new = FAULTS[fault]
    faulty = mutant(Gearbox, old, new)(element_bits=96, elements=3)
    refute(cutting(faulty, element_bits=96, elements=3), claim, cycles=30)
