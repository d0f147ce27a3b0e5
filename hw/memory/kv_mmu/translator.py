"""Turns virtual addresses into physical ones, or refuses."""

from itertools import pairwise

from amaranth.hdl import Array, Cat, Const, Elaboratable, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.config import BURST_BYTES
from hw.counters import Counter
from hw.memory.kv_mmu.config import MmuConfig
from hw.memory.kv_mmu.formats import OFFSET_BITS, REGION_BITS, SLOT_BITS, Region, Violation
from hw.memory.kv_mmu.ports import owner_layout, slot_layout, table_load
from hw.memory.kv_mmu.table import region_constant
from hw.memory.port import ADDRESS_BITS, port_request

_BURST_SHIFT = BURST_BYTES.bit_length() - 1

#: A core's address, least significant field first.
VIRTUAL_ADDRESS = data.StructLayout(
    {"offset": OFFSET_BITS, "region": REGION_BITS, "slot": SLOT_BITS}
)


def violation_layout(config: MmuConfig) -> data.StructLayout:
    """What was refused: why, of which sequence, and the virtual address."""
    return data.StructLayout(
        {"kind": Violation, "sequence": config.sequence_bits, "address": ADDRESS_BITS}
    )


class Translator(wiring.Component):
    """Latency 3 cycles, one request per cycle; a refused one leaves in its turn, too.

    Two look-ups, each in a memory of its own: the page in the table of the job's slot, if it is
    below the number of pages that the job may access; then the owner of this page, which must be
    the job's sequence. The second one does not rely on the first. A job with a place in the slot
    area needs neither: sequence, cache and offset are its address.

    Parameters
    ----------
    config
    tag_bits
        Bits of a tag, which only goes along.

    Members
    -------
    request : In(stream of port_request)
        Virtual addresses; reads and writes alike.
    granted, refused : Out(stream of port_request)
        Physical addresses; of a refused request the virtual one.
    load : In
        An entry of the slot table.
    owner : In
        A change of a page's owner.
    slots : In
        What each job may access.
    violation : Out
        With ``violated``, for one cycle per refused request.
    counters
    """

    def __init__(self, config: MmuConfig, *, tag_bits: int) -> None:
        self._config = config
        self._granted = Counter("granted", "requests that were translated", unit="requests")
        self._violations = Counter("violations", "requests that were refused", unit="requests")
        self.counters = [self._granted, self._violations]
        request = stream.Signature(port_request(tag_bits))
        super().__init__(
            {
                "request": In(request),
                "granted": Out(request),
                "refused": Out(request),
                "load": In(table_load(config)),
                "owner": In(owner_layout(config)),
                "slots": In(slot_layout(config)).array(config.slots),
                "violated": Out(1),
                "violation": Out(violation_layout(config)),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        config = self._config
        m.submodules.table = table = Memory(
            shape=config.page_bits, depth=config.slots * config.entries, init=[]
        )
        owned = data.StructLayout({"allocated": 1, "sequence": config.sequence_bits})
        m.submodules.owners = owners = Memory(shape=owned, depth=config.pages, init=[])
        load, entry = table.write_port(), table.read_port(transparent_for=())
        change, owner = owners.write_port(), owners.read_port(transparent_for=())
        first = {region: config.first_entry(region) for region in Region}
        starts = Array(Const(slot * config.entries) for slot in range(config.slots))
        m.d.comb += [
            load.en.eq(self.load.enable),
            load.addr.eq(
                starts[self.load.slot] + region_constant(self.load.region, first) + self.load.index
            ),
            load.data.eq(self.load.page),
            change.en.eq(self.owner.enable),
            change.addr.eq(self.owner.page),
            change.data.allocated.eq(self.owner.allocated),
            change.data.sequence.eq(self.owner.sequence),
        ]

        # Three stages that move together: the page is looked up, its owner is, the answer waits.
        advance = Signal()
        layout = self.request.payload.shape()
        stages = [Signal(layout, name=f"request_{i}") for i in range(3)]
        valid = [Signal(name=f"valid_{i}") for i in range(3)]
        bounded = [Signal(name=f"bounded_{i}") for i in range(2)]
        sequences = [Signal(config.sequence_bits, name=f"sequence_{i}") for i in range(3)]
        page = Signal(config.page_bits)
        physical = Signal(config.page_bits)
        bounds = Signal()
        kind = Signal(Violation)
        leaves = Mux(kind == Violation.NONE, self.granted.ready, self.refused.ready)
        m.d.comb += [
            advance.eq(~valid[2] | leaves),
            self.request.ready.eq(advance),
            entry.en.eq(advance),
            owner.en.eq(advance),
        ]

        virtual = data.View(VIRTUAL_ADDRESS, self.request.payload.address)
        index = virtual.offset >> config.page_shift
        size = (self.request.payload.bursts_less_one + 1) << _BURST_SHIFT
        slot = Signal(slot_layout(config))
        m.d.comb += [
            slot.eq(Array(self.slots)[virtual.slot]),
            entry.addr.eq(starts[virtual.slot] + region_constant(virtual.region, first) + index),
            owner.addr.eq(entry.data),
        ]
        # A slot or a region of no name has no pages: what an array does not have is 0.
        m.d.comb += bounds.eq(
            (index < Array(slot.pages)[virtual.region])
            & (virtual.offset[: config.page_shift] + size <= config.page_bytes)
        )
        is_owner = owner.data.allocated & (owner.data.sequence == sequences[1])
        passes, start, within = is_owner, Const(config.first_page), page
        if config.has_slot_area:
            direct, place = self._place(m, advance, slot, stages[1], sequences[1])
            physical = Signal(max(config.page_bits, len(place)))
            passes, within = is_owner | direct[1], Mux(direct[1], place, page)
            start = Mux(direct[2], config.slot_area.address, config.first_page)
        with m.If(advance):
            m.d.sync += [
                valid[0].eq(self.request.valid),
                stages[0].eq(self.request.payload),
                bounded[0].eq(bounds),
                sequences[0].eq(slot.sequence),
                valid[1].eq(valid[0]),
                stages[1].eq(stages[0]),
                bounded[1].eq(bounded[0]),
                sequences[1].eq(sequences[0]),
                page.eq(entry.data),
                valid[2].eq(valid[1]),
                stages[2].eq(stages[1]),
                sequences[2].eq(sequences[1]),
                kind.eq(
                    Mux(
                        ~bounded[1],
                        Violation.BOUNDS,
                        Mux(passes, Violation.NONE, Violation.OWNER),
                    )
                ),
                physical.eq(within),
            ]

        last = stages[2]
        in_page = last.address[: config.page_shift]
        m.d.comb += [
            self.granted.valid.eq(valid[2] & (kind == Violation.NONE)),
            self.granted.payload.eq(last),
            self.granted.payload.address.eq(start + Cat(in_page, physical)),
            self.refused.valid.eq(valid[2] & (kind != Violation.NONE)),
            self.refused.payload.eq(last),
            self.violated.eq(self.refused.valid & self.refused.ready),
            self.violation.kind.eq(kind),
            self.violation.sequence.eq(sequences[2]),
            self.violation.address.eq(last.address),
            self._granted.event.eq(self.granted.valid & self.granted.ready),
            self._violations.event.eq(self.violated),
        ]
        return m

    def _place(
        self, m: Module, advance: Value, slot: data.View, request: data.View, sequence: Value
    ) -> tuple[list[Signal], Value]:
        """Whether the job of each stage has a place in the slot area; where, in the second one.

        ``slot`` is that of a request that comes, ``request`` and ``sequence`` are those of the
        second stage. The address is counted from the start of the area, in pages.
        """
        config = self._config
        direct = [Signal(name=f"direct_{i}") for i in range(3)]
        caches = [Signal(config.cache_bits, name=f"cache_{i}") for i in range(2)]
        with m.If(advance):
            m.d.sync += [
                *(after.eq(of) for of, after in pairwise([slot.direct, *direct])),
                *(after.eq(of) for of, after in pairwise([slot.cache, *caches])),
            ]
        stride = config.slot_area.stride.bit_length() - 1
        return direct, Cat(request.address[config.page_shift : stride], caches[1], sequence)
