"""One bank: its waiting jobs, its row, its timers."""

from amaranth.hdl import Elaboratable, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.memory.dram.controller.config import ControllerConfig
from hw.memory.dram.controller.distances import Distances
from hw.memory.dram.controller.payloads import job_layout, place_step
from hw.memory.dram.controller.timer import Timer
from hw.memory.dram.port import field_bits
from hw.streams import StreamFIFO


class BankMachine(wiring.Component):
    """A job is current 2 cycles after it came at the earliest; the next follows it without a gap.

    The bank works at one job at a time and says which commands it could issue now as far as the
    bank itself is concerned; what the rest of the rank allows is not its affair. A command that it
    asks for and that is granted is issued in the same cycle.

    Parameters
    ----------
    config : ControllerConfig
    distances : Distances

    Members
    -------
    reads, writes : In(stream of job_layout)
        Jobs, each kind in order.
    take_writes : In(1)
        The next job is a write if set, otherwise a read.
    claimed : In(1)
        A refresh is wanted: finish the current job if its row is open, precharge, then wait.
    refreshing : In(1)
        The bank is refreshed in this cycle.
    taken : Out(1)
        A job becomes current.
    wants_activate, wants_precharge, wants_read, wants_write : Out(1)
        The commands that would be next for the bank.
    activate, activated, precharge, transfer : In(1)
        The grants: begin an activation, its last command (``activated``, not before ``activate``),
        precharge, and read or write the burst at ``column``.
    row, column, place, tag : Out
        Of the next burst of the current job.
    auto_precharge : Out(1)
        A transfer in this cycle shall precharge, because the next job is for another row.
    has_read, has_write : Out(1)
        The current job is a read, a write.
    waiting_reads, waiting_writes : Out(1)
        Some job waits behind the current one.
    ready_for_refresh : Out(1)
        Precharged for long enough.
    """

    def __init__(self, config: ControllerConfig, distances: Distances) -> None:
        self._config = config
        self._distances = distances
        job = job_layout(config)
        members = job.members
        super().__init__(
            {
                "reads": In(stream.Signature(job)),
                "writes": In(stream.Signature(job)),
                "take_writes": In(1),
                "claimed": In(1),
                "refreshing": In(1),
                "taken": Out(1),
                "wants_activate": Out(1),
                "wants_precharge": Out(1),
                "wants_read": Out(1),
                "wants_write": Out(1),
                "activate": In(1),
                "activated": In(1),
                "precharge": In(1),
                "transfer": In(1),
                "row": Out(members["row"]),
                "column": Out(members["column"]),
                "place": Out(members["place"]),
                "tag": Out(members["tag"]),
                "auto_precharge": Out(1),
                "has_read": Out(1),
                "has_write": Out(1),
                "waiting_reads": Out(1),
                "waiting_writes": Out(1),
                "ready_for_refresh": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        config, _distances = self._config, self._distances
        job_shape = job_layout(config)
        m.submodules.reads = reads = StreamFIFO(job_shape, depth=config.read_queue)
        m.submodules.writes = writes = StreamFIFO(job_shape, depth=config.write_queue)
        wiring.connect(m, wiring.flipped(self.reads), reads.input)
        wiring.connect(m, wiring.flipped(self.writes), writes.input)

        # The current job; the next one takes its place in the cycle of its last burst.
        job = Signal(job_shape)
        is_write = Signal()
        occupied = Signal()
        last = Signal()
        free = Signal()
        next_valid = Signal()
        next_job = Signal(job_shape)
        m.d.comb += [
            last.eq(job.bursts_less_one == 0),
            free.eq(~occupied | (self.transfer & last)),
            next_valid.eq(
                Mux(self.take_writes, writes.output.valid, reads.output.valid) & ~self.claimed
            ),
            next_job.eq(Mux(self.take_writes, writes.output.payload, reads.output.payload)),
            self.taken.eq(free & next_valid),
            reads.output.ready.eq(self.taken & ~self.take_writes),
            writes.output.ready.eq(self.taken & self.take_writes),
            self.has_read.eq(occupied & ~is_write),
            self.has_write.eq(occupied & is_write),
            self.waiting_reads.eq(reads.output.valid),
            self.waiting_writes.eq(writes.output.valid),
            self.row.eq(job.row),
            self.column.eq(job.column),
            self.place.eq(job.place),
            self.tag.eq(job.tag),
        ]
        with m.If(free):
            m.d.sync += [
                occupied.eq(next_valid),
                job.eq(next_job),
                is_write.eq(self.take_writes),
            ]
        with m.Elif(self.transfer):
            m.d.sync += [
                job.column.eq(job.column + 1),
                job.bursts_less_one.eq(job.bursts_less_one - 1),
                job.place.eq(job.place + place_step(config)),
            ]

        self._row(m, job.row, occupied, is_write, last, next_valid & (next_job.row != job.row))
        return m

    def _row(
        self,
        m: Module,
        wanted: Signal,
        occupied: Signal,
        is_write: Signal,
        last: Signal,
        leaves: Signal,
    ) -> None:
        """Keep the state of the row and the timers."""
        distances = self._distances
        config = self._config
        m.submodules.since_activate = since_activate = Timer(
            tRCDRD=distances.activate_to_column("tRCDRD"),
            tRCDWR=distances.activate_to_column("tRCDWR"),
            tRAS=distances.activate_to_row("tRAS"),
            tRC=distances.activate_to_activate("tRC"),
            tRC_refresh=distances.activate_to_row("tRC"),
        )
        m.submodules.since_read = since_read = Timer(tRTP=distances.read_to_precharge)
        m.submodules.since_write = since_write = Timer(tWR=distances.write_to_precharge)
        m.submodules.since_precharge = since_precharge = Timer(
            tRP=distances.row_to_activate("tRP"), tRP_refresh=distances.row("tRP")
        )
        refresh = "tRFCpb" if config.per_bank_refresh else "tRFCab"
        m.submodules.since_refresh = since_refresh = Timer(
            activate=distances.row_to_activate(refresh), refresh=distances.row(refresh)
        )
        # Between the two commands of an activation the row is neither closed nor open.
        opening = Signal()
        opened = Signal()
        closing = Signal()
        row = Signal(field_bits(config.standard.rows))
        hit = Signal()
        may_precharge = Signal()
        closed = Signal()
        m.d.comb += [
            hit.eq(opened & ~closing & (row == wanted)),
            may_precharge.eq(since_activate["tRAS"] & since_read["tRTP"] & since_write["tWR"]),
            closed.eq(~opening & ~opened),
            self.wants_read.eq(occupied & ~is_write & hit & since_activate["tRCDRD"]),
            self.wants_write.eq(occupied & is_write & hit & since_activate["tRCDWR"]),
            self.wants_precharge.eq(
                opened & ~closing & may_precharge & Mux(occupied, row != wanted, self.claimed)
            ),
            self.wants_activate.eq(
                closed
                & occupied
                & ~self.claimed
                & since_activate["tRC"]
                & since_precharge["tRP"]
                & since_refresh["activate"]
            ),
            self.ready_for_refresh.eq(
                closed
                & since_activate["tRC_refresh"]
                & since_precharge["tRP_refresh"]
                & since_refresh["refresh"]
            ),
            # The row of a bank to be refreshed is of no more use, either. After a write a read may
            # not precharge at once.
            self.auto_precharge.eq(
                last & (leaves | self.claimed) & (is_write | since_write["tWR"])
            ),
            since_activate.start.eq(self.activated),
            since_read.start.eq(self.transfer & ~is_write),
            since_write.start.eq(self.transfer & is_write),
            since_precharge.start.eq(self.precharge | (closing & may_precharge)),
            since_refresh.start.eq(self.refreshing),
        ]
        with m.If(self.activate):
            m.d.sync += [opening.eq(~self.activated), opened.eq(self.activated), row.eq(wanted)]
        with m.Elif(self.activated):
            m.d.sync += [opening.eq(0), opened.eq(1)]
        with m.Elif(since_precharge.start):
            m.d.sync += [opened.eq(0), closing.eq(0)]
        with m.Elif(self.transfer & self.auto_precharge):
            m.d.sync += closing.eq(1)
