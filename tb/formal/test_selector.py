"""Selector: what comes out is the best candidates, ties to the lowest chunk, group after group.

The unit only compares scores and moves key sums. So a job of four candidates behaves as one with
scores of two bits (four ranks), and one key sum bit stands for all. Two tracked chunks, whichever
they are, stand for every pair. The claims hold over any jobs in sequence, under any back-pressure
and any reset.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from amaranth.hdl import Cat, Mux, Signal, signed
from amaranth.lib import data, wiring

from hw.config import AttentionConfig, preset
from hw.cores.payloads import candidate
from hw.cores.selector import Selector
from tb.formal.bench import Bench
from tb.formal.mutant import mutant
from tb.formal.prove import prove, refute

#: The smallest list that a configuration allows: three entries; jobs of up to four candidates.
CONFIG = replace(preset("tiny"), name="small", rows=1, budget=24, max_context=64)
SCORE_BITS = 2
ORDER = "a group begins with the best one left, and of two of a group the better one comes first"
TOGETHER = "those of a group follow each other"
PREFERENCE = "one comes out only if the better one does"
COUNT = "the selection has the right number"
OFFERED = "only what was offered comes out"
ONCE = "nothing comes out twice"
KEY_SUMS = "a chunk's key sums are its own"
STAYS = "selected stays until its transfer"


def sorting(unit: wiring.Component, config: AttentionConfig, *, score_bits: int) -> Bench:
    """Say what the selection of every job is."""
    bench = Bench(unit)
    m = bench.module
    source, sink = bench.stream("candidates"), bench.stream("selected")
    come = source.valid & source.ready
    gone = sink.valid & sink.ready
    chunk_bits = len(source.payload.chunk)
    top = config.top_chunks

    score = bench.free("score", signed(score_bits))
    sum_bit = bench.free("key_sum")
    chunk = bench.free("chunk", chunk_bits)
    last = bench.free("last")
    payload = Signal(candidate(config))
    m.d.comb += [
        payload.score.eq(score),
        payload.chunk.eq(chunk),
        payload.last.eq(last),
        payload.key_sum.eq(sum_bit.replicate(len(payload.key_sum.as_value()))),
    ]
    bench.tie("candidates__payload", payload)

    # What is known of a job: how many come out, and of each tracked chunk whether and how it came.
    track = data.StructLayout({"offered": 1, "score": signed(score_bits), "key_sum": 1})
    job_layout = data.StructLayout(
        {"offered": range(config.max_chunks + 1), "tracked": data.ArrayLayout(track, 2)}
    )
    numbers = [bench.constant(f"tracked_{i}", chunk_bits) for i in range(2)]
    coming, leaving = Signal(job_layout), Signal(job_layout)
    complete = Signal()
    newest = Signal(chunk_bits)
    sent = Signal(range(top + 2))
    sent_one = Signal(2)
    group_shift = config.group_chunks.bit_length() - 1
    latest = Signal(chunk_bits)
    bench.assume(~source.valid | (coming.offered == 0) | complete | (chunk > newest))

    # A job's candidates may come while the last item of the job before still waits.
    busy = leaving.offered != 0
    over = gone & sink.payload.last
    with m.If(over):
        m.d.sync += leaving.eq(0)
    with m.If(complete & (~busy | over)):
        m.d.sync += [leaving.eq(coming), coming.eq(0), complete.eq(0)]
    with m.If(come):
        m.d.sync += [coming.offered.eq(coming.offered + 1), newest.eq(chunk), complete.eq(last)]
        for i in range(2):
            with m.If(chunk == numbers[i]):
                m.d.sync += [
                    coming.tracked[i].offered.eq(1),
                    coming.tracked[i].score.eq(score),
                    coming.tracked[i].key_sum.eq(sum_bit),
                ]
    out = [gone & (sink.payload.chunk == number) for number in numbers]
    all_sent = sent_one | Cat(out)
    with m.If(gone):
        m.d.sync += [sent.eq(sent + 1), sent_one.eq(all_sent), latest.eq(sink.payload.chunk)]
    with m.If(over):
        m.d.sync += [sent.eq(0), sent_one.eq(0)]

    one, two = leaving.tracked[0], leaving.tracked[1]
    better = (one.score > two.score) | ((one.score == two.score) & (numbers[0] < numbers[1]))
    better_one = one.offered & two.offered & (numbers[0] != numbers[1]) & better
    wanted = Mux(leaving.offered > top, top, leaving.offered)
    kept_sum = sink.payload.key_sum.as_value()[0] == one.key_sum
    bench.check(COUNT, ~gone | (busy & (sink.payload.last == (sent + 1 == wanted))))
    bench.check(OFFERED, ~out[0] | one.offered)
    bench.check(ONCE, ~(out[0] & sent_one[0]))
    of_a_group = (numbers[0] >> group_shift) == (numbers[1] >> group_shift)
    begins = (sent == 0) | ((sink.payload.chunk >> group_shift) != (latest >> group_shift))
    bench.check(ORDER, ~(better_one & out[1] & ~sent_one[0] & (begins | of_a_group)))
    bench.check(TOGETHER, ~(of_a_group & out[0] & sent_one[1] & begins))
    bench.check(PREFERENCE, ~(over & better_one & all_sent[1] & ~all_sent[0]))
    bench.check(KEY_SUMS, ~out[0] | kept_sum)
    bench.check_stream_rule("selected")
    return bench


def test_selector() -> None:
    """For all time, by property directed reachability; 295 flip-flops, 68 of them different."""
    prove(sorting(Selector(CONFIG), CONFIG, score_bits=SCORE_BITS))


@pytest.mark.slow
def test_selector_of_eight_candidates() -> None:
    """For all time, by property directed reachability; 306 flip-flops, 82 of them different."""
    config = replace(CONFIG, max_context=96)
    assert config.max_chunks == 8
    prove(sorting(Selector(config), config, score_bits=3), seconds=900)


#: What goes wrong, the claim that shows it, and the fault as a change of the source.
FAULTS = {
    "ties to the highest chunk": (
        ORDER,
        "entry.score >= offered.score",
        "entry.score > offered.score",
    ),
    "the worst first": (PREFERENCE, "entry.score >= offered.score", "entry.score <= offered.score"),
    "the last candidate is lost": (COUNT, "& ~ahead[-1])", "& ~ahead[-1] & ~offered.last)"),
    "an entry stays for the next job": (
        ONCE,
        "entries[-1].valid.eq(0)",
        "entries[-1].valid.eq(entries[-1].valid)",
    ),
    "the newcomer takes the slot of the best": (
        KEY_SUMS,
        "Mux(full, entries[-1].slot, count)",
        "Mux(full, entries[0].slot, count)",
    ),
    "candidates come while the selection leaves": (
        OFFERED,
        "self.candidates.ready.eq(~draining)",
        "self.candidates.ready.eq(1)",
    ),
    "groups are not looked at": (TOGETHER, "Mux(same.any(), ", "Mux(0, "),
    "a group goes on in the next job": (
        ORDER,
        "follows.eq(entries[1].valid)",
        "follows.eq(1)",
    ),
    "an item does not wait": (STAYS, "draining & (~selected.valid | selected.ready)", "draining"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faulty_selector_is_refuted(fault: str) -> None:
    """A counterexample of at most 20 cycles, by bounded model checking."""
    claim, old, new = FAULTS[fault]
    faulty = mutant(Selector, old, new)(CONFIG)
    refute(sorting(faulty, CONFIG, score_bits=SCORE_BITS), claim, cycles=20)
