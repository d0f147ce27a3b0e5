"""Parts of the DRAM controller: timers, the order of age, refreshes; for all time, any inputs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.memory.dram import load_standard
from hw.memory.dram.controller import ControllerConfig
from hw.memory.dram.controller import age_matrix as age_module
from hw.memory.dram.controller.age_matrix import AgeMatrix
from hw.memory.dram.controller.distances import Distances
from hw.memory.dram.controller.refresh import RefreshManager
from hw.memory.dram.controller.timer import Timer
from tb.formal.bench import Bench
from tb.formal.mutant import mutant
from tb.formal.prove import prove, refute

# --- timer ----------------------------------------------------------------------------------------

DISTANCES = {"one": 1, "two": 2, "seven": 7, "twelve": 12}
KEPT = "a distance is kept if and only if no event is closer"


def timing(timer: Timer) -> Bench:
    """Say what a timer shows, with the events of the last clocks in a shift register."""
    bench = Bench(timer)
    events = Signal(max(DISTANCES.values()))  # bit i: an event i + 1 clocks ago
    bench.module.d.sync += events.eq(Cat(timer.start, events[:-1]))
    shown = [timer[name] == ~events[: n - 1].any() for name, n in DISTANCES.items() if n > 1]
    bench.check(KEPT, Cat(*shown, timer["one"]).all())
    return bench


def test_timer() -> None:
    prove(timing(Timer(**DISTANCES)))


TIMER_FAULTS = {
    "a clock too early": ("left.eq(longest - 1)", "left.eq(longest - 2)"),
    "a clock too late": ("longest - distance,", "longest - distance - 1,"),
    "an event while it counts is lost": ("m.If(self.start)", "m.If(self.start & (left == 0))"),
}


@pytest.mark.parametrize("fault", TIMER_FAULTS)
def test_faulty_timer_is_refuted(fault: str) -> None:
    refute(timing(mutant(Timer, *TIMER_FAULTS[fault])(**DISTANCES)), KEPT, cycles=20)


# --- order of age ---------------------------------------------------------------------------------

THINGS = 4
ORDER = "of any three things the order is total"
ONE = "the oldest is one that asks, and the only one, if any asks"
OLDEST = "nothing that asks is older than the oldest"
RENEWED = "what is renewed becomes younger than what is not"
HIGHEST = "of two that are renewed the higher becomes the younger"
STAYS = "the order of two that are not renewed stays"


class Ages(wiring.Component):
    """An age matrix and the choice that is made with it."""

    def __init__(self, matrix: type = AgeMatrix) -> None:
        self._matrix = matrix
        super().__init__(
            {
                "renew": In(THINGS),
                "requests": In(THINGS),
                "older": Out(THINGS * THINGS),
                "chosen": Out(THINGS),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Connect both."""
        m = Module()
        m.submodules.matrix = matrix = self._matrix(THINGS)
        m.d.comb += [
            matrix.renew.eq(self.renew),
            self.older.eq(matrix.older),
            self.chosen.eq(age_module.oldest(self.requests, matrix.older)),
        ]
        return m


def ageing(ages: Ages) -> Bench:
    """Say what the order is."""
    bench = Bench(ages)
    things = range(THINGS)

    def older(i: int, j: int) -> Signal:
        return ages.older[i * THINGS + j]

    pairs = [(i, j) for i in things for j in things if i != j]
    total = [older(i, j) == ~older(j, i) for i, j in pairs]
    total += [
        ~(older(i, j) & older(j, k)) | older(i, k)
        for i, j in pairs
        for k in things
        if k not in (i, j)
    ]
    bench.check(ORDER, Cat(*total).all())
    chosen, requests = ages.chosen, ages.requests
    single = (chosen & (chosen - 1)) == 0
    bench.check(ONE, single & ((chosen & ~requests) == 0) & (chosen.any() == requests.any()))
    bench.check(OLDEST, Cat(*(~(chosen[j] & requests[i] & older(i, j)) for i, j in pairs)).all())
    renewed = bench.before(ages.renew)
    was = bench.before(ages.older)
    started = bench.before(1)
    bench.check(RENEWED, Cat(*(~(renewed[j] & ~renewed[i]) | older(i, j) for i, j in pairs)).all())
    both = (~(renewed[i] & renewed[j]) | older(i, j) for i, j in pairs if i < j)
    bench.check(HIGHEST, Cat(*both).all())
    same = (renewed[i] | renewed[j] | (older(i, j) == was[i * THINGS + j]) for i, j in pairs)
    bench.check(STAYS, ~started | Cat(*same).all())
    return bench


def test_age_matrix() -> None:
    prove(ageing(Ages()))


