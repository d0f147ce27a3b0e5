"""Schedules the commands of one pseudo-channel."""

from amaranth.hdl import Cat, Elaboratable, Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.config import BEAT_BITS, BEAT_BYTES
from hw.memory.channel_port import channel_port
from hw.memory.dram.controller.age_matrix import AgeMatrix
from hw.memory.dram.controller.bank_machine import BankMachine
from hw.memory.dram.controller.column_scheduler import ColumnScheduler
from hw.memory.dram.controller.config import ControllerConfig
from hw.memory.dram.controller.distances import Distances
from hw.memory.dram.controller.payloads import column_layout
from hw.memory.dram.controller.read_return import ReadReturn
from hw.memory.dram.controller.refresh import RefreshManager
from hw.memory.dram.controller.request_splitter import RequestSplitter, leaves_channel
from hw.memory.dram.controller.row_scheduler import RowScheduler, row_command_layout
from hw.memory.dram.controller.write_batcher import WriteBatcher
from hw.memory.dram.controller.write_buffer import WriteBuffer
from hw.memory.dram.port import COMMAND_BITS


class PseudoChannel(wiring.Component):
    """Takes a request per cycle at best, offers a row command and a column command per cycle.

    Parameters
    ----------
    config : ControllerConfig
    number
        Which of the pseudo-channels.

    Members
    -------
    channel : In(channel_port)
        What the arbiter asks.
    row : Out(row_command_layout), row_grant : In(1)
        The next row command, `NOP` if none; it is issued in the cycle of the grant.
    column_command, announcement : Out(COMMAND_BITS), burst : Out(column_layout)
        The next column command, see `ColumnScheduler`.
    column_grant : In(1)
    read_data, read_valid, write_data, write_mask
        The pseudo-channel's part of the DRAM port; a granted command is there a cycle later.
    refresh_debt : Out
        Refreshes owed, see `RefreshManager`.
    """

    def __init__(self, config: ControllerConfig, number: int) -> None:
        self._config = config
        self._distances = Distances(config.standard, config.gear, number)
        self._refresh = RefreshManager(config, self._distances)
        super().__init__(
            {
                "channel": In(channel_port(config.id_bits, config.gear)),
                "row": Out(row_command_layout(config)),
                "row_grant": In(1),
                "column_command": Out(COMMAND_BITS),
                "announcement": Out(COMMAND_BITS),
                "burst": Out(column_layout(config)),
                "column_grant": In(1),
                "read_data": In(config.gear * BEAT_BITS),
                "read_valid": In(config.gear),
                "write_data": Out(config.gear * BEAT_BITS),
                "write_mask": Out(config.gear * BEAT_BYTES),
                "refresh_debt": Out(self._refresh.debt.shape()),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        config, distances = self._config, self._distances
        banks = config.standard.banks
        m.submodules.refresh = refresh = self._refresh
        m.submodules.age = age = AgeMatrix(banks)
        m.submodules.rows = rows = RowScheduler(config, distances)
        m.submodules.columns = columns = ColumnScheduler(config, distances)
        m.submodules.batcher = batcher = WriteBatcher(config)
        reads, writes, buffer = self._requests(m)

        machines = []
        for i in range(banks):
            m.submodules[f"bank_{i}"] = bank = BankMachine(config, distances)
            machines.append(bank)
            for visits, jobs in ((reads, bank.reads), (writes, bank.writes)):
                m.d.comb += [
                    jobs.valid.eq(visits.valid & (visits.payload.bank == i)),
                    jobs.payload.eq(visits.payload.job),
                ]
            m.d.comb += [
                bank.take_writes.eq(batcher.take_writes),
                bank.claimed.eq(refresh.claimed[i]),
                bank.refreshing.eq(rows.refreshing[i]),
                bank.activate.eq(rows.activate[i]),
                bank.activated.eq(rows.activated[i]),
                bank.precharge.eq(rows.precharge[i]),
                bank.transfer.eq(columns.transfer[i]),
                rows.rows[i].eq(bank.row),
                columns.bursts[i].column.eq(bank.column),
                columns.bursts[i].place.eq(bank.place),
                columns.bursts[i].tag.eq(bank.tag),
            ]

        def of(name: str) -> Cat:
            return Cat(getattr(bank, name) for bank in machines)

        read_left = of("has_read") | of("waiting_reads")
        m.d.comb += [
            reads.ready.eq(
                Cat(bank.reads.ready for bank in machines).bit_select(reads.payload.bank, 1)
            ),
            writes.ready.eq(
                Cat(bank.writes.ready for bank in machines).bit_select(writes.payload.bank, 1)
            ),
            age.renew.eq(of("taken")),
            rows.older.eq(age.older),
            rows.wants_activate.eq(of("wants_activate")),
            rows.wants_precharge.eq(of("wants_precharge")),
            rows.refresh.eq(refresh.request),
            rows.target.eq(refresh.target),
            rows.grant.eq(self.row_grant),
            self.row.eq(rows.command),
            columns.older.eq(age.older),
            columns.wants_read.eq(of("wants_read")),
            columns.wants_write.eq(of("wants_write")),
            columns.auto_precharge.eq(of("auto_precharge")),
            columns.has_read.eq(of("has_read")),
            columns.has_write.eq(of("has_write")),
            columns.grant.eq(self.column_grant),
            self.column_command.eq(columns.command),
            self.announcement.eq(columns.announcement),
            self.burst.eq(columns.burst),
            refresh.idle.eq(~(read_left | of("has_write") | of("waiting_writes"))),
            refresh.ready.eq(of("ready_for_refresh")),
            refresh.grant.eq(rows.refreshing.any()),
            self.refresh_debt.eq(refresh.debt),
            batcher.pending.eq(buffer.pending),
            batcher.launch.eq(buffer.launch),
            batcher.reads_wait.eq(read_left.any()),
        ]

        moved = columns.transfer.any()
        m.submodules.read_return = read_return = ReadReturn(config, distances)
        connect(m, read_return.response, flipped(self.channel.response))
        m.d.comb += [
            read_return.issued.valid.eq(moved & ~columns.writing),
            read_return.issued.payload.eq(columns.burst),
            read_return.read_data.eq(self.read_data),
            read_return.read_valid.eq(self.read_valid),
            buffer.launch.eq(moved & columns.writing),
            buffer.place.eq(columns.burst.place),
            self.write_data.eq(buffer.write_data),
            self.write_mask.eq(buffer.write_mask),
        ]
        return m

    def _requests(self, m: Module) -> tuple[stream.Interface, stream.Interface, WriteBuffer]:
        """Send reads to their splitter, writes to the buffer and from there to theirs."""
        config = self._config
        request = self.channel.request
        m.submodules.read_splitter = read_splitter = RequestSplitter(config)
        m.submodules.write_splitter = write_splitter = RequestSplitter(config)
        m.submodules.write_buffer = buffer = WriteBuffer(config, self._distances)
        m.d.comb += [
            read_splitter.request.valid.eq(request.valid & ~request.payload.write),
            read_splitter.request.payload.request.eq(request.payload),
            read_splitter.request.payload.refused.eq(leaves_channel(config, request.payload)),
            buffer.request.valid.eq(request.valid & request.payload.write),
            buffer.request.payload.eq(request.payload),
        ]
        with m.If(request.payload.write):
            m.d.comb += request.ready.eq(buffer.request.ready)
        with m.Else():
            m.d.comb += request.ready.eq(read_splitter.request.ready)
        connect(m, flipped(self.channel.write_data), buffer.data)
        connect(m, buffer.split, write_splitter.request)
        connect(m, buffer.written, flipped(self.channel.written))
        return read_splitter.visit, write_splitter.visit, buffer
