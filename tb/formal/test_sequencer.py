"""Sequencer: segments and headers in step, keys one unit ahead of values, every job once.

The claims hold over any jobs in sequence,
under any back-pressure and any reset, whatever the selection says.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from amaranth.hdl import Mux, Signal

from hw.config import preset
from hw.cores.payloads import SegmentKind
from hw.cores.sequencer import Sequencer
from tb.formal.bench import Bench
from tb.formal.mutant import mutant
from tb.formal.prove import prove, refute

CONFIG = replace(preset("tiny"), name="small", rows=1, budget=24, max_context=256, jobs_in_flight=2)

IN_STEP = "a header and a segment leave for each other, none twice"
AHEAD = "values follow the keys of their unit and of the next one at most"
SELECTED = "a delta record is read for each selected chunk"
BLOCKS = "a job with n closed chunks reads ceil(n / 8) blocks of base keys, the last one marked"
SCALES = "the values of a chunk follow the scales of its group, which are read once for its run"
LEFT = "a new unit's keys do not mark the first unit before all values of the job before are read"


def ordering(unit: Sequencer) -> Bench:
    """Say what the order of the segments is."""
    bench = Bench(unit)
    m = bench.module
    planned, selected, segments, header = (
        bench.stream(name) for name in ("planned", "selected", "segments", "header")
    )
    bench.assume_stream_rule("planned", "selected")
    chunks, tail = planned.payload.chunks, planned.payload.tail
    most = CONFIG.max_chunks
    bench.assume(~planned.valid | ((chunks <= most) & (tail >= 1) & (tail <= 2 * CONFIG.window)))
    came, chosen, read, told = (
        stream.valid & stream.ready for stream in (planned, selected, segments, header)
    )
    kind = header.payload.kind

    # Headers that have left without their segment, or the other way round.
    segment_first, header_first = Signal(), Signal()
    m.d.sync += [
        segment_first.eq((segment_first | read) & ~(header_first | told)),
        header_first.eq((header_first | told) & ~(segment_first | read)),
    ]
    keys = told & ((kind == SegmentKind.TAIL_KEYS) | (kind == SegmentKind.DELTAS))
    values = told & ((kind == SegmentKind.TAIL_VALUES) | (kind == SegmentKind.VALUES))
    base = told & (kind == SegmentKind.BASE_KEYS)

    # Units whose keys have been asked for and whose values have not; deltas still to be asked for.
    pending, deltas = Signal(3), Signal(2)
    m.d.sync += [
        pending.eq(pending + keys - values),
        deltas.eq(deltas + chosen - (told & (kind == SegmentKind.DELTAS))),
    ]
    # Chunks whose base keys are still to be told of: of the oldest such job, and of the one behind
    # it, which may be taken while the last header of the oldest waits.
    left, behind, rest = (Signal(range(most + 1), name=n) for n in ("left", "behind", "rest"))
    last = left <= CONFIG.chunk
    m.d.comb += rest.eq(Mux(base, Mux(last, 0, left - CONFIG.chunk), left))
    new = Mux(came, chunks, 0)
    with m.If(rest != 0):
        m.d.sync += left.eq(rest)
        with m.If(came):
            m.d.sync += behind.eq(chunks)
    with m.Else():
        m.d.sync += [left.eq(Mux(behind != 0, behind, new)), behind.eq(Mux(behind != 0, new, 0))]

    # Groups of the chunks whose values have not been asked for, and the group of the latest scales.
    shift = CONFIG.group_chunks.bit_length() - 1
    groups = [Signal.like(selected.payload.chunk, name=f"group_{i}") for i in range(2)]
    waiting, rest_waiting = Signal(2), Signal(2)
    loaded, loaded_group = Signal(), Signal.like(selected.payload.chunk)
    scales = told & (kind == SegmentKind.VALUE_SCALES)
    of_chunk = told & (kind == SegmentKind.VALUES)
    m.d.comb += rest_waiting.eq(waiting - of_chunk)
    m.d.sync += waiting.eq(rest_waiting + chosen)
    with m.If(of_chunk):
        m.d.sync += groups[0].eq(groups[1])
    with m.If(chosen & (rest_waiting == 0)):
        m.d.sync += groups[0].eq(selected.payload.chunk >> shift)
    with m.If(chosen & (rest_waiting != 0)):
        m.d.sync += groups[1].eq(selected.payload.chunk >> shift)
    with m.If(scales):
        m.d.sync += [loaded.eq(1), loaded_group.eq(groups[0])]
    with m.If(keys & header.payload.first):
        m.d.sync += loaded.eq(0)
    there = loaded & (loaded_group == groups[0])
    bench.check(SCALES, (~of_chunk | (waiting != 0) & there) & (~scales | (waiting != 0) & ~there))
    bench.check(IN_STEP, ~(segment_first & segments.valid) & ~(header_first & header.valid))
    bench.check(AHEAD, (~keys | (pending <= 1)) & (~values | (pending >= 1)))
    bench.check(SELECTED, (deltas <= 1) & ~(chosen & (deltas != 0)))
    marked = (left != 0) & (header.payload.last == last)
    bench.check(BLOCKS, (~base | marked) & (~came | (rest == 0) | (behind == 0)))
    opening = keys & header.payload.first
    bench.check(LEFT, ~opening | ((pending == 0) & (kind == SegmentKind.TAIL_KEYS)))
    bench.check_stream_rule("segments", "header")
    return bench


def test_sequencer() -> None:
    """For all time, by property directed reachability; 581 flip-flops."""
    prove(ordering(Sequencer(CONFIG)))


#: What goes wrong, the claim that shows it, and the fault as a change of the source.
FAULTS = {
    "a segment does not wait": (
        "segments stays until its transfer",
        "with m.If(self.segments.ready):",
        "with m.If(1):",
    ),
    "a header is sent again": (
        IN_STEP,
        "m.d.sync += header_due.eq(0)",
        "m.d.sync += header_due.eq(segment_due)",
    ),
    "values come two units late": (
        AHEAD,
        "with m.If(value_due):",
        "with m.If(value_due & (left == 0)):",
    ),
    "a chunk is read and not taken": (
        SELECTED,
        "self.selected.ready.eq(1)",
        "self.selected.ready.eq(0)",
    ),
    "scales come with the first chunk of a job only": (
        SCALES,
        "new_group.eq(~in_group | (group != its_group))",
        "new_group.eq(~in_group)",
    ),
    "scales come with every chunk": (
        SCALES,
        "new_group.eq(~in_group | (group != its_group))",
        "new_group.eq(1)",
    ),
    "the last block is not marked": (BLOCKS, '"last": last_block}', '"last": 0}'),
    "the last values are left out": (
        LEFT,
        "                    emit_values()\n                    m.d.sync += has_formal.eq(0)",
        "                    m.d.sync += has_formal.eq(0)",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faulty_sequencer_is_refuted(fault: str) -> None:
    """A counterexample of at most 40 cycles, by bounded model checking."""
    claim, old, new = FAULTS[fault]
    refute(ordering(mutant(Sequencer, old, new)(CONFIG)), claim, cycles=40)
