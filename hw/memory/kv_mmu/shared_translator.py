"""One translator for reads and writes."""

from amaranth.hdl import Cat, Elaboratable, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.memory.kv_mmu.config import MmuConfig
from hw.memory.kv_mmu.ports import owner_layout, slot_layout, table_load
from hw.memory.kv_mmu.translator import Translator, violation_layout
from hw.memory.port import port_request


def translation(tag_bits: int) -> wiring.Signature:
    """From the requester's side: virtual requests out; each comes back granted or refused."""
    request = stream.Signature(port_request(tag_bits))
    return wiring.Signature(
        {"request": Out(request), "granted": In(request), "refused": In(request)}
    )


class SharedTranslator(wiring.Component):
    """`Translator` with two requesters, which take turns when both have a request.

    A request that waits keeps its turn, and one that is granted waits for its own requester's port
    only together with those behind it.

    Parameters
    ----------
    config
    read_tag_bits, write_tag_bits

    Members
    -------
    reads, writes : In(translation)
    load, owner, slots, violated, violation, counters
        As of `Translator`.
    """

    def __init__(self, config: MmuConfig, *, read_tag_bits: int, write_tag_bits: int) -> None:
        self._tag_bits = max(read_tag_bits, write_tag_bits)
        self._translator = Translator(config, tag_bits=self._tag_bits + 1)
        self.counters = self._translator.counters
        super().__init__(
            {
                "reads": In(translation(read_tag_bits)),
                "writes": In(translation(write_tag_bits)),
                "load": In(table_load(config)),
                "owner": In(owner_layout(config)),
                "slots": In(slot_layout(config)).array(config.slots),
                "violated": Out(1),
                "violation": Out(violation_layout(config)),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.translator = translator = self._translator
        reads, writes = self.reads, self.writes
        m.d.comb += [
            translator.load.eq(self.load),
            translator.owner.eq(self.owner),
            self.violated.eq(translator.violated),
            self.violation.eq(translator.violation),
        ]
        for inner, outer in zip(translator.slots, self.slots, strict=True):
            m.d.comb += inner.eq(outer)

        # Turns.
        request = translator.request
        waits, turn, last, write = Signal(), Signal(), Signal(), Signal()
        m.d.comb += write.eq(
            Mux(waits, turn, writes.request.valid & (~reads.request.valid | ~last))
        )
        m.d.sync += [waits.eq(request.valid & ~request.ready), turn.eq(write)]
        with m.If(request.valid & request.ready):
            m.d.sync += last.eq(write)
        m.d.comb += [
            request.valid.eq(Mux(write, writes.request.valid, reads.request.valid)),
            reads.request.ready.eq(request.ready & ~write),
            writes.request.ready.eq(request.ready & write),
        ]
        for name in ("address", "bursts_less_one"):
            chosen = Mux(write, writes.request.payload[name], reads.request.payload[name])
            m.d.comb += request.payload[name].eq(chosen)
        tag = Signal(self._tag_bits)
        m.d.comb += [
            tag.eq(Mux(write, writes.request.payload.tag, reads.request.payload.tag)),
            request.payload.tag.eq(Cat(tag, write)),
        ]

        # Every answer to its own side.
        for name in ("granted", "refused"):
            answer = getattr(translator, name)
            sides = ((reads, ~answer.payload.tag[-1]), (writes, answer.payload.tag[-1]))
            for side, mine in sides:
                out = getattr(side, name)
                m.d.comb += [out.valid.eq(answer.valid & mine), out.payload.eq(answer.payload)]
                m.d.comb += out.payload.tag.eq(answer.payload.tag[: len(out.payload.tag)])
            ready = Mux(sides[1][1], getattr(writes, name).ready, getattr(reads, name).ready)
            m.d.comb += answer.ready.eq(ready)
        return m
