"""The KV-MMU: commands and jobs in, virtual addresses to physical ones."""

from amaranth.hdl import Elaboratable, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.memory.kv_mmu.command_share import CommandShare
from hw.memory.kv_mmu.command_unit import CommandUnit
from hw.memory.kv_mmu.config import MmuConfig
from hw.memory.kv_mmu.error_answers import ErrorAnswers
from hw.memory.kv_mmu.formats import Violation
from hw.memory.kv_mmu.job_gate import JobGate
from hw.memory.kv_mmu.page_grower import PageGrower
from hw.memory.kv_mmu.page_pool import PagePool
from hw.memory.kv_mmu.page_splitter import PageSplitter
from hw.memory.kv_mmu.ports import COMMAND, REPLY, WRITE_TAG_BITS
from hw.memory.kv_mmu.shared_translator import SharedTranslator
from hw.memory.kv_mmu.table_entry import TableEntry
from hw.memory.kv_mmu.table_walker import TableWalker
from hw.memory.kv_mmu.translator import violation_layout
from hw.memory.kv_mmu.write_path import WritePath
from hw.memory.port import port_request, read_port, tag_bits, write_port
from hw.streams import StreamRegister

#: Tags of the table reads: which part asked.
WALKER_TAG, ENTRY_TAG = 0, 1


