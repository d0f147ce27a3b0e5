"""Reads and writes single table entries."""

from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import BEAT_BYTES, BURST_BYTES
from hw.memory.kv_mmu.config import MmuConfig
from hw.memory.kv_mmu.formats import ENTRY_BYTES
from hw.memory.kv_mmu.table import ENTRY_BITS, entry_page, page_entry
from hw.memory.port import ADDRESS_BITS, BURST_BEATS, read_port, write_port

_BURST_SHIFT = BURST_BYTES.bit_length() - 1
_BEAT_SHIFT = BEAT_BYTES.bit_length() - 1
_ENTRY_SHIFT = ENTRY_BYTES.bit_length() - 1
_LANES = BEAT_BYTES // ENTRY_BYTES


def entry_request(config: MmuConfig) -> data.StructLayout:
    """Address of an entry, whether to write it, and the page to write."""
    return data.StructLayout({"address": ADDRESS_BITS, "write": 1, "page": config.page_bits})


def entry_result(config: MmuConfig) -> data.StructLayout:
    """Whether the memory refused; of a read, whether the entry names a page, and which."""
    return data.StructLayout({"error": 1, "valid": 1, "page": config.page_bits})


class TableEntry(wiring.Component):
    """One entry at a time: 3 cycles and the memory's latency.

    A read takes the burst that holds the entry; a write enables the entry's four bytes of it.

    Parameters
    ----------
    config

    Members
    -------
    request : In(stream of entry_request)
    result : Out(stream of entry_result)
        Of a write, once the memory has done it.
    table : Out(read_port)
    table_write : Out(write_port)
        Both with tag 0.
    """

    def __init__(self, config: MmuConfig) -> None:
        self._config = config
        super().__init__(
            {
                "request": In(stream.Signature(entry_request(config))),
                "result": Out(stream.Signature(entry_result(config))),
                "table": Out(read_port(1)),
                "table_write": Out(write_port(1)),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        request = Signal(self.request.payload.shape())
        entry = Signal(ENTRY_BITS)
        error = Signal()
        left = Signal(range(BURST_BEATS + 1))
        lane = request.address[_ENTRY_SHIFT:_BEAT_SHIFT]
        beat = request.address[_BEAT_SHIFT:_BURST_SHIFT]
        burst = Cat(Const(0, _BURST_SHIFT), request.address[_BURST_SHIFT:])
        answer, written = self.table.response, self.table_write.written
        valid, page = entry_page(self._config, entry)
        m.d.comb += [
            answer.ready.eq(1),
            written.ready.eq(1),
            self.table.request.payload.address.eq(burst),
            self.table_write.request.payload.address.eq(burst),
            self.table_write.data.payload.data.eq(page_entry(request.page).replicate(_LANES)),
            # The beats of the burst follow each other: which one it is, is what is left.
            self.table_write.data.payload.enable.eq(
                Mux(
                    left == BURST_BEATS - beat,
                    Const((1 << ENTRY_BYTES) - 1, BEAT_BYTES) << (lane << _ENTRY_SHIFT),
                    0,
                )
            ),
            self.result.payload.error.eq(error),
            self.result.payload.valid.eq(valid),
            self.result.payload.page.eq(page),
        ]
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.request.ready.eq(1)
                m.d.sync += [request.eq(self.request.payload), error.eq(0), left.eq(BURST_BEATS)]
                with m.If(self.request.valid):
                    with m.If(self.request.payload.write):
                        m.next = "WRITE"
                    with m.Else():
                        m.next = "READ"
            with m.State("READ"):
                m.d.comb += self.table.request.valid.eq(1)
                with m.If(self.table.request.ready):
                    m.next = "BEATS"
            with m.State("BEATS"):
                with m.If(answer.valid):
                    m.d.sync += [left.eq(left - 1), error.eq(error | answer.payload.error)]
                    with m.If(answer.payload.beat == beat):
                        m.d.sync += entry.eq(answer.payload.data.word_select(lane, ENTRY_BITS))
                    with m.If(left == 1):
                        m.next = "RESULT"
            with m.State("WRITE"):
                m.d.comb += self.table_write.request.valid.eq(1)
                with m.If(self.table_write.request.ready):
                    m.next = "DATA"
            with m.State("DATA"):
                m.d.comb += self.table_write.data.valid.eq(1)
                with m.If(self.table_write.data.ready):
                    m.d.sync += left.eq(left - 1)
                    with m.If(left == 1):
                        m.next = "WRITTEN"
            with m.State("WRITTEN"):
                with m.If(written.valid):
                    m.d.sync += error.eq(written.payload.error)
                    m.next = "RESULT"
            with m.State("RESULT"):
                m.d.comb += self.result.valid.eq(1)
                with m.If(self.result.ready):
                    m.next = "IDLE"
        return m
