"""The pages of one job: those that are new allocated, all of them looked up."""

from amaranth.hdl import Elaboratable, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.formats import Status
from hw.memory.kv_mmu.config import MmuConfig
from hw.memory.kv_mmu.formats import Region
from hw.memory.kv_mmu.page_grower import grow_request
from hw.memory.kv_mmu.ports import place_layout, slot_layout
from hw.memory.kv_mmu.region_sizes import RegionSizes
from hw.memory.kv_mmu.table_walker import walk_request


def pages_request(config: MmuConfig) -> data.StructLayout:
    """A slot, the place of its cache, and what ``context`` tokens are, ``first`` of them old.

    ``grows`` tells whether pages may be allocated.
    """
    return data.StructLayout(
        {
            "slot": range(config.slots),
            "place": place_layout(config),
            "mode": 8,
            "first": 16,
            "context": 16,
            "grows": 1,
        }
    )


class JobPages(wiring.Component):
    """Region after region: 3 cycles and the walk; if the core writes 6, and the new pages.

    Parameters
    ----------
    config

    Members
    -------
    request : In(stream of pages_request)
        ``place.region`` and ``place.index`` are not looked at. It stays until the result is taken.
    result : Out(stream of Status)
        OK, PAGE_FAULT or OUT_OF_PAGES.
    wanted : Out
        With OK: the pages of each region.
    walk : Out(stream of walk_request), walked : In(stream of 1 bit)
        Of the table walker.
    grow : Out(stream of grow_request), grown : In(stream of 1 bit), only if the core writes
        Of the page grower.
    """

    def __init__(self, config: MmuConfig) -> None:
        self._config = config
        grower = {
            "grow": Out(stream.Signature(grow_request(config))),
            "grown": In(stream.Signature(1)),
        }
        super().__init__(
            {
                "request": In(stream.Signature(pages_request(config))),
                "result": Out(stream.Signature(Status)),
                "wanted": Out(slot_layout(config)["pages"].shape),
                "walk": Out(stream.Signature(walk_request(config))),
                "walked": In(stream.Signature(1)),
                **(grower if config.writes else {}),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        writes = self._config.writes
        m.submodules.sizes = sizes = RegionSizes(self._config)
        asked = self.request.payload
        region = Signal(range(len(Region)))
        before, pages = Signal.like(sizes.pages), Signal.like(sizes.pages)
        m.d.comb += [
            sizes.mode.eq(asked.mode),
            sizes.context.eq(asked.context),
            sizes.region.eq(region),
            self.walk.payload.slot.eq(asked.slot),
            self.walk.payload.place.eq(asked.place),
            self.walk.payload.place.region.eq(region),
            self.walk.payload.place.index.eq(0),
            self.walk.payload.pages.eq(pages),
        ]
        first = "BEFORE" if writes else "SIZE"

        def answer(status: Status) -> None:
            m.d.sync += self.result.payload.eq(status)
            m.next = "ANSWER"

        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += region.eq(0)
                with m.If(self.request.valid):
                    m.next = first
            if writes:
                with m.State("BEFORE"):
                    m.d.comb += sizes.context.eq(asked.first)
                    m.d.sync += before.eq(sizes.pages)
                    m.next = "SIZE"
            with m.State("SIZE"):
                m.d.sync += pages.eq(sizes.pages)
                m.next = "WALK"
                if writes:
                    with m.If(asked.grows):
                        m.next = "GROW"
            if writes:
                with m.State("GROW"):
                    m.d.comb += [
                        self.grow.valid.eq(1),
                        self.grow.payload.place.eq(self.walk.payload.place),
                        self.grow.payload.place.index.eq(before),
                        self.grow.payload.end.eq(pages),
                    ]
                    with m.If(self.grow.ready):
                        m.next = "GROWN"
                with m.State("GROWN"):
                    m.d.comb += self.grown.ready.eq(1)
                    with m.If(self.grown.valid):
                        m.next = "WALK"
                        with m.If(self.grown.payload):
                            answer(Status.OUT_OF_PAGES)
            with m.State("WALK"):
                m.d.comb += self.walk.valid.eq(1)
                for each in Region:
                    with m.If(region == each):
                        m.d.sync += self.wanted[each].eq(pages)
                with m.If(self.walk.ready):
                    m.next = "WALKED"
            with m.State("WALKED"):
                m.d.comb += self.walked.ready.eq(1)
                with m.If(self.walked.valid):
                    m.d.sync += region.eq(region + 1)
                    m.next = first
                    with m.If(self.walked.payload):
                        answer(Status.PAGE_FAULT)
                    with m.Elif(region == max(Region)):
                        answer(Status.OK)
            with m.State("ANSWER"):
                m.d.comb += [self.result.valid.eq(1), self.request.ready.eq(self.result.ready)]
                with m.If(self.result.ready):
                    m.next = "IDLE"
        return m