class KvMmu(wiring.Component):
    """Latency 3 cycles for a request and 1 for an answer; one of each per cycle.

    Between a core and the arbiter: the core gets its jobs from here, under virtual addresses, and
    no request of it leaves that does not hit a page, or a place in the slot area, of the job's
    sequence (docs/kv_mmu.md).

    Parameters
    ----------
    config : MmuConfig
    read_tag_bits, write_tag_bits : int or None
        Bits of the tags of ``core`` and ``writer``; None for those of an `AttentionCore`.

    Members
    -------
    job, completion : stream
        The jobs of the system, and how they ended, in order.
    core_job, core_completion : stream
        The same at the core; its ``query`` does not come through here.
    prompt, imported, core_prompt, core_imported : stream, only if the core writes
        The same of prompts, which go to the staging area by themselves.
    core : In(read_port)
        The core's memory port.
    memory : Out(read_port)
        The translated requests; their tags have one bit more.
    writer : In(write_port), memory_write : Out(write_port)
        The same for writes to pages, under the virtual addresses of a job in flight.
    table : Out(read_port), table_write : Out(write_port)
        Clients for the page tables.
    command, reply : stream
    violation : Out
        The first violation since reset or clear; ``kind`` is NONE while there is none.
    violation_clear : In
    free_pages : Out
    counters
        By unit, for a `CounterBank`.
    """

    def __init__(
        self,
        config: MmuConfig,
        *,
        read_tag_bits: int | None = None,
        write_tag_bits: int = WRITE_TAG_BITS,
    ) -> None:
        self._config = config
        self._tag_bits = read_tag_bits or tag_bits(config.attention)
        self._gate = JobGate(config)
        self._splitter = PageSplitter(config, tag_bits=self._tag_bits)
        self._writes = WritePath(config, tag_bits=write_tag_bits)
        self._translator = SharedTranslator(
            config, read_tag_bits=self._tag_bits + 1, write_tag_bits=write_tag_bits + 1
        )
        self.counters = {
            "mmu_jobs": self._gate.counters,
            "mmu_splitter": self._splitter.counters,
            "mmu_writes": self._writes.counters,
            "mmu_translator": self._translator.counters,
        }
        if config.writes:
            self._grower = PageGrower(config)
            self.counters["mmu_grower"] = self._grower.counters
        self._job_streams = ["job", "completion", "core_job", "core_completion"]
        if config.writes:
            self._job_streams += ["prompt", "imported", "core_prompt", "core_imported"]
        gate = self._gate.signature.members
        super().__init__(
            {
                **{name: gate[name] for name in self._job_streams},
                "core": In(read_port(self._tag_bits)),
                "memory": Out(read_port(self._tag_bits + 1)),
                "writer": In(write_port(write_tag_bits)),
                "memory_write": Out(write_port(write_tag_bits + 1)),
                "table": Out(read_port(1)),
                "table_write": Out(write_port(1)),
                "command": In(stream.Signature(COMMAND)),
                "reply": Out(stream.Signature(REPLY)),
                "violation": Out(violation_layout(config)),
                "violation_clear": In(1),
                "free_pages": Out(range(config.pages + 1)),
            }
        )

    @property
    def config(self) -> MmuConfig:
        """The configuration it was built for."""
        return self._config

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        config = self._config
        m.submodules.gate = gate = self._gate
        m.submodules.splitter = splitter = self._splitter
        m.submodules.translator = translator = self._translator
        m.submodules.writes = writes = self._writes
        m.submodules.pool = pool = PagePool(config)
        m.submodules.commands = commands = CommandUnit(config)
        m.submodules.entry = entry = TableEntry(config)
        m.submodules.walker = walker = TableWalker(config)
        m.submodules.errors = errors = ErrorAnswers(tag_bits=self._tag_bits + 1)

        # Jobs.
        for name in self._job_streams:
            connect(m, flipped(getattr(self, name)), getattr(gate, name))
        connect(m, gate.walk, walker.request)
        connect(m, walker.result, gate.walked)

        # Commands.
        if config.writes:
            m.submodules.grower = grower = self._grower
            m.submodules.command_share = share = CommandShare()
            connect(m, gate.grow, grower.request)
            connect(m, grower.result, gate.grown)
            connect(m, flipped(self.command), share.host)
            connect(m, share.host_reply, flipped(self.reply))
            connect(m, grower.command, share.grower)
            connect(m, share.grower_reply, grower.reply)
            connect(m, share.command, commands.command)
            connect(m, commands.reply, share.reply)
        else:
            connect(m, flipped(self.command), commands.command)
            connect(m, commands.reply, flipped(self.reply))
        connect(m, commands.pool, pool.request)
        connect(m, pool.result, commands.pooled)
        connect(m, commands.entry, entry.request)
        connect(m, entry.result, commands.entry_read)
        connect(m, entry.table_write, flipped(self.table_write))
        m.d.comb += [
            gate.live.eq(commands.live),
            commands.in_flight.eq(gate.in_flight),
            gate.layer_change.eq(commands.layer_change),
            self.free_pages.eq(pool.free),
        ]

        # The check port: the walker never waits.
        m.d.comb += [
            pool.check.enable.eq(walker.check.enable | commands.check.valid),
            pool.check.page.eq(
                Mux(walker.check.enable, walker.check.page, commands.check.payload.page)
            ),
            pool.check.place.eq(
                Mux(walker.check.enable, walker.check.place, commands.check.payload.place)
            ),
            commands.check.ready.eq(~walker.check.enable),
            walker.match.eq(pool.match),
            commands.match.eq(pool.match),
        ]
        self._connect_table(m, walker, entry)

        # Requests and answers of the core.
        m.submodules.taken = taken = StreamRegister(port_request(self._tag_bits))
        connect(m, flipped(self.core.request), taken.input)
        connect(m, taken.output, splitter.request)
        connect(m, splitter.part, translator.reads.request)
        connect(m, translator.reads.granted, flipped(self.memory.request))
        connect(m, translator.reads.refused, errors.refused)
        connect(m, flipped(self.memory.response), errors.answer)
        connect(m, errors.response, splitter.answer)
        connect(m, splitter.response, flipped(self.core.response))
        connect(m, flipped(self.writer), writes.writer)
        connect(m, writes.memory, flipped(self.memory_write))
        connect(m, writes.translate, translator.writes)
        m.d.comb += [translator.load.eq(walker.load), translator.owner.eq(pool.owner)]
        for inner, outer in zip(translator.slots, gate.slots, strict=True):
            m.d.comb += inner.eq(outer)
        with m.If(
            self.violation_clear | (translator.violated & (self.violation.kind == Violation.NONE))
        ):
            m.d.sync += self.violation.eq(translator.violation)
            with m.If(~translator.violated):
                m.d.sync += self.violation.eq(0)
        return m

    def _connect_table(self, m: Module, walker: TableWalker, entry: TableEntry) -> None:
        """Let walker and single entries share a client; the tag tells whose answer it is."""
        chosen = Signal()
        walks, reads = walker.table, entry.table
        m.submodules.table_request = register = StreamRegister(port_request(1))
        asked = register.input
        m.d.comb += [
            chosen.eq(~walks.request.valid),
            asked.valid.eq(walks.request.valid | reads.request.valid),
            asked.payload.eq(Mux(chosen, reads.request.payload, walks.request.payload)),
            asked.payload.tag.eq(chosen),
            walks.request.ready.eq(asked.ready),
            reads.request.ready.eq(asked.ready & chosen),
        ]
        connect(m, register.output, flipped(self.table.request))
        answer = self.table.response
        m.d.comb += [
            answer.ready.eq(1),
            walks.response.payload.eq(answer.payload),
            reads.response.payload.eq(answer.payload),
            walks.response.valid.eq(answer.valid & (answer.payload.tag == WALKER_TAG)),
            reads.response.valid.eq(answer.valid & (answer.payload.tag == ENTRY_TAG)),
        ]
