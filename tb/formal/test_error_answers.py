"""ErrorAnswers: the memory's answers pass, and a refused request gets every beat once, in order."""

from __future__ import annotations

import pytest
from amaranth.hdl import Cat, Signal

from hw.memory.kv_mmu.error_answers import ErrorAnswers
from tb.formal.bench import Bench
from tb.formal.mutant import mutant
from tb.formal.prove import prove, refute

PASSES = "an answer of the memory leaves in the next cycle as it came"
REFUSED = "in another cycle a refused request gets its next beat"
NOTHING = "nothing else comes"
TAKEN = "a refused request is taken with its last beat"


def answering(errors: ErrorAnswers) -> Bench:
    """Say what the unit promises."""
    bench = Bench(errors)
    m = bench.module
    refused, answer, response = (bench.stream(n) for n in ("refused", "answer", "response"))
    bench.assume_stream_rule("refused")
    # The data of an answer only move: their lowest bits stand for all.
    payload = Signal.like(answer.payload)
    m.d.comb += [
        payload.data.eq(bench.free("data", 2)),
        payload.tag.eq(bench.free("tag")),
        payload.beat.eq(bench.free("beat", 5)),
        payload.error.eq(bench.free("error")),
    ]
    bench.tie("answer__payload", payload)

    beat = Signal(6)
    sends = refused.valid & ~answer.valid
    last = beat == 2 * (refused.payload.bursts_less_one + 1) - 1
    with m.If(sends):
        m.d.sync += beat.eq(beat + 1)
        with m.If(last):
            m.d.sync += beat.eq(0)
    came, sent = bench.before(answer.valid), bench.before(sends)
    same = response.payload.as_value() == bench.before(payload.as_value())
    bench.check(PASSES, ~came | (response.valid & same))
    found = Cat(response.payload.tag, response.payload.beat, response.payload.error)
    wanted = Cat(bench.before(refused.payload.tag), bench.before(beat)[:5], 1)
    bench.check(REFUSED, ~sent | (response.valid & (found == wanted)))
    bench.check(NOTHING, came | sent | ~response.valid)
    bench.check(TAKEN, refused.ready == (sends & last))
    return bench


def test_error_answers() -> None:
    """For all time, by property directed reachability."""
    prove(answering(ErrorAnswers(tag_bits=1)))


#: What goes wrong, the claim that shows it, and the fault as a change of the source.
FAULTS = {
    "an error in the place of an answer": (
        PASSES,
        "Mux(self.answer.valid, self.answer.payload, error)",
        "Mux(sends | self.refused.valid, error, self.answer.payload)",
    ),
    "the same beat again": (REFUSED, "Mux(self.refused.ready, 0, beat + 1)", "beat"),
    "an answer that stays": (
        NOTHING,
        "self.answer.valid | sends",
        "self.answer.valid | sends | self.response.valid",
    ),
    "half of the beats": (TAKEN, "Const(1).replicate(BURST_BEATS // 2), ", ""),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faulty_error_answers_are_refuted(fault: str) -> None:
    """A counterexample of at most 40 cycles, by bounded model checking."""
    claim, old, new = FAULTS[fault]
    refute(answering(mutant(ErrorAnswers, old, new)(tag_bits=1)), claim, cycles=40)
