"""Translator: no request leaves for a page of another sequence, whatever the slot table holds.

Four pages, four sequences, two job slots. Loads of the slot table are free, as if the memory, the
walker and the pool were all wrong; so are the requests. The owners change at will, but for what the
pool promises: a page of a sequence with a job in flight stays (tb/formal/test_job_isolation.py).
With a slot area, each job has pages or a place there, whichever it may be.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from amaranth.hdl import Array, Cat, Const, Mux, Signal, Value

from hw.memory.kv_mmu.config import MmuConfig
from hw.memory.kv_mmu.formats import OFFSET_BITS, REGION_BITS, Region
from hw.memory.kv_mmu.translator import Translator
from tb.formal.bench import Bench
from tb.formal.mutant import mutant
from tb.formal.prove import prove, refute
from tb.formal.small import SmallConfig

PAGES = 4
CONFIG = MmuConfig(
    attention=SmallConfig(
        layers=1, kv_heads=1, head_dim=32, group=16, max_context=64, jobs_in_flight=2
    ),
    sequences=4,
    pages=PAGES,
    page_bytes=1024,
)
#: With a slot area: places of four caches for each sequence, of two pages' bytes.
AREA = replace(
    CONFIG,
    attention=replace(CONFIG.attention, jobs_in_flight=1, slots=16),
    writes=True,
)
#: The tag tells the slot, the region and the page of a request, and whether these were too large.
SLOT, REGION, INDEX, OVER = 1, 2, 3, 1
TAG_BITS = SLOT + REGION + INDEX + OVER

OWNED = "the page of a granted request belongs to the sequence of its job"
BOUNDS = "a granted request is below the number of pages of its job and region"
INSIDE = "a granted request lies within its page"
PLACE = "a granted request of a job with a place lies there, at its offset"
LOST = "what goes in comes out, granted or refused"
GRANTED_STAYS = "granted stays until its transfer"
REFUSED_STAYS = "refused stays until its transfer"


def translating(translator: Translator, config: MmuConfig = CONFIG) -> Bench:
    """Say what a translator promises."""
    bench = Bench(translator)
    m = bench.module
    request, granted, refused = (bench.stream(n) for n in ("request", "granted", "refused"))

    # Owners, as they were told; a page of a sequence that has a job may not change hands.
    told = Signal(PAGES)
    allocated = Signal(PAGES)
    holder = Array(Signal(2, name=f"holder_{i}") for i in range(PAGES))
    owner = translator.owner
    sequences = [bench.constant(f"sequence_{i}", 2) for i in range(2)]
    limits = [[bench.constant(f"limit_{i}_{r}", INDEX + 1) for r in Region] for i in range(2)]
    area = config.slot_area
    directs: list[Value] = [Const(0), Const(0)]
    if config.has_slot_area:
        directs = [bench.constant(f"direct_{i}") for i in range(2)]
        caches = [bench.constant(f"cache_{i}", config.cache_bits) for i in range(2)]
    for i in range(2):
        slot = Signal.like(translator.slots[i].as_value(), name=f"slot_{i}")
        of_area = [directs[i], caches[i]] if config.has_slot_area else []
        m.d.comb += slot.eq(Cat(sequences[i], *limits[i], *of_area))
        bench.tie(f"slots__{i}", slot)
        # A job has at most all pages of a region.
        for r in Region:
            bench.assume(limits[i][r] <= config.region_entries(r))
    was = holder[owner.page]
    in_use = (was == sequences[0]) | (was == sequences[1])
    keeps = told.bit_select(owner.page, 1) & allocated.bit_select(owner.page, 1) & in_use
    bench.assume(~owner.enable | ~keeps)
    with m.If(owner.enable):
        m.d.sync += [
            told.bit_select(owner.page, 1).eq(1),
            allocated.bit_select(owner.page, 1).eq(owner.allocated),
            holder[owner.page].eq(owner.sequence),
        ]

    # Requests; none comes before every page had its word.
    address = bench.free("address", 32)
    asked = Signal.like(request.payload)
    index = address[config.page_shift : OFFSET_BITS]
    number = address[OFFSET_BITS + REGION_BITS :]
    over = (index >> INDEX).any() | (number > 1)
    m.d.comb += [
        asked.address.eq(address),
        asked.bursts_less_one.eq(bench.free("bursts_less_one", 4)),
        asked.tag.eq(Cat(number[:SLOT], address[OFFSET_BITS:][:REGION], index[:INDEX], over)),
    ]
    bench.tie("request__payload", asked)
    bench.tie("request__valid", bench.free("asks") & told.all())

    tag = granted.payload.tag
    slot, region = tag[:SLOT], tag[SLOT : SLOT + REGION]
    which, over = tag[SLOT + REGION : SLOT + REGION + INDEX], tag[-1]
    limit = Array(Array(each) for each in limits)[slot][region]
    place = Signal(32)
    direct = Signal()
    m.d.comb += [
        direct.eq(Array(directs)[slot]),
        place.eq(granted.payload.address - Mux(direct, area.address, config.first_page)),
    ]
    page = place[config.page_shift :][:2]
    its = holder[page] == Array(sequences)[slot]
    bench.check(OWNED, ~granted.valid | direct | (allocated.bit_select(page, 1) & its))
    legal = ~over & (region <= max(Region)) & (which < limit)
    bench.check(BOUNDS, ~granted.valid | legal)
    end = place[: config.page_shift] + ((granted.payload.bursts_less_one + 1) << 5)
    contained = (direct | (place >> config.page_shift < PAGES)) & (end <= config.page_bytes)
    bench.check(INSIDE, ~granted.valid | contained)
    if config.has_slot_area:
        stride = area.stride.bit_length() - 1
        number = Cat(Array(caches)[slot], Array(sequences)[slot])
        offset = place[config.page_shift : stride] == which[: stride - config.page_shift]
        bench.check(PLACE, ~granted.valid | ~direct | ((place >> stride == number) & offset))
    inside = Signal(4)
    come = request.valid & request.ready
    gone = (granted.valid & granted.ready) | (refused.valid & refused.ready)
    m.d.sync += inside.eq(inside + come - gone)
    some = granted.valid | refused.valid
    bench.check(LOST, (inside <= 3) & (~some | (inside != 0)) & ~(granted.valid & refused.valid))
    bench.check_stream_rule("granted", payload=Cat(page, tag))
    bench.check_stream_rule("refused", payload=refused.payload.tag)
    return bench


def claiming(bench: Bench, *claims: str) -> Bench:
    """Leave only these claims."""
    bench.violations = {claim: bench.violations[claim] for claim in claims}
    return bench


@pytest.mark.parametrize(
    "claims",
    [(OWNED,), (BOUNDS,), (INSIDE,), (LOST, GRANTED_STAYS, REFUSED_STAYS)],
    ids=["owned", "bounds", "inside", "streams"],
)
def test_translator(claims: tuple[str, ...]) -> None:
    """For all time, by property directed reachability."""
    prove(claiming(translating(Translator(CONFIG, tag_bits=TAG_BITS)), *claims), seconds=300)


def test_translator_with_a_slot_area() -> None:
    """No job reaches another sequence's place, or another cache's, nor a page without owning it."""
    bench = translating(Translator(AREA, tag_bits=TAG_BITS), AREA)
    prove(claiming(bench, OWNED, BOUNDS, INSIDE, PLACE), seconds=300)


def refute_on_one_page(bench: Bench, config: MmuConfig, claim: str) -> None:
    """Find a counterexample on page 0, as its replay starts with a slot table of zeros."""
    granted = bench.stream("granted")
    page = (granted.payload.address - config.first_page) >> config.page_shift
    in_area = granted.payload.address >= config.slot_area.address
    bench.assume(~granted.valid | (page == 0) | in_area)
    refute(bench, claim, cycles=20)


#: What goes wrong, the claim that shows it, and the fault as a change of the source.
FAULTS = {
    "whoever owns the page": (
        OWNED,
        "owner.data.allocated & (owner.data.sequence == sequences[1])",
        "owner.data.allocated",
    ),
    "a free page": (
        OWNED,
        "owner.data.allocated & (owner.data.sequence == sequences[1])",
        "owner.data.sequence == sequences[1]",
    ),
    "the sequence of the request behind": (OWNED, "== sequences[1])", "== sequences[0])"),
    "one page more": (BOUNDS, "(index < Array", "(index <= Array"),
    "a region of no name": (
        BOUNDS,
        "Array(slot.pages)[virtual.region]",
        "Array([*slot.pages, slot.pages[2]])[virtual.region]",
    ),
    "a slot that is not there": (BOUNDS, "[virtual.slot]),", "[virtual.slot[:1]]),"),
    "the length is not looked at": (INSIDE, "+ size <= config.page_bytes", "<= config.page_bytes"),
    "a stage that does not wait": (LOST, "advance.eq(~valid[2] | leaves)", "advance.eq(1)"),
    "an answer that is withdrawn": (
        GRANTED_STAYS,
        "advance.eq(~valid[2] | leaves)",
        "advance.eq(~valid[2] | leaves | self.request.valid)",
    ),
}


#: The same with a slot area.
AREA_FAULTS = {
    "the place of the sequence of the request behind": (
        PLACE,
        "slot, stages[1], sequences[1])",
        "slot, stages[1], sequences[0])",
    ),
    "a place among the pages": (PLACE, "Mux(direct[2], config.slot_area.address,", "Mux(0, 0,"),
    "pages without an owner": (OWNED, "is_owner | direct[1]", "is_owner | direct[0]"),
    "pages behind the slot area": (INSIDE, "Mux(direct[2],", "Mux(direct[1],"),
    "a place without a bound": (BOUNDS, "(index < Array", "(slot.direct) | (index < Array"),
}


@pytest.mark.parametrize("fault", AREA_FAULTS)
def test_faulty_slot_area_is_refuted(fault: str) -> None:
    """A counterexample of at most 20 cycles, by bounded model checking."""
    claim, old, new = AREA_FAULTS[fault]
    bench = translating(mutant(Translator, old, new)(AREA, tag_bits=TAG_BITS), AREA)
    refute_on_one_page(claiming(bench, claim), AREA, claim)


@pytest.mark.parametrize("fault", FAULTS)
def test_faulty_translator_is_refuted(fault: str) -> None:
    """A counterexample of at most 20 cycles, by bounded model checking."""
    claim, old, new = FAULTS[fault]
    faulty = mutant(Translator, old, new)(CONFIG, tag_bits=TAG_BITS)
    refute_on_one_page(claiming(translating(faulty), claim), CONFIG, claim)
