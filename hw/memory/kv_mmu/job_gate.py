"""Jobs of the system come in, get their pages, and go to the core under virtual addresses."""

from amaranth.hdl import Array, Cat, Elaboratable, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.cores.job_retire import completion_layout
from hw.cores.payloads import job_layout
from hw.counters import Counter
from hw.formats import Mode, Status, modes
from hw.memory.kv_mmu.config import MmuConfig
from hw.memory.kv_mmu.formats import (
    OFFSET_BITS,
    REGION_BITS,
    Region,
    system_job_fields,
    virtual_address,
)
from hw.memory.kv_mmu.ports import layer_change, slot_layout, system_job_layout
from hw.memory.kv_mmu.region_sizes import RegionSizes
from hw.memory.kv_mmu.table_walker import walk_request

#: An address that the core refuses: it is not on a burst.
_POISON = 1


class JobGate(wiring.Component):
    """A job takes 8 cycles and its walk, while the jobs before it run in the core.

    Every job goes to the core, in order, so that its query beats are consumed. One that must not
    run gets an address that the core refuses, and its completion the status of the MMU.

    Parameters
    ----------
    config

    Members
    -------
    job : In(stream of system_job_layout)
    core_job : Out(stream of job_layout)
    core_completion : In(stream of completion_layout)
    completion : Out(stream of completion_layout)
    walk, walked
        The table walker's request and result.
    live : In
        Per sequence, whether it lives.
    in_flight : Out
        Per sequence, whether a job of it is between ``job`` and ``completion``.
    layer_change : In
    slots : Out
        Per job slot the sequence and the pages of each region: what the translator lets through.
    counters
    """

    def __init__(self, config: MmuConfig) -> None:
        self._config = config
        self._refused = Counter("jobs_refused", "jobs without a sequence or a page", unit="jobs")
        self._walking = Counter("walking", "cycles in which table entries were on their way")
        self.counters = [self._refused, self._walking]
        core = config.attention
        super().__init__(
            {
                "job": In(stream.Signature(system_job_layout(config))),
                "core_job": Out(stream.Signature(job_layout(core))),
                "core_completion": In(stream.Signature(completion_layout(core))),
                "completion": Out(stream.Signature(completion_layout(core))),
                "walk": Out(stream.Signature(walk_request(config))),
                "walked": In(stream.Signature(1)),
                "live": In(config.sequences),
                "in_flight": Out(config.sequences),
                "layer_change": In(layer_change(config)),
                "slots": Out(slot_layout(config)).array(config.slots),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        config, core = self._config, self._config.attention
        slots = config.slots
        job = Signal(system_job_layout(config))
        status = Signal(Status)

        # Slots are a ring: completions come in the order of the jobs.
        newest, oldest = Signal(range(slots)), Signal(range(slots))
        taken = Signal(slots)
        sequence = [Signal(config.sequence_bits, name=f"sequence_{i}") for i in range(slots)]
        statuses = Array(Signal(Status, name=f"status_{i}") for i in range(slots))
        #: Pages that may be accessed, per slot and region.
        limits = [
            [Signal.like(self.slots[i].pages[r], name=f"pages_{i}_{r}") for r in Region]
            for i in range(slots)
        ]
        for i in range(slots):
            m.d.comb += [self.slots[i].sequence.eq(sequence[i])]
            m.d.comb += [self.slots[i].pages[r].eq(limits[i][r]) for r in Region]
        for number in range(config.sequences):
            uses = Cat(taken[i] & (sequence[i] == number) for i in range(slots))
            m.d.comb += self.in_flight[number].eq(uses.any())

        # The layer map is the identity where nothing was written.
        m.submodules.layers = layers = Memory(shape=config.layer_bits, depth=core.layers, init=[])
        mapped = Signal(core.layers)
        read, write = layers.read_port(transparent_for=()), layers.write_port()
        change = self.layer_change
        m.d.comb += [
            read.addr.eq(job.layer),
            write.en.eq(change.enable),
            write.addr.eq(change.layer),
            write.data.eq(change.kv_layer),
        ]
        with m.If(change.enable):
            m.d.sync += mapped.bit_select(change.layer, 1).eq(1)

        # Sizes that follow from the context, region by region.
        m.submodules.sizes = sizes = RegionSizes(config)
        m.d.comb += [sizes.context.eq(job.context), sizes.mode.eq(job.mode)]

        region = Signal(range(len(Region)))
        pages = Signal.like(self.walk.payload.pages)
        place = self.walk.payload.place
        m.d.comb += [
            sizes.region.eq(region),
            self.walk.payload.slot.eq(newest),
            self.walk.payload.pages.eq(pages),
            place.sequence.eq(job.sequence),
            place.layer.eq(Mux(mapped.bit_select(job.layer, 1), read.data, job.layer)),
            place.kv_head.eq(job.kv_head),
            place.region.eq(region),
        ]
        # What the core refuses by itself needs no pages.
        legal = (
            (job.config_hash == core.config_hash)
            & (job.mode <= max(modes(core)))
            & (job.context != 0)
            & (job.context <= Mux(job.mode == Mode.SLOTS, core.slots, core.max_context))
            & (job.layer < core.layers)
            & (job.kv_head < core.kv_heads)
        )
        known = (job.sequence < config.sequences) & self.live.bit_select(
            job.sequence[: config.sequence_bits], 1
        )

        wanted = Array(Signal.like(pages, name=f"wanted_{r.name.lower()}") for r in Region)
        runs = Signal()
        forwarded = self.core_job.payload
        bases = {"base_address": Region.BASE, "chunk_address": Region.CHUNK}
        for name in system_job_fields(core):
            if name != "sequence":
                m.d.comb += forwarded[name].eq(job[name])
        slot_base = newest << (OFFSET_BITS + REGION_BITS)
        for name, which in (bases | {"tail_address": Region.TAIL}).items():
            address = slot_base | virtual_address(0, which)
            m.d.comb += forwarded[name].eq(Mux(runs, address, _POISON))

        m.d.comb += self._walking.event.eq(self.walked.ready)
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.job.ready.eq(~taken.bit_select(newest, 1))
                m.d.sync += [status.eq(Status.OK), runs.eq(0), region.eq(0)]
                with m.If(self.job.valid & self.job.ready):
                    m.d.sync += [job.eq(self.job.payload), taken.bit_select(newest, 1).eq(1)]
                    for i in range(slots):
                        with m.If(newest == i):
                            m.d.sync += sequence[i].eq(self.job.payload.sequence)
                    m.next = "CHECK"
            with m.State("CHECK"):
                # The slot counts as in flight by now, so a sequence that lives stays alive.
                with m.If(~known):
                    m.d.sync += status.eq(Status.NO_SEQUENCE)
                m.next = "SEND"
                with m.If(known & legal):
                    m.next = "SIZE"
            with m.State("SIZE"):
                m.d.sync += pages.eq(sizes.pages)
                m.next = "WALK"
            with m.State("WALK"):
                m.d.comb += self.walk.valid.eq(1)
                m.d.sync += wanted[region].eq(pages)
                with m.If(self.walk.ready):
                    m.next = "WALKED"
            with m.State("WALKED"):
                m.d.comb += self.walked.ready.eq(1)
                with m.If(self.walked.valid):
                    m.d.sync += region.eq(region + 1)
                    with m.If(self.walked.payload):
                        m.d.sync += status.eq(Status.PAGE_FAULT)
                        m.next = "SEND"
                    with m.Elif(region == max(Region)):
                        m.next = "GRANT"
                    with m.Else():
                        m.next = "SIZE"
            with m.State("GRANT"):
                m.d.sync += runs.eq(1)
                for i in range(slots):
                    with m.If(newest == i):
                        m.d.sync += [limits[i][r].eq(wanted[r]) for r in Region]
                m.next = "SEND"
            with m.State("SEND"):
                m.d.comb += self.core_job.valid.eq(1)
                m.d.sync += statuses[newest].eq(status)
                with m.If(self.core_job.ready):
                    m.d.comb += self._refused.event.eq(status != Status.OK)
                    m.d.sync += newest.eq(newest + 1)
                    m.next = "IDLE"

        # A completion ends the job's rights. Only where the core says no more than that the address
        # is not legal, the reason is the MMU's.
        done = self.core_completion
        m.d.comb += [
            self.completion.valid.eq(done.valid),
            done.ready.eq(self.completion.ready),
            self.completion.payload.eq(done.payload),
        ]
        own = statuses[oldest]
        with m.If((done.payload.status == Status.ADDRESS_RANGE) & (own != Status.OK)):
            m.d.comb += self.completion.payload.status.eq(own)
        with m.If(done.valid & done.ready):
            m.d.sync += [oldest.eq(oldest + 1), taken.bit_select(oldest, 1).eq(0)]
            for i in range(slots):
                with m.If(oldest == i):
                    m.d.sync += [limits[i][r].eq(0) for r in Region]
        return m
