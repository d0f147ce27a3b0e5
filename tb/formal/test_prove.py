"""The proof flow itself: what it proves, what it refutes, and what it says then."""

from __future__ import annotations

import pytest
from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from tb.formal.bench import Bench
from tb.formal.prove import CounterexampleError, UndecidedError, prove, refute


class Step(wiring.Component):
    """Counts to a limit: a state that random inputs reach late."""

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        super().__init__({"go": In(1), "count": Out(8)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        with m.If(self.go & (self.count != self._limit)):
            m.d.sync += self.count.eq(self.count + 1)
        return m


class Word(wiring.Component):
    """A memory of two words, which holds anything before it is written."""

    def __init__(self) -> None:
        super().__init__({"write": In(1), "value": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.memory = memory = Memory(shape=1, depth=2, init=[])
        write, read = memory.write_port(), memory.read_port(domain="comb")
        m.d.comb += [write.en.eq(self.write), self.value.eq(read.data)]
        return m


def counting(limit: int, bound: int) -> Bench:
    bench = Bench(Step(limit=limit))
    bench.check(f"the count stays at {bound} or below", bench.component.count <= bound)
    return bench


def test_proof_for_all_time(capsys: pytest.CaptureFixture[str]) -> None:
    proof = prove(counting(5, 5))
    assert (proof.checks, proof.cycles) == (1, None)
    # The count, and the flags of the first cycle and of the folded assumption.
    assert 8 <= proof.flip_flops <= 10
    assert "1 checks hold for all time" in capsys.readouterr().out


def test_counterexample_is_replayed_and_readable() -> None:
    with pytest.raises(CounterexampleError) as caught:
        prove(counting(5, 2))
    # Reset, three steps, and the cycle that shows it.
    assert caught.value.cycles == 5
    assert caught.value.violated == ("the count stays at 2 or below",)
    heading, *lines = str(caught.value).splitlines()
    assert heading == "after 5 cycles this does not hold: the count stays at 2 or below"
    # What is asked for in the cycle of reset and in the last one plays no part.
    columns = {line.split()[0]: line.split()[1:] for line in lines}
    asked = columns.pop("go")
    assert columns == {
        "cycle": ["0", "1", "2", "3", "4"],
        "reset": ["1", "0", ".", ".", "."],
        "count": ["0", ".", "1", "2", "3"],
    }
    # A dot is the value of the cycle before.
    assert asked[1] in ("1", "." if asked[0] == "1" else "1")
    assert asked[2:4] == [".", "."]
    assert {len(line) for line in lines} == {len("cycle 0 1 2 3 4")}
    assert [line.split()[0] for line in lines] == ["cycle", "reset", "go", "count"]


def test_bounded_proof_ends_at_its_bound() -> None:
    # The count is 3 in the fifth cycle: the reset, three steps, and the cycle that shows it.
    assert prove(counting(5, 2), cycles=4).cycles == 4
    with pytest.raises(CounterexampleError) as caught:
        prove(counting(5, 2), cycles=5)
    assert caught.value.cycles == 5


def test_assumption_holds_in_every_cycle() -> None:
    bench = counting(5, 2)
    bench.assume(bench.component.count + bench.component.go <= 2)
    prove(bench)


def test_reset_does_not_clear_everything() -> None:
    def bench(*, reset_less: bool) -> Bench:
        bench = Bench(Step(limit=5))
        count, steps = bench.component.count, Signal(8, reset_less=reset_less)
        bench.module.d.sync += steps.eq(Mux(count == 5, 5, steps + bench.inputs["go"]))
        bench.check("the count is that of the steps", count == steps)
        return bench

    prove(bench(reset_less=False))
    with pytest.raises(CounterexampleError):
        prove(bench(reset_less=True))


def test_memories_start_with_anything() -> None:
    bench = Bench(Word())
    bench.check("what was never written is 0", ~bench.component.value)
    with pytest.raises(CounterexampleError, match="if memories start with other values"):
        prove(bench)


def test_free_memories_promise_nothing() -> None:
    def bench() -> Bench:
        bench = Bench(Word())
        bench.tie("write", 1)
        written = bench.before(1)
        bench.check("what was written comes back", ~written | ~bench.component.value)
        return bench

    prove(bench())
    with pytest.raises(CounterexampleError):
        prove(bench(), free_memories=True)


@pytest.mark.parametrize("bound", [7, 6])
def test_constant_is_free_but_for_its_changes(bound: int) -> None:
    bench = counting(5, 5)
    number = bench.constant("number", 3)
    bench.check("the constant stays", ~bench.before(1) | (number == bench.before(number)))
    if bound == 7:
        prove(bench)
    else:
        bench.check("the constant is 6 at most", number <= bound)
        refute(bench, "the constant is 6 at most")


def test_refuting_what_holds() -> None:
    with pytest.raises(AssertionError, match="this was to be refuted: the count stays at 5"):
        refute(counting(5, 5), "the count stays at 5 or below")


def test_no_checks() -> None:
    with pytest.raises(ValueError, match="the bench has no checks"):
        prove(Bench(Step(limit=1)))


class Product(wiring.Component):
    """Multiplies what comes in: finding factors takes a solver hours."""

    def __init__(self) -> None:
        super().__init__({"a": In(32), "b": In(32), "product": Out(64)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.sync += self.product.eq(self.a * self.b)
        return m


@pytest.mark.slow
def test_no_answer_in_time() -> None:
    bench = Bench(Product())
    a, b = bench.inputs["a"], bench.inputs["b"]
    bench.assume((a > 1) & (b > 1))
    # The product of two primes; near 2**32, they would be found within the second.
    bench.check("nobody knows the factors", bench.component.product != 2864434399 * 3735928579)
    with pytest.raises(UndecidedError, match="no answer in 1 s"):
        prove(bench, seconds=1)


def test_state_that_says_nothing_is_merged_away() -> None:
    # Two counts that are always equal: the claim is decided before the solver starts.
    bench = counting(5, 5)
    again = Step(limit=5)
    bench.module.submodules.again = again
    bench.module.d.comb += again.go.eq(bench.inputs["go"])
    bench.violations.clear()
    bench.check("both count alike", again.count == bench.component.count)
    proof = prove(bench)
    assert proof.flip_flops >= 6
    assert proof.merged == 0
