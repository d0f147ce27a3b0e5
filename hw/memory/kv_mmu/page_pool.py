"""Which page is whose: the one authority on pages, and the list of the free ones."""

from enum import IntEnum

from amaranth.hdl import Elaboratable, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.memory.kv_mmu.config import MmuConfig
from hw.memory.kv_mmu.ports import owner_layout, page_check, place_layout


class PoolOperation(IntEnum):
    """What is asked of the pool."""

    #: Give out a free page for ``place``.
    TAKE = 0
    #: Take back the page that the operation before gave out.
    UNDO = 1
    #: Take back every page of ``place.sequence``.
    RELEASE = 2


def pool_request(config: MmuConfig) -> data.StructLayout:
    """What to do, and the place that it is for."""
    return data.StructLayout({"operation": PoolOperation, "place": place_layout(config)})


def pool_result(config: MmuConfig) -> data.StructLayout:
    """Whether it was done, and a page or a number of pages."""
    return data.StructLayout({"done": 1, "value": range(config.pages + 1)})


class PagePool(wiring.Component):
    """A page in 3 cycles; a release in ``pages`` + 2; a check in 1, in every cycle.

    One word per page: of a free page the next free one, of another its place. So the list of free
    pages needs no memory of its own, and what a page is for is known without any table in DRAM.
    The page that came back last goes out first; a release returns pages in ascending order. After
    a reset `pages` cycles write every word; page 0 is the first to go out then, 1 the next.

    A check has the read port for itself; an operation waits in such a cycle.

    Parameters
    ----------
    config

    Members
    -------
    request : In(stream)
        ``operation``, and ``place`` where it needs one.
    result : Out(stream)
        Per request ``done`` and ``value``: TAKE the page, or not done when there is none; UNDO not
        done unless the operation before was a TAKE that was; RELEASE the number of pages.
    check : In
        ``enable``, ``page`` (any number) and ``place``.
    match : Out(1)
        One cycle after a check: whether the page was given out for just that place.
    owner : Out
        Every change of a page's owner, in the cycle in which it happens.
    free : Out
        Number of free pages; 0 until the words are written.
    """

    def __init__(self, config: MmuConfig) -> None:
        self._config = config
        super().__init__(
            {
                "request": In(stream.Signature(pool_request(config))),
                "result": Out(stream.Signature(pool_result(config))),
                "check": In(page_check(config)),
                "match": Out(1),
                "owner": Out(owner_layout(config)),
                "free": Out(range(config.pages + 1)),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        pages = self._config.pages
        place_bits = self.request.payload.place.shape().size
        link_bits = max(place_bits, self._config.page_bits)
        word = data.StructLayout({"allocated": 1, "link": link_bits})
        m.submodules.words = words = Memory(shape=word, depth=pages, init=[])
        write = words.write_port()
        read = words.read_port(transparent_for=())

        request, result = self.request.payload, self.result.payload
        head = Signal(self._config.page_bits)
        index = Signal(range(pages + 1))
        #: The page whose word is at the read port, and whether this is the next of a release.
        previous = Signal(self._config.page_bits)
        scanned = Signal()
        last = Signal(self._config.page_bits)
        can_undo = Signal()
        released = Signal(range(pages + 1))
        place = Signal(request.place.shape())

        # Checks.
        checked = Signal()
        #: Page numbers need not fill their bits.
        known = Signal()
        expected = Signal(request.place.shape())
        swept = Signal()
        m.d.sync += [
            checked.eq(self.check.enable & swept),
            known.eq(self.check.page < pages),
            expected.eq(self.check.place),
        ]
        found = data.View(place.shape(), read.data.link[:place_bits])
        m.d.comb += [
            self.match.eq(checked & known & read.data.allocated & (found == expected)),
            read.en.eq(1),
            read.addr.eq(self.check.page),
        ]

        m.d.comb += [
            self.owner.enable.eq(write.en),
            self.owner.page.eq(write.addr),
            self.owner.allocated.eq(write.data.allocated),
            self.owner.sequence.eq(place.sequence),
        ]

        def put_back(page: Signal) -> None:
            m.d.comb += [write.en.eq(1), write.addr.eq(page), write.data.link.eq(head)]
            m.d.sync += [head.eq(page), self.free.eq(self.free + 1)]

        def answer(done: object, value: object) -> None:
            m.d.sync += [self.result.valid.eq(1), result.done.eq(done), result.value.eq(value)]
            m.next = "ANSWER"

        with m.FSM():
            with m.State("SWEEP"):
                m.d.comb += [write.en.eq(1), write.addr.eq(index), write.data.link.eq(index + 1)]
                m.d.sync += index.eq(index + 1)
                with m.If(index == pages - 1):
                    m.d.sync += [self.free.eq(pages), swept.eq(1)]
                    m.next = "IDLE"
            with m.State("IDLE"):
                m.d.comb += self.request.ready.eq(1)
                m.d.sync += [
                    place.eq(request.place),
                    index.eq(0),
                    released.eq(0),
                ]
                with m.If(self.request.valid):
                    m.d.sync += can_undo.eq(0)
                    with m.Switch(request.operation):
                        with m.Case(PoolOperation.TAKE):
                            m.next = "TAKE"
                        with m.Case(PoolOperation.UNDO):
                            with m.If(can_undo):
                                put_back(last)
                            answer(can_undo, 0)
                        with m.Default():
                            m.next = "RELEASE"
            with m.State("TAKE"):
                with m.If(self.free == 0):
                    answer(0, 0)
                with m.Elif(~self.check.enable):
                    m.d.comb += read.addr.eq(head)
                    m.next = "GIVE"
            with m.State("GIVE"):
                m.d.comb += [
                    write.en.eq(1),
                    write.addr.eq(head),
                    write.data.allocated.eq(1),
                    write.data.link.eq(place),
                ]
                m.d.sync += [
                    head.eq(read.data.link),
                    last.eq(head),
                    can_undo.eq(1),
                    self.free.eq(self.free - 1),
                ]
                answer(1, head)
            with m.State("RELEASE"):
                step = Signal()
                m.d.comb += step.eq((index != pages) & ~self.check.enable)
                m.d.sync += [scanned.eq(step), previous.eq(index)]
                with m.If(step):
                    m.d.comb += read.addr.eq(index)
                    m.d.sync += index.eq(index + 1)
                with m.If(scanned & read.data.allocated & (found.sequence == place.sequence)):
                    put_back(previous)
                    m.d.sync += released.eq(released + 1)
                with m.If((index == pages) & ~scanned):
                    answer(1, released)
            with m.State("ANSWER"):
                with m.If(self.result.ready):
                    m.d.sync += self.result.valid.eq(0)
                    m.next = "IDLE"
        return m
