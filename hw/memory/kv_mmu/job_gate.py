"""Jobs of the system come in, get their pages, and go to the core under virtual addresses."""

from typing import Any

from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.cores.job_finish import finished_layout
from hw.cores.job_retire import completion_layout
from hw.cores.payloads import job_layout
from hw.cores.prompt_import import IMPORTED, PROMPT
from hw.counters import Counter
from hw.formats import Mode, Status
from hw.memory.kv_mmu.config import MmuConfig
from hw.memory.kv_mmu.formats import (
    OFFSET_BITS,
    REGION_BITS,
    Region,
    system_job_fields,
    virtual_address,
)
from hw.memory.kv_mmu.job_arrival import JobArrival
from hw.memory.kv_mmu.job_pages import JobPages
from hw.memory.kv_mmu.job_rights import JobRights
from hw.memory.kv_mmu.layer_map import LayerMap
from hw.memory.kv_mmu.page_grower import grow_request
from hw.memory.kv_mmu.ports import SYSTEM_PROMPT, layer_change, slot_layout, system_job_layout
from hw.memory.kv_mmu.table_walker import walk_request

#: An address that the core refuses: it is not on a burst.
_POISON = 1


def gate_completion(config: MmuConfig) -> data.StructLayout:
    """The completion of the core."""
    layout = finished_layout if config.writes else completion_layout
    return layout(config.attention)


