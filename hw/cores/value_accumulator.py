"""The output accumulators of the job in progress, and of the one being normalised."""

from amaranth.hdl import Array, Module, Mux, Signal, signed
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.arithmetic import add_by_halves, shift_right
from hw.config import AttentionConfig
from hw.cores.lanes import LANES
from hw.cores.payloads import contribution
from hw.counters import Counter


class ValueAccumulator(wiring.Component):
    """Latency 4 cycles from a job's last contribution to its first item.

    Takes four channels of every row a cycle. Two banks: one takes the contributions of a job while
    the other is read out, row after row, an item a cycle: ``rows * head_dim / 4 + 1`` cycles a job.
    A job's first contribution waits until its bank is empty again. A unit visits each quad once, so
    a quad is never read again before it is written (head_dim / 4 > 2 cycles of read, add, write).

    Of ``maximum_shift`` and ``unit_shift`` of a row one is 0: the larger maximum stays.

    No overflow: see ``accumulator_bits`` in docs/contracts.md, section 4.

    Parameters
    ----------
    config : AttentionConfig

    Members
    -------
    contributions : stream of ``contribution``
    accumulator : stream of {``value``: 4 sums}
    """

    def __init__(self, config: AttentionConfig) -> None:
        self._config = config
        self.bank_wait = Counter(
            "accumulator_wait", "cycles in which a contribution waited for its bank"
        )
        self.counters = [self.bank_wait]
        item = data.StructLayout(
            {"value": data.ArrayLayout(signed(config.accumulator_bits), LANES)}
        )
        super().__init__(
            {
                "contributions": In(stream.Signature(contribution(config))),
                "accumulator": Out(stream.Signature(item)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        into, out = self.contributions, self.accumulator
        quads = config.head_dim // LANES
        word = data.ArrayLayout(
            data.ArrayLayout(signed(config.accumulator_bits), LANES), config.rows
        )

        writes, reads = [], []
        for bank in range(2):
            storage = memory.Memory(shape=word, depth=quads, init=[])
            m.submodules[f"bank_{bank}"] = storage
            writes.append(storage.write_port())
            reads.append(storage.read_port())

        #: The bank is complete and not read out yet.
        full = Signal(2)
        filling = Signal()
        draining = Signal()

        # Fill: read, then shift and add, then write back.
        blocked = Array(list(full))[filling]
        take = into.valid & into.ready
        m.d.comb += into.ready.eq(~blocked)
        held = Signal(contribution(config))
        held_valid = Signal()
        held_bank = Signal()
        m.d.sync += held_valid.eq(take)
        with m.If(take):
            m.d.sync += [held.eq(into.payload), held_bank.eq(filling)]
            with m.If(into.payload.last & (into.payload.quad == quads - 1)):
                m.d.sync += filling.eq(~filling)
        read_word = data.View(
            word, Mux(held_bank, reads[1].data.as_value(), reads[0].data.as_value())
        )
        updated = Signal(word)
        for row in range(config.rows):
            for lane in range(LANES):
                old = Signal(signed(config.accumulator_bits), name=f"old_{row}_{lane}")
                new, more = Signal.like(old), Signal.like(old)
                moved, half = shift_right(old, held.maximum_shift[row])
                added, other_half = shift_right(held.y[row][lane], held.unit_shift[row])
                m.d.comb += [
                    old.eq(Mux(held.first, 0, read_word[row][lane])),
                    new.eq(moved),
                    more.eq(added),
                    # What is not shifted is not rounded.
                    updated[row][lane].eq(add_by_halves(m, new, more, half | other_half)),
                ]
        for bank, write in enumerate(writes):
            m.d.comb += [
                write.addr.eq(held.quad),
                write.data.eq(updated),
                write.en.eq(held_valid & (held_bank == bank)),
            ]
        complete = held_valid & held.last & (held.quad == quads - 1)

        # Drain: a word is read once per row and gives one item.
        row = Signal(range(max(2, config.rows)))
        quad = Signal(range(quads))
        exhausted = Signal()
        shown = Signal(word)
        shown_row = Signal.like(row)
        fetched = Signal()
        fetched_row = Signal.like(row)
        show = ~out.valid | out.ready
        fetch = Array(list(full))[draining] & ~exhausted & (~fetched | show)
        for bank, read in enumerate(reads):
            is_draining = full[bank] & (draining == bank)
            m.d.comb += [
                read.addr.eq(Mux(is_draining, quad, into.payload.quad)),
                read.en.eq(Mux(is_draining, fetch, take)),
            ]
        with m.If(show):
            m.d.sync += [out.valid.eq(fetched), shown_row.eq(fetched_row)]
            m.d.sync += shown.eq(Mux(draining, reads[1].data.as_value(), reads[0].data.as_value()))
        with m.If(fetched & show):
            m.d.sync += fetched.eq(0)
        with m.If(fetch):
            m.d.sync += [fetched.eq(1), fetched_row.eq(row), quad.eq(quad + 1)]
            with m.If(quad == quads - 1):
                m.d.sync += [quad.eq(0), row.eq(row + 1)]
                with m.If(row == config.rows - 1):
                    m.d.sync += [row.eq(0), exhausted.eq(1)]
        # The last word has left the bank's read port: the bank may be filled again.
        released = exhausted & fetched & show
        with m.If(released):
            m.d.sync += [exhausted.eq(0), draining.eq(~draining)]
        for bank in range(2):
            with m.If(complete & (held_bank == bank)):
                m.d.sync += full[bank].eq(1)
            with m.Elif(released & (draining == bank)):
                m.d.sync += full[bank].eq(0)
        for lane in range(LANES):
            m.d.comb += out.payload.value[lane].eq(
                Array([shown[r][lane] for r in range(config.rows)])[shown_row]
            )
        m.d.comb += self.bank_wait.event.eq(into.valid & blocked)
        return m