AGE_FAULTS = {
    "a renewal tells only the lower things": (
        ORDER,
        "m.Elif(self.renew[i])",
        "m.Elif(self.renew[i] & int(i != 1))",
    ),
    "of two renewed the lower is the younger": (
        HIGHEST,
        "m.If(self.renew[j])",
        "m.If(self.renew[j] & ~self.renew[i])",
    ),
    "the renewed becomes the oldest": (RENEWED, "older.eq(1)", "older.eq(0)"),
    "a renewal without a request": (STAYS, "m.Elif(self.renew[i])", "m.Else()"),
}


@pytest.mark.parametrize("fault", AGE_FAULTS)
def test_faulty_age_matrix_is_refuted(fault: str) -> None:
    claim, old, new = AGE_FAULTS[fault]
    refute(ageing(Ages(mutant(AgeMatrix, old, new))), claim, cycles=12)


# --- refreshes ------------------------------------------------------------------------------------

_HBM2 = load_standard("hbm2-2000")
#: Two bank groups of a bank each; a refresh comes due every 24 clocks.
STANDARD = replace(
    _HBM2,
    pseudo_channels=1,
    bank_groups=2,
    banks_per_group=1,
    rows=2,
    timing={**_HBM2.timing, "tREFI": 48, "tRFCab": 16, "tpbRround": 4},
)
CONFIG = ControllerConfig(standard=STANDARD, refresh_debt=1)
SETS = len(CONFIG.bank_sets)
#: Clocks from a request to its grant, and from a claim to banks that are ready, at most.
PATIENCE = 3
BOUND = "no more than 2 rounds are owed"
ONCE = "a round does every set once"
CLAIM = "what is claimed is the set that is refreshed, and nothing else"
DEBT = "the debt is what came due less what was done"
STAY = "a claim stays until its refresh"


def refreshing(manager: RefreshManager) -> Bench:
    """Say what a refresh manager promises if claimed banks stop and grants come in time."""
    bench = Bench(manager)
    m = bench.module
    claimed, request = manager.claimed, manager.request
    bench.assume(~manager.grant | request)
    waited = Signal(range(2 * PATIENCE + 2))
    ready = (claimed & ~manager.ready) == 0
    m.d.sync += waited.eq(
        Mux(claimed.any() & ~manager.grant, Mux(ready & ~request, waited, waited + 1), 0)
    )
    bench.assume(waited < PATIENCE)

    done = Signal(SETS)
    target = Signal(SETS)
    m.d.comb += target.eq(1 << manager.target)
    with m.If(manager.grant):
        m.d.sync += done.eq(Mux((done | target).all(), 0, done | target))
    bench.check(ONCE, ~manager.grant | ((done & target) == 0))
    banks = [sum(1 << bank for bank in banks) for banks in CONFIG.bank_sets]
    asked = Mux(manager.target == 0, banks[0], banks[1])
    bench.check(CLAIM, (claimed == 0) | (claimed == asked))
    bench.check(CLAIM + ", ready", ~request | ((claimed != 0) & ready))
    before = bench.before(claimed)
    bench.check(STAY, bench.before(manager.grant) | (before == 0) | (claimed == before))
    bench.check(BOUND, manager.debt <= 2 * SETS)
    clock = Signal(range(STANDARD["tREFI"] // SETS))
    debt = Signal.like(manager.debt, name="model_debt")
    due = clock == STANDARD["tREFI"] // SETS - 1
    m.d.sync += [clock.eq(Mux(due, 0, clock + 1)), debt.eq(debt + due - manager.grant)]
    bench.check(DEBT, manager.debt == debt)
    return bench


def test_refresh_manager() -> None:
    prove(refreshing(RefreshManager(CONFIG, Distances(STANDARD, 1, 0))), seconds=120)


REFRESH_FAULTS = {
    "a set twice": (ONCE, "left & ~chosen", "left"),
    "not before a bank is ready": (CLAIM + ", ready", "active & ready & may", "active & may"),
    "a grant does not count": (DEBT, "+ due - self.grant", "+ due"),
    "nothing is forced": (BOUND, "m.d.sync += forced.eq(1)", "m.d.sync += forced.eq(0)"),
    "another set while one waits": (STAY, "m.Elif(~active & ", "m.Elif("),
}


@pytest.mark.parametrize("fault", REFRESH_FAULTS)
def test_faulty_refresh_manager_is_refuted(fault: str) -> None:
    claim, old, new = REFRESH_FAULTS[fault]
    faulty = mutant(RefreshManager, old, new)(CONFIG, Distances(STANDARD, 1, 0))
    refute(refreshing(faulty), claim, cycles=160)
