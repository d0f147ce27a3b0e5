"""Brings the table entries of a job on chip, each checked."""

from amaranth.hdl import Elaboratable, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.config import BEAT_BITS, BEAT_BYTES
from hw.memory.kv_mmu.config import BURST_ENTRIES, MmuConfig
from hw.memory.kv_mmu.formats import ENTRY_BYTES
from hw.memory.kv_mmu.ports import page_check, place_layout, table_load
from hw.memory.kv_mmu.table import ENTRY_BITS, entry_address, entry_page
from hw.memory.port import BURST_BEATS, REQUEST_BURSTS, read_port

#: Entries of the longest request, and of a beat.
REQUEST_ENTRIES = REQUEST_BURSTS * BURST_ENTRIES
BEAT_ENTRIES = BEAT_BYTES // ENTRY_BYTES


def walk_request(config: MmuConfig) -> data.StructLayout:
    """The slot to fill, the place of the first page, and how many pages."""
    return data.StructLayout(
        {
            "slot": range(config.slots),
            "place": place_layout(config),
            "pages": range(config.most_pages + 1),
        }
    )


class TableWalker(wiring.Component):
    """One entry per cycle, 128 at a time, each time the memory's latency and 6 cycles more.

    The entries of a request are collected in whatever order their beats come; then each goes
    through the page pool's check, and only one that names a page given out for just this place is
    loaded. So nothing that the memory holds or answers can bring in the page of anyone else.

    Parameters
    ----------
    config

    Members
    -------
    request : In(stream of walk_request)
        A region of one job; ``place.index`` is 0.
    result : Out(stream of 1 bit)
        1 when an entry was missing, wrong, or could not be read.
    table : Out(read_port)
        One request at a time, with tag 0.
    check : Out
        The page pool's check port, which is free for it in every cycle.
    match : In(1)
    load : Out
        One entry for the slot table.
    """

    def __init__(self, config: MmuConfig) -> None:
        self._config = config
        super().__init__(
            {
                "request": In(stream.Signature(walk_request(config))),
                "result": Out(stream.Signature(1)),
                "table": Out(read_port(1)),
                "check": Out(page_check(config)),
                "match": In(1),
                "load": Out(table_load(config)),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        config = self._config
        walk = Signal(walk_request(config))
        fault = Signal()
        request, answer = self.table.request, self.table.response
        m.submodules.beats = beats = Memory(
            shape=BEAT_BITS, depth=REQUEST_BURSTS * BURST_BEATS, init=[]
        )
        write = beats.write_port()
        read = beats.read_port(transparent_for=())
        #: Entries of the request, and the next one to be read from the buffer.
        size = Signal(range(REQUEST_ENTRIES + 1))
        number = Signal(range(REQUEST_ENTRIES + 1))
        bursts = Signal(range(REQUEST_BURSTS + 1))
        left = Signal(range(REQUEST_BURSTS * BURST_BEATS + 1))
        m.d.comb += [
            size.eq(Mux(walk.pages > REQUEST_ENTRIES, REQUEST_ENTRIES, walk.pages)),
            bursts.eq((size + BURST_ENTRIES - 1) // BURST_ENTRIES),
            request.payload.bursts_less_one.eq(bursts - 1),
            answer.ready.eq(1),
            write.en.eq(answer.valid),
            write.addr.eq(answer.payload.beat),
            write.data.eq(answer.payload.data),
            read.addr.eq(number // BEAT_ENTRIES),
            self.result.payload.eq(fault),
        ]
        m.d.sync += request.payload.address.eq(entry_address(config, walk.place))

        # An entry of the buffer, its check, its load: a cycle each.
        offered, lane = Signal(), Signal(range(BEAT_ENTRIES))
        valid, page = entry_page(config, read.data.word_select(lane, ENTRY_BITS))
        checked, claimed = Signal(), Signal()
        m.d.comb += [
            self.check.enable.eq(offered),
            self.check.page.eq(page),
            self.check.place.eq(walk.place),
            self.load.enable.eq(checked & claimed & self.match),
        ]
        m.d.sync += [
            offered.eq(0),
            lane.eq(number % BEAT_ENTRIES),
            checked.eq(offered),
            claimed.eq(valid),
            self.load.slot.eq(walk.slot),
            self.load.region.eq(walk.place.region),
            self.load.index.eq(walk.place.index),
            self.load.page.eq(page),
        ]
        with m.If(offered):
            m.d.sync += walk.place.index.eq(walk.place.index + 1)
        with m.If(checked & ~(claimed & self.match)):
            m.d.sync += fault.eq(1)

        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.request.ready.eq(1)
                with m.If(self.request.valid):
                    m.d.sync += [walk.eq(self.request.payload), fault.eq(0)]
                    m.next = "ADDRESS"
            with m.State("ADDRESS"):
                m.d.sync += [left.eq(bursts * BURST_BEATS), number.eq(0)]
                with m.If(walk.pages == 0):
                    m.next = "RESULT"
                with m.Else():
                    m.next = "REQUEST"
            with m.State("REQUEST"):
                m.d.comb += request.valid.eq(1)
                with m.If(request.ready):
                    m.next = "BEATS"
            with m.State("BEATS"):
                with m.If(answer.valid):
                    m.d.sync += [left.eq(left - 1), fault.eq(fault | answer.payload.error)]
                    with m.If(left == 1):
                        m.next = "ENTRIES"
            with m.State("ENTRIES"):
                m.d.sync += [offered.eq(1), number.eq(number + 1)]
                with m.If(number == size - 1):
                    m.next = "CHECKED"
            with m.State("CHECKED"):
                with m.If(~offered & ~checked):
                    m.d.sync += walk.pages.eq(walk.pages - size)
                    m.next = "ADDRESS"
            with m.State("RESULT"):
                m.d.comb += self.result.valid.eq(1)
                with m.If(self.result.ready):
                    m.next = "IDLE"
        return m
