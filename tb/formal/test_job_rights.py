"""JobRights of a core that writes: no two in flight have one cache, and a prompt keeps its slot.

Two job slots and the one of prompts; a gate that takes one at a time, holds a cache only when
nobody has it, and sends every one it took. The core ends jobs in order, and the prompt at any time.
"""

from __future__ import annotations

from typing import Any

import pytest
from amaranth.hdl import Cat, Signal, Value

from hw.memory.kv_mmu.config import MmuConfig
from hw.memory.kv_mmu.formats import Region
from hw.memory.kv_mmu.job_rights import JobRights
from tb.formal.bench import Bench
from tb.formal.mutant import mutant
from tb.formal.prove import prove, refute
from tb.formal.small import SmallConfig

JOBS = 2
CONFIG = MmuConfig(
    attention=SmallConfig(
        layers=2,
        kv_heads=1,
        head_dim=32,
        group=16,
        rows=1,
        max_context=64,
        slots=16,
        jobs_in_flight=JOBS,
    ),
    sequences=2,
    pages=4,
    page_bytes=1024,
    writes=True,
)

ALONE = "no two in flight have the same cache"
RIGHTS = "only who is in flight has rights"
ROOM = "a slot is free exactly if nobody in flight has it"
PLACE = "whose rights are in the slot area has the place of the cache that nobody else has"
STATUS = "the status of an end is the one that it was sent with"


def keeping(unit: Any) -> Bench:
    """Say what the slots promise."""
    bench = Bench(unit(CONFIG))
    m, rights = bench.module, bench.component
    #: The gate: what it is at, and whether it has held the cache.
    at, held, of_prompt = Signal(), Signal(), Signal()
    prompts = bench.free("prompts")
    take = bench.free("takes") & ~at
    bench.tie("of_prompt", prompts)
    takes = Signal()
    m.d.comb += takes.eq(take & ((prompts & rights.prompt_room) | (~prompts & rights.room)))
    bench.tie("take", takes)
    hold, grant, sent = Signal(), Signal(), Signal()
    m.d.comb += [
        grant.eq(bench.free("grants") & at & (held | hold)),
        hold.eq(bench.free("holds") & at & ~held & ~rights.same),
        sent.eq(bench.free("sends") & at),
    ]
    bench.tie("hold", hold)
    bench.tie("grant", grant)
    direct = bench.free("in_area")
    bench.tie("direct", direct)
    bench.tie("sent", sent)
    bench.hold("cache", at & ~takes)
    with m.If(takes):
        m.d.sync += [at.eq(1), held.eq(0), of_prompt.eq(prompts)]
    with m.If(hold):
        m.d.sync += held.eq(1)
    with m.If(sent):
        m.d.sync += at.eq(0)

    # The core: jobs that were sent, in order, and the prompt.
    newest, oldest, jobs = Signal(range(JOBS)), Signal(range(JOBS)), Signal(range(JOBS + 1))
    prompt_there = Signal()
    done, prompt_done = Signal(), Signal()
    m.d.comb += [
        done.eq(bench.free("ends") & (jobs != 0)),
        prompt_done.eq(bench.free("prompt_ends") & prompt_there),
    ]
    bench.tie("done", done)
    bench.tie("prompt_done", prompt_done)
    m.d.sync += [
        jobs.eq(jobs + (sent & ~of_prompt) - done),
        newest.eq(newest + (sent & ~of_prompt)),
        oldest.eq(oldest + done),
        prompt_there.eq((prompt_there | (sent & of_prompt)) & ~prompt_done),
    ]

    # The cache, and the status, of each slot, as they came.
    slots = range(JOBS + 1)
    caches = [Signal.like(rights.cache, name=f"own_{i}") for i in slots]
    has = [Signal(name=f"has_{i}") for i in slots]
    statuses = [Signal.like(Value.cast(rights.status), name=f"sent_{i}") for i in slots]
    used = [Signal(name=f"used_{i}") for i in slots]
    in_area = [Signal(name=f"in_area_{i}") for i in slots]
    for i in slots:
        mine = of_prompt if i == JOBS else ~of_prompt & (newest == i)
        ends = prompt_done if i == JOBS else done & (oldest == i)
        starts = takes & (prompts if i == JOBS else ~prompts & (newest == i))
        with m.If(starts):
            m.d.sync += used[i].eq(1)
        with m.If(hold & mine):
            m.d.sync += [has[i].eq(1), caches[i].eq(rights.cache)]
        with m.If(grant & mine):
            m.d.sync += in_area[i].eq(direct)
        with m.If(sent & mine):
            m.d.sync += statuses[i].eq(Value.cast(rights.status))
        with m.If(ends):
            m.d.sync += [has[i].eq(0), used[i].eq(0)]
    pairs = [(i, j) for i in slots for j in slots if i < j]
    bench.check(ALONE, Cat(~(has[i] & has[j]) | (caches[i] != caches[j]) for i, j in pairs).all())
    pages = [Cat(rights.slots[i].pages[r] for r in Region) for i in slots]
    bench.check(RIGHTS, Cat(used[i] | ~pages[i].any() for i in slots).all())
    places = [rights.slots[i].cache == caches[i][: CONFIG.cache_bits] for i in slots]
    rightly = [
        (rights.slots[i].direct == in_area[i]) & (~in_area[i] | (has[i] & places[i])) for i in slots
    ]
    bench.check(PLACE, Cat(~pages[i].any() | rightly[i] for i in slots).all())
    free = Cat(~used[i] & (newest == i) for i in range(JOBS)).any()
    bench.check(ROOM, at | ((rights.room == free) & (rights.prompt_room == ~used[JOBS])))
    oldest_status = Cat(
        (oldest == i) & (Value.cast(rights.done_status) == statuses[i]) for i in range(JOBS)
    ).any()
    same = Value.cast(rights.prompt_status) == statuses[JOBS]
    bench.check(STATUS, ((jobs == 0) | oldest_status) & (~prompt_there | same))
    return bench


CLAIMS = (ALONE, RIGHTS, PLACE, ROOM, STATUS)


def test_slots_keep_what_they_promise() -> None:
    """For all time, by property directed reachability."""
    prove(keeping(JobRights), seconds=120)


#: What goes wrong, the claim that shows it, and the fault as a change of the source.
FAULTS = {
    "another cache is looked at": (ALONE, "held & (cache == self.cache)", "0"),
    "a cache is not held": (ALONE, "[held.eq(1), cache.eq(self.cache)]", "cache.eq(self.cache)"),
    "rights outlive their job": (RIGHTS, "limits[i][r].eq(0)", "limits[i][r].eq(1)"),
    "pages and places are confused": (PLACE, "direct.eq(self.direct)", "direct.eq(~self.direct)"),
    "the place of the cache that is asked for": (
        PLACE,
        "cache.eq(cache[: self._config.cache_bits])",
        "cache.eq(self.cache[: self._config.cache_bits])",
    ),
    "a prompt takes a job's slot": (ROOM, "self.take & self.of_prompt", "0"),
    "the status of another job": (
        STATUS,
        "done_status.eq(statuses[oldest])",
        "done_status.eq(statuses[newest])",
    ),
    "the status of a job for a prompt": (
        STATUS,
        "statuses[jobs] if config.writes",
        "statuses[0] if config.writes",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faulty_units_are_refuted(fault: str) -> None:
    """A counterexample of at most 30 cycles, by bounded model checking."""
    claim, old, new = FAULTS[fault]
    refute(keeping(mutant(JobRights, old, new)), claim, cycles=30)
