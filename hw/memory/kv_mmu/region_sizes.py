"""How many pages a job needs."""

from amaranth.hdl import Elaboratable, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.formats import KVFormat, Mode
from hw.memory.kv_mmu.config import MmuConfig
from hw.memory.kv_mmu.formats import OFFSET_BITS, Region


class RegionSizes(wiring.Component):
    """Pages of one region of a job, in the same cycle (`MmuConfig.pages_of`).

    Parameters
    ----------
    config

    Members
    -------
    context : In
        0, which needs no page, to ``max_context``.
    mode, region : In
        A `Mode` whose caches have pages, and a `Region`.
    pages : Out
    """

    def __init__(self, config: MmuConfig) -> None:
        self._config = config
        super().__init__(
            {
                "context": In(16),
                "mode": In(8),
                "region": In(range(len(Region))),
                "pages": Out(range(config.most_pages + 1)),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        config, layout = self._config.attention, KVFormat(self._config.attention)
        window_shift = config.window.bit_length() - 1
        chunk_shift = config.chunk.bit_length() - 1
        group_shift = config.value_group.bit_length() - 1
        windows = Signal(16)
        closed = Signal(16)
        chunks = Signal(range(config.max_chunks + 1))
        count = Signal(16)
        record = Signal(32)
        before_last = (self.context - 1)[:16] >> window_shift
        if self._config.writes:
            # With the window that closes then, but for the last token that there may be.
            with_next = (self.region != Region.TAIL) & (self.context != config.max_context)
            before_last = (self.context - 1 + with_next)[:16] >> window_shift
        m.d.comb += [
            windows.eq(Mux((self.mode != Mode.KVO) | (before_last == 0), 0, before_last - 1)),
            closed.eq(windows << window_shift),
            chunks.eq(closed >> chunk_shift),
        ]
        with m.Switch(self.region):
            with m.Case(Region.BASE):
                m.d.comb += count.eq((chunks + config.chunk - 1) >> chunk_shift)
                m.d.comb += record.eq(layout.base_block_bytes)
            with m.Case(Region.CHUNK):
                m.d.comb += [count.eq(closed >> group_shift), record.eq(layout.group_bytes)]
            with m.Default():
                needed = (self.context + config.chunk - 1) >> chunk_shift
                m.d.comb += count.eq(Mux(windows == 0, needed, layout.tail_blocks))
                if Mode.SLOTS in self._config.paged_modes:
                    with m.If(self.mode == Mode.SLOTS):
                        m.d.comb += count.eq(config.slots // config.chunk)
                with m.Switch(self.mode):
                    for mode in self._config.paged_modes:
                        with m.Case(mode):
                            m.d.comb += record.eq(sum(layout.block_bytes(mode)))
        size = Signal(OFFSET_BITS + 1)
        m.d.comb += size.eq(count * record)
        with m.If(self.context != 0):
            pages = (size + self._config.page_bytes - 1) >> self._config.page_shift
            m.d.comb += self.pages.eq(pages)
        return m
