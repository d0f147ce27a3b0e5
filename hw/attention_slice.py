"""A core with its KV-MMU and its place at a memory channel."""

from dataclasses import replace
from typing import Any

from amaranth.hdl import Elaboratable, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.config import AttentionConfig
from hw.cores.attention_core import AttentionCore
from hw.cores.decode_core import DecodeCore
from hw.counters import CounterBank
from hw.distributor.attention import attention_streams
from hw.distributor.port import JobStreams
from hw.formats import KVFormat
from hw.memory.arbiter import ChannelArbiter, Client
from hw.memory.channel_port import channel_port
from hw.memory.kv_mmu.config import MmuConfig
from hw.memory.kv_mmu.job_gate import gate_completion
from hw.memory.kv_mmu.kv_mmu import KvMmu
from hw.memory.kv_mmu.ports import WRITE_TAG_BITS, system_job_layout
from hw.memory.port import write_port


def slice_streams(config: MmuConfig) -> JobStreams:
    """The streams of a slice: those of the core, but a job names a sequence, not addresses."""
    return replace(
        attention_streams(config.attention),
        job=system_job_layout(config),
        completion=gate_completion(config),
        token_beats=KVFormat(config.attention).token_beats if config.writes else 0,
    )


class AttentionSlice(wiring.Component):
    """Takes jobs that name a sequence, reads its pages, gives attention outputs.

    One beat of 16 bytes per cycle from the channel. Table entries come through the same channel,
    read ahead of the jobs. If the core writes, the pages that it needs are allocated as well.

    Parameters
    ----------
    config : MmuConfig
        ``attention`` is the core's configuration; with ``writes`` it is a `DecodeCore`.

    Members
    -------
    job, query, selection, output, completion : stream
        See `slice_streams`; the completion's status may be one of the MMU.
    command, reply : stream
        Of the host, see `KvMmu`.
    token : In(stream of 16 bytes), only if the core writes
        As of `DecodeCore`.
    prompt : In(stream of SYSTEM_PROMPT), imported : Out(stream of IMPORTED), only then
        Prompts in the staging area become caches, see `JobGate`.
    writer : In(write_port), only if it does not write
        Writes to pages, under the virtual addresses of a job in flight.
    channel : Out(channel_port)
    counter_address, counter_data, counter_clear
        The core's registers, behind them those of MMU and arbiter.
    """

    def __init__(self, config: MmuConfig) -> None:
        self._config = config
        self._core: AttentionCore | DecodeCore
        clients, events, write_tags = [], {}, WRITE_TAG_BITS
        if config.writes:
            self._core = DecodeCore(config.attention, staging=True)
            write_tags = len(self._core.memory_write.request.payload.tag)
            events["writing"] = self._core.events
            staging_tags = len(self._core.prompt_memory.request.payload.tag)
            clients.append(Client(name="staging", tag_bits=staging_tags))
        else:
            self._core = AttentionCore(config.attention)
        read_tags = len(self._core.memory.request.payload.tag)
        self._mmu = mmu = KvMmu(config, read_tag_bits=read_tags, write_tag_bits=write_tags)
        self._arbiter = ChannelArbiter(
            [
                Client(name="cache", tag_bits=read_tags + 1),
                Client(name="table", tag_bits=1),
                Client(name="cache_write", tag_bits=write_tags + 1, writes=True),
                Client(name="table_write", tag_bits=1, writes=True),
                *clients,
            ]
        )
        self._bank = CounterBank(
            config.attention,
            counters={**events, **mmu.counters, "arbiter": self._arbiter.counters},
            identity="slice",
        )
        self._registers = len(self._core.counters)
        registers = len(self.counters)
        super().__init__(
            {
                **slice_streams(config).signature.flip().members,
                "command": In(mmu.command.signature.flip()),
                "reply": Out(mmu.reply.signature),
                **self._other_ports(),
                "channel": Out(channel_port(self._arbiter.id_layout.size, 1)),
                "counter_address": In(range(registers)),
                "counter_data": Out(32),
                "counter_clear": In(1),
            }
        )

    def _other_ports(self) -> dict[str, wiring.Member]:
        """What only a core that writes has, or only one that does not."""
        if not self._config.writes:
            return {"writer": In(write_port(WRITE_TAG_BITS))}
        mmu = self._mmu.signature.members
        return {name: mmu[name] for name in ("prompt", "imported")}

    @property
    def config(self) -> AttentionConfig:
        """The configuration of its core."""
        return self._config.attention

    @property
    def id_bits(self) -> int:
        """Bits of ``id`` at the channel."""
        return self._arbiter.id_layout.size

    @property
    def counters(self) -> list[dict[str, Any]]:
        """The registers behind ``counter_address``, in address order."""
        rows = [*self._core.counters, *self._bank.describe()]
        return [row | {"address": address} for address, row in enumerate(rows)]

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.core = core = self._core
        m.submodules.mmu = mmu = self._mmu
        m.submodules.arbiter = arbiter = self._arbiter
        m.submodules.counters = bank = self._bank

        connect(m, flipped(self.job), mmu.job)
        connect(m, mmu.core_job, core.job)
        connect(m, flipped(self.query), core.query)
        connect(m, core.selection, flipped(self.selection))
        connect(m, core.output, flipped(self.output))
        connect(m, core.completion, mmu.core_completion)
        connect(m, mmu.completion, flipped(self.completion))
        connect(m, flipped(self.command), mmu.command)
        connect(m, mmu.reply, flipped(self.reply))

        if self._config.writes:
            connect(m, flipped(self.token), core.token)
            connect(m, flipped(self.prompt), mmu.prompt)
            connect(m, mmu.core_prompt, core.prompt)
            connect(m, core.imported, mmu.core_imported)
            connect(m, mmu.imported, flipped(self.imported))
            connect(m, core.prompt_memory, arbiter.staging)
            connect(m, core.memory_write, mmu.writer)
        else:
            connect(m, flipped(self.writer), mmu.writer)
        connect(m, core.memory, mmu.core)
        connect(m, mmu.memory, arbiter.cache)
        connect(m, mmu.table, arbiter.table)
        connect(m, mmu.table_write, arbiter.table_write)
        connect(m, mmu.memory_write, arbiter.cache_write)
        connect(m, arbiter.channel, flipped(self.channel))

        # Registers: a bank answers a cycle after its address.
        of_bank = Signal()
        m.d.sync += of_bank.eq(self.counter_address >= self._registers)
        m.d.comb += [
            core.counter_address.eq(self.counter_address),
            bank.address.eq(self.counter_address - self._registers),
            core.counter_clear.eq(self.counter_clear),
            bank.clear.eq(self.counter_clear),
            arbiter.clear.eq(self.counter_clear),
            mmu.violation_clear.eq(self.counter_clear),
            self.counter_data.eq(Mux(of_bank, bank.read_data, core.counter_data)),
        ]
        return m
