"""Top-k selection of chunks by their estimate (docs/contracts.md, section 4, "Selection")."""

from collections.abc import Sequence
from functools import reduce
from itertools import pairwise
from operator import or_

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.config import AttentionConfig
from hw.constants import KEY_SUM_BITS
from hw.cores.payloads import candidate, chunk_bits


def selected_layout(config: AttentionConfig) -> data.StructLayout:
    """One item of the ``selected`` stream."""
    return data.StructLayout(
        {
            "chunk": chunk_bits(config),
            "key_sum": data.ArrayLayout(signed(KEY_SUM_BITS), config.rows),
            "last": 1,
        }
    )


class Selector(wiring.Component):
    """The ``top_chunks`` best candidates of each job, those of a value group together.

    Latency: the best item is valid 2 cycles after the transfer of the job's last candidate.
    Throughput: one candidate per cycle, then one selected item per cycle; a job of n candidates
    takes ``n + min(n, top_chunks)`` cycles, because no candidate is taken while a job's selection
    leaves. The last item may still wait at the output while the next job's candidates come in.

    The list is sorted at all times. A candidate is compared with every entry at once, the entries
    behind its place move back by one and the last one drops out. Only the score, the chunk and the
    number of a payload slot move; the key sums stay in a memory, where the newcomer takes the slot
    of the entry that dropped out. When the list leaves, entries of the group that left last go
    first; those behind the one that leaves move up.

    Parameters
    ----------
    config : AttentionConfig
        ``top_chunks``, ``group_chunks``, ``selection_bits``, ``max_chunks`` and ``rows`` matter.

    Members
    -------
    candidates : In(stream of `candidate`)
        Chunks of a job in ascending order; ``last`` ends the job. A job has at least one.
    selected : Out(stream of `selected_layout`)
        Groups in the order of their best chunk; within a group the largest score first, the lowest
        chunk first among equal scores; ``last`` ends the job.
    """

    def __init__(self, config: AttentionConfig) -> None:
        self._config = config
        super().__init__(
            {
                "candidates": In(stream.Signature(candidate(config))),
                "selected": Out(stream.Signature(selected_layout(config))),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        config = self._config
        length = config.top_chunks
        m = Module()
        m.submodules.key_sums = key_sums = Memory(
            shape=data.ArrayLayout(signed(KEY_SUM_BITS), config.rows), depth=length, init=[]
        )
        write, read = key_sums.write_port(), key_sums.read_port(domain="sync")
        entry_layout = data.StructLayout(
            {
                "valid": 1,
                "score": signed(config.selection_bits),
                "chunk": chunk_bits(config),
                "slot": range(length),
            }
        )
        entries = [Signal(entry_layout, name=f"entry_{place}") for place in range(length)]
        draining = Signal()
        count = Signal(range(length + 1))

        # Insert. Candidates come in ascending order, so an equal score stays ahead of the newcomer.
        offered = self.candidates.payload
        newcomer = Signal(entry_layout)
        ahead = Signal(length)
        full = entries[-1].valid
        m.d.comb += [
            self.candidates.ready.eq(~draining),
            newcomer.valid.eq(1),
            newcomer.score.eq(offered.score),
            newcomer.chunk.eq(offered.chunk),
            newcomer.slot.eq(Mux(full, entries[-1].slot, count)),
            ahead.eq(Cat(entry.valid & (entry.score >= offered.score) for entry in entries)),
            write.addr.eq(newcomer.slot),
            write.data.eq(offered.key_sum),
            write.en.eq(self.candidates.valid & self.candidates.ready & ~ahead[-1]),
        ]
        with m.If(write.en):
            with m.If(~full):
                m.d.sync += count.eq(count + 1)
            for place, entry in enumerate(entries):
                with m.If(~ahead[place]):
                    m.d.sync += entry.eq(newcomer)
                    if place > 0:
                        with m.If(~ahead[place - 1]):
                            m.d.sync += entry.eq(entries[place - 1])
        with m.If(self.candidates.valid & self.candidates.ready & offered.last):
            m.d.sync += draining.eq(1)

        # Drain. The memory's output register is the output's: it is read as the entry leaves.
        selected = self.selected
        leave = Signal()
        #: The entry that leaves; it and those behind it move.
        leaving = Signal(data.StructLayout({"chunk": chunk_bits(config), "slot": range(length)}))
        moves = Signal(length)
        first = Signal(length)
        m.d.comb += [
            moves.eq(self._from_best_of_group(m, leave, entries, leaving.chunk)),
            first.eq(moves & ~(moves << 1)),
            leaving.chunk.eq(_chosen(first, [entry.chunk for entry in entries])),
            leaving.slot.eq(_chosen(first, [entry.slot for entry in entries])),
            leave.eq(draining & (~selected.valid | selected.ready)),
            read.addr.eq(leaving.slot),
            read.en.eq(leave),
            selected.payload.key_sum.eq(read.data),
        ]
        with m.If(selected.ready):
            m.d.sync += selected.valid.eq(0)
        with m.If(leave):
            m.d.sync += [
                selected.valid.eq(1),
                selected.payload.chunk.eq(leaving.chunk),
                selected.payload.last.eq(~entries[1].valid),
                entries[-1].valid.eq(0),
            ]
            for place, (entry, behind) in enumerate(pairwise(entries)):
                with m.If(moves[place]):
                    m.d.sync += entry.eq(behind)
            with m.If(~entries[1].valid):
                m.d.sync += [draining.eq(0), count.eq(0)]
        return m

    def _from_best_of_group(
        self, m: Module, leave: Value, entries: Sequence[data.View], leaving: Value
    ) -> Value:
        """Ones from the best entry of the last leaver's group on; without one, everywhere."""
        per_group = self._config.group_chunks
        everywhere = Const((1 << len(entries)) - 1, len(entries))
        if per_group == 1:
            return everywhere
        shift = per_group.bit_length() - 1
        group = Signal(max(1, len(leaving) - shift))
        # A job's first item has no group ahead of it.
        follows = Signal()
        with m.If(leave):
            m.d.sync += [group.eq(leaving >> shift), follows.eq(entries[1].valid)]
        same = Signal(len(entries))
        m.d.comb += same.eq(
            Cat(follows & entry.valid & ((entry.chunk >> shift) == group) for entry in entries)
        )
        return Mux(same.any(), same | -same, everywhere)


def _chosen(place: Value, options: Sequence[Value]) -> Value:
    """The option whose bit of ``place`` is 1; exactly one must be."""
    return reduce(or_, (bit.replicate(len(x)) & x for bit, x in zip(place, options, strict=True)))
