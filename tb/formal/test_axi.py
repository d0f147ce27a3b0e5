"""AxiMaster: the handshakes of AXI4, and every word of a read once, with its place.

The bus answers with any word of any ID under way, those of one ID in order. The claims hold under
any back-pressure and any reset.
"""

from __future__ import annotations

import pytest
from amaranth.hdl import Array, Cat, Signal

from hw.memory.axi import AxiMaster
from hw.memory.axi.page_split import PageSplit
from hw.memory.axi.read_side import ReadSide
from hw.memory.axi.write_side import WriteSide
from hw.memory.port import BURST_BEATS
from tb.formal.bench import Bench
from tb.formal.mutant import mutant
from tb.formal.prove import prove, refute

#: Most bursts of a request here.
BURSTS = 2

AR, AW, W = (f"{name} waits for its READY" for name in ("AR", "AW", "W"))
PAGE = "no burst crosses 4 KiB"
FREE = "an ID under way gets no other request"
PLACE = "every word of a request is answered, once and in its place, under its id"
NOTHING = "nothing is answered that did not come"


def mastering(master: AxiMaster) -> Bench:
    """Say what the master promises to the bus."""
    bench = Bench(master)
    bench.assume_stream_rule("channel__request", "channel__write_data")
    for claim, name in ((AR, "ar"), (AW, "aw"), (W, "w")):
        fields = {
            "ar": ("arid", "araddr", "arlen", "arsize", "arburst"),
            "aw": ("awid", "awaddr", "awlen", "awsize", "awburst"),
            "w": ("wdata", "wstrb", "wlast"),
        }[name]
        payload = Cat(getattr(master, field) for field in fields)
        valid, ready = (getattr(master, f"{name}{end}") for end in ("valid", "ready"))
        waits = bench.before(valid & ~ready)
        bench.check(claim, ~waits | (valid & (payload == bench.before(payload))))
    within = [
        (address[:12] + ((length + 1) << size)) <= 4096
        for address, length, size in (
            (master.araddr, master.arlen, master.arsize),
            (master.awaddr, master.awlen, master.awsize),
        )
    ]
    requests = bench.stream("channel__request")
    bench.assume(requests.payload.address[:5] == 0)
    bench.check(PAGE, (~master.arvalid | within[0]) & (~master.awvalid | within[1]))
    return bench


def reading(side: ReadSide) -> Bench:
    """Say what the reading side promises, to a bus that keeps its own promises."""
    bench = Bench(side)
    m = bench.module
    parts = bench.stream("parts")
    part = Signal.like(parts.payload)
    # Requests of one part: what a second one is, the splitter decides.
    size, its_id = bench.free("bursts_less_one"), bench.free("id")
    m.d.comb += [
        part.bursts_less_one.eq(size),
        part.request_bursts_less_one.eq(size),
        part.id.eq(its_id),
        part.first.eq(1),
        part.last.eq(1),
    ]
    bench.tie("parts__payload", part)
    asked = side.arvalid & side.arready

    # The bus: words to come, by ID.
    words = range(BURSTS * BURST_BEATS + 1)
    left = Array(Signal(words, name=f"left_{i}") for i in range(2))
    rid = bench.free("rid_chosen")
    bench.tie("rid", rid)
    bench.tie("rvalid", bench.free("answers") & (left[rid] != 0))
    with m.If(side.rvalid):
        m.d.sync += left[rid].eq(left[rid] - 1)
    with m.If(asked):
        m.d.sync += left[side.arid].eq(side.arlen + 1)
    bench.check(FREE, ~asked | (left[side.arid] == 0))

    # One tracked request: from its part to AR, and then its words.
    sent = parts.valid & parts.ready
    mark = bench.free("mark")
    tracked, on_bus, owner, slot = Signal(), Signal(), Signal(), Signal()
    beat, most = Signal(words), Signal(words)
    with m.If(sent & mark & ~tracked):
        m.d.sync += [tracked.eq(1), on_bus.eq(0), owner.eq(its_id), beat.eq(0)]
        m.d.sync += most.eq((size + 1) * BURST_BEATS)
    with m.If(tracked & ~on_bus & asked):
        m.d.sync += [on_bus.eq(1), slot.eq(side.arid)]
    its = tracked & on_bus & side.rvalid & (rid == slot)
    with m.If(its):
        m.d.sync += [beat.eq(beat + 1), tracked.eq(beat + 1 != most)]
    answer = side.response
    right = (answer.payload.id == bench.before(owner)) & (answer.payload.beat == bench.before(beat))
    bench.check(PLACE, ~bench.before(its) | (answer.valid & right))
    bench.check(NOTHING, answer.valid == bench.before(side.rvalid))
    return bench


def master() -> AxiMaster:
    return AxiMaster(id_bits=1, gear=1, axi_id_bits=1)


def test_handshakes() -> None:
    """For all time, by property directed reachability; 763 flip-flops."""
    prove(mastering(master()))


def test_reads() -> None:
    """For all time, by property directed reachability; 59 flip-flops."""
    prove(reading(ReadSide(1, gear=1, axi_id_bits=1)))


#: The class, what goes wrong, the claim that shows it, and the fault as a change of the source.
MASTER_FAULTS = {
    "AR moves on": (ReadSide, AR, "~self.arvalid | self.arready", "1"),
    "AW moves on": (WriteSide, AW, "~self.awvalid | self.awready", "1"),
    "W is withdrawn": (WriteSide, W, "self.wvalid.eq(out.valid)", "self.wvalid.eq(into.valid)"),
    "a longer page": (
        PageSplit,
        PAGE,
        "PAGE_BYTES // BURST_BYTES",
        "PAGE_BYTES // BURST_BYTES + 1",
    ),
}
READ_FAULTS = {
    "an ID is free a word early": (FREE, "(more[self.rid] == 0)", "(more[self.rid] == 1)"),
    "the request of the other ID": (
        PLACE,
        "payload.id.eq(owner[self.rid])",
        "payload.id.eq(owner[0])",
    ),
    "every word is the first": (PLACE, "beat[self.rid] + self._gear", "0"),
    "a word is lost": (NOTHING, "known & (more[self.rid] == 0)", "known & (more[self.rid] < 2)"),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", MASTER_FAULTS)
def test_faulty_master_is_refuted(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A counterexample of at most 30 cycles, by bounded model checking."""
    part, claim, old, new = MASTER_FAULTS[fault]
    monkeypatch.setattr(f"hw.memory.axi.master.{part.__name__}", mutant(part, old, new))
    refute(mastering(master()), claim, cycles=30)


@pytest.mark.parametrize("fault", READ_FAULTS)
def test_faulty_reads_are_refuted(fault: str) -> None:
    """A counterexample of at most 30 cycles, by bounded model checking."""
    claim, old, new = READ_FAULTS[fault]
    refute(reading(mutant(ReadSide, old, new)(1, gear=1, axi_id_bits=1)), claim, cycles=30)