class JobGate(wiring.Component):
    """A job takes 11 cycles and its walk, while the jobs before it run in the core.

    One whose cache lies in the slot area takes 3 cycles, from its transfer to that of the core's
    job, and no walk.

    Every job goes to the core, in order, so that its query beats are consumed. One that must not
    run gets an address that the core refuses, and its completion the status of the MMU.

    If the core writes, a job with pages takes 10 cycles more, and those in which its new pages are
    allocated; any job waits until no other one has its cache, and those behind it wait with it.
    Prompts come in between the jobs and get all pages that they fill, or their place, in the same
    way.

    Parameters
    ----------
    config

    Members
    -------
    job : In(stream of system_job_layout)
    core_job : Out(stream of job_layout)
    core_completion : In(stream of gate_completion)
    completion : Out(stream of gate_completion)
    walk, walked
        The table walker's request and result.
    grow, grown, only if the core writes
        The page grower's request and result.
    prompt : In(stream of SYSTEM_PROMPT), core_prompt : Out(stream of PROMPT), only then
    core_imported, imported : stream of IMPORTED, only then
        A ``status`` may also be LAYER_RANGE, HEAD_RANGE, ADDRESS_RANGE (a record that is not in the
        staging area), NO_SEQUENCE, PAGE_FAULT or OUT_OF_PAGES.
    live : In
        Per sequence, whether it lives.
    in_flight : Out
        Per sequence, whether a job of it is between ``job`` and ``completion``, or its prompt.
    layer_change : In
    slots : Out
        Per job slot what the translator lets through, see `slot_layout`.
    counters
    """

    #: What the slots are made of; a test may have a faulty one.
    rights: type[JobRights] = JobRights

    def __init__(self, config: MmuConfig) -> None:
        self._config = config
        self._refused = Counter("jobs_refused", "jobs without a sequence or a page", unit="jobs")
        self._walking = Counter("walking", "cycles in which table entries were on their way")
        self.counters = [self._refused, self._walking]
        completion = stream.Signature(gate_completion(config))
        of_writes = {
            "grow": Out(stream.Signature(grow_request(config))),
            "grown": In(stream.Signature(1)),
            "prompt": In(stream.Signature(SYSTEM_PROMPT)),
            "core_prompt": Out(stream.Signature(PROMPT)),
            "core_imported": In(stream.Signature(IMPORTED)),
            "imported": Out(stream.Signature(IMPORTED)),
        }
        super().__init__(
            {
                "job": In(stream.Signature(system_job_layout(config))),
                "core_job": Out(stream.Signature(job_layout(config.attention))),
                "core_completion": In(completion),
                "completion": Out(completion),
                "walk": Out(stream.Signature(walk_request(config))),
                "walked": In(stream.Signature(1)),
                **(of_writes if config.writes else {}),
                "live": In(config.sequences),
                "in_flight": Out(config.sequences),
                "layer_change": In(layer_change(config)),
                "slots": Out(slot_layout(config)).array(config.slots),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        config = self._config
        m.submodules.rights = rights = self.rights(config)
        m.submodules.layers = layers = LayerMap(config)
        m.submodules.pages = pages = JobPages(config)
        m.submodules.arrival = arrival = JobArrival(config)
        job, prompt, is_prompt = arrival.current, arrival.current_prompt, arrival.is_prompt
        status, runs, sent = Signal(Status), Signal(), Signal()
        connect(m, flipped(self.job), arrival.job)
        m.d.comb += [
            self.in_flight.eq(rights.in_flight),
            arrival.live.eq(self.live),
            arrival.room.eq(rights.room),
            arrival.prompt_room.eq(rights.prompt_room),
            rights.take.eq(arrival.taken),
            rights.sequence.eq(arrival.sequence),
            rights.of_prompt.eq(arrival.taken_prompt),
            rights.status.eq(status),
            rights.wanted.eq(pages.wanted),
            layers.change.eq(self.layer_change),
            layers.layer.eq(job.layer),
        ]
        for inner, outer in zip(rights.slots, self.slots, strict=True):
            m.d.comb += outer.eq(inner)

        asked = pages.request.payload
        m.d.comb += [
            asked.slot.eq(rights.slot),
            asked.place.sequence.eq(job.sequence),
            asked.place.layer.eq(layers.kv_layer),
            asked.place.kv_head.eq(job.kv_head),
            asked.mode.eq(job.mode),
            asked.first.eq(Mux(is_prompt, prompt.first, job.context - 1)),
            asked.context.eq(job.context),
            asked.grows.eq(~Cat(job.mode == mode for mode in Mode if mode.dense).any()),
            self._walking.event.eq(self.walked.ready),
        ]
        cache = Cat(asked.place.kv_head, asked.place.layer, asked.place.sequence)
        connect(m, pages.walk, flipped(self.walk))
        connect(m, flipped(self.walked), pages.walked)
        self._forward(m, job, rights.slot, runs, cache)
        direct = Const(0)
        if config.has_slot_area:
            direct = job.mode == Mode.SLOTS
            m.d.comb += rights.direct.eq(direct)
            with m.If(direct):
                m.d.comb += rights.wanted.eq(0)
                m.d.comb += rights.wanted[Region.TAIL].eq(config.slot_area.pages)

        def run() -> None:
            m.d.sync += runs.eq(1)
            m.d.comb += rights.grant.eq(1)

        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += arrival.take.eq(1)
                m.d.sync += [status.eq(Status.OK), runs.eq(0)]
                with m.If(arrival.taken):
                    m.next = "CHECK"
            with m.State("CHECK"):
                # The slot counts as in flight by now, so a sequence that lives stays alive.
                with m.If(~arrival.known):
                    m.d.sync += status.eq(Status.NO_SEQUENCE)
                with m.If(arrival.fault != Status.OK):
                    m.d.sync += status.eq(arrival.fault)
                m.next = "SEND"
                with m.If(arrival.known & arrival.legal):
                    m.next = "HOLD" if config.writes else "PAGES"
            if config.writes:
                with m.State("HOLD"):
                    m.d.comb += rights.hold.eq(~rights.same)
                    with m.If(~rights.same):
                        m.next = "PAGES"
                        with m.If(direct):
                            run()
                            m.next = "SEND"
            with m.State("PAGES"):
                m.d.comb += [pages.request.valid.eq(1), pages.result.ready.eq(1)]
                with m.If(pages.result.valid):
                    m.d.sync += status.eq(pages.result.payload)
                    m.next = "SEND"
                    with m.If(pages.result.payload == Status.OK):
                        run()
            with m.State("SEND"):
                m.d.comb += self.core_job.valid.eq(~is_prompt)
                m.d.comb += sent.eq(self.core_job.valid & self.core_job.ready)
                if config.writes:
                    m.d.comb += self.core_prompt.valid.eq(is_prompt)
                    with m.If(self.core_prompt.valid & self.core_prompt.ready):
                        m.d.comb += sent.eq(1)
                with m.If(sent):
                    m.d.comb += self._refused.event.eq(status != Status.OK)
                    m.next = "IDLE"
        m.d.comb += rights.sent.eq(sent)

        m.d.comb += rights.done.eq(
            self._end(m, self.core_completion, self.completion, rights.done_status)
        )
        if config.writes:
            connect(m, flipped(self.prompt), arrival.prompt)
            m.d.comb += [
                rights.cache.eq(cache),
                rights.prompt_done.eq(
                    self._end(m, self.core_imported, self.imported, rights.prompt_status)
                ),
                self.core_prompt.payload.first.eq(prompt.first),
                self.core_prompt.payload.tokens.eq(prompt.tokens),
                self.core_prompt.payload.mode.eq(prompt.mode),
                self.core_prompt.payload.source_address.eq(
                    config.staging_address + prompt.source_address
                ),
            ]
            connect(m, pages.grow, flipped(self.grow))
            connect(m, flipped(self.grown), pages.grown)
        return m

    @staticmethod
    def _end(m: Module, done: Any, ended: Any, status: Value) -> Value:
        """Pass the end of a job or a prompt; return whether it moves.

        Only where the core says no more than that the address is not legal, the reason is the
        MMU's.
        """
        m.d.comb += [
            ended.valid.eq(done.valid),
            done.ready.eq(ended.ready),
            ended.payload.eq(done.payload),
        ]
        with m.If((done.payload.status == Status.ADDRESS_RANGE) & (status != Status.OK)):
            m.d.comb += ended.payload.status.eq(status)
        return done.valid & done.ready

    def _forward(self, m: Module, job: data.View, slot: Value, runs: Value, cache: Value) -> None:
        """What the core gets: the fields as they are, and addresses of the slot."""
        core = self._config.attention
        names = ("base_address", "chunk_address", "tail_address")
        receivers = [self.core_job.payload]
        for name in system_job_fields(core):
            if name != "sequence":
                m.d.comb += self.core_job.payload[name].eq(job[name])
        if self._config.writes:
            receivers.append(self.core_prompt.payload)
        for payload in receivers:
            for name, which in zip(names, Region, strict=True):
                address = slot << (OFFSET_BITS + REGION_BITS) | virtual_address(0, which)
                m.d.comb += payload[name].eq(Mux(runs, address, _POISON))
        if core.slots:
            with m.If(runs & (job.mode == Mode.SLOTS)):
                m.d.comb += self.core_job.payload.chunk_address.eq(cache)
