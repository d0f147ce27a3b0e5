"""The job slots: whose job is in each, and what it may access."""

from amaranth.hdl import Array, Cat, Elaboratable, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.formats import Status
from hw.memory.kv_mmu.config import MmuConfig
from hw.memory.kv_mmu.formats import Region
from hw.memory.kv_mmu.ports import slot_layout


class JobRights(wiring.Component):
    """One job at a time gets its slot and its rights; they end with its completion.

    Slots of jobs are a ring, as completions come in the order of the jobs. If the core writes, a
    prompt has the slot behind them, and no two jobs or prompts in flight have the same cache.

    Parameters
    ----------
    config

    Members
    -------
    room, prompt_room : Out(1)
        Whether the next job, or a prompt, has a free slot.
    take : In(1), sequence, of_prompt : In
        A job or a prompt takes its slot, of which all that follows is until ``sent``.
    slot : Out
        Its number.
    cache : In, same : Out(1), hold : In(1), only if the core writes
        Whether another job has that cache; ``hold`` keeps it from the next ones.
    grant : In(1), wanted : In
        It gets the right to so many pages of each region.
    direct : In(1), only with a slot area
        With ``grant``: they are parts of the place of its ``cache``.
    sent : In(1), status : In
        It has gone to the core; how it has ended already.
    done, prompt_done : In(1)
        The oldest job, or the prompt, is completed.
    done_status, prompt_status : Out
        The ``status`` that it was sent with.
    slots : Out
        Per slot what the translator lets through, see `slot_layout`.
    in_flight : Out
        Per sequence, whether a job or a prompt of it has a slot.
    """

    def __init__(self, config: MmuConfig) -> None:
        self._config = config
        writes = {
            "cache": In(range(config.caches)),
            "same": Out(1),
            "hold": In(1),
        }
        super().__init__(
            {
                "room": Out(1),
                "prompt_room": Out(1),
                "take": In(1),
                "sequence": In(config.sequence_bits),
                "of_prompt": In(1),
                "slot": Out(range(config.slots)),
                **(writes if config.writes else {}),
                "grant": In(1),
                "wanted": In(slot_layout(config)["pages"].shape),
                **({"direct": In(1)} if config.has_slot_area else {}),
                "sent": In(1),
                "status": In(Status),
                "done": In(1),
                "prompt_done": In(1),
                "done_status": Out(Status),
                "prompt_status": Out(Status),
                "slots": Out(slot_layout(config)).array(config.slots),
                "in_flight": Out(config.sequences),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        config = self._config
        slots, jobs = config.slots, config.attention.jobs_in_flight
        newest, oldest = Signal(range(jobs)), Signal(range(jobs))
        prompt = Signal()
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
        m.d.comb += [
            self.room.eq(~taken.bit_select(newest, 1)),
            self.prompt_room.eq(~taken[jobs] if config.writes else 0),
            self.slot.eq(Mux(prompt, jobs, newest) if config.writes else newest),
            self.done_status.eq(statuses[oldest]),
            self.prompt_status.eq(statuses[jobs] if config.writes else Status.OK),
        ]

        with m.If(self.take):
            m.d.sync += prompt.eq(self.of_prompt)
        with m.If(self.sent):
            m.d.sync += statuses[self.slot].eq(self.status)
            with m.If(~prompt):
                m.d.sync += newest.eq(newest + 1)
        with m.If(self.done):
            m.d.sync += oldest.eq(oldest + 1)
        for i in range(slots):
            takes, ends = Signal(name=f"takes_{i}"), Signal(name=f"ends_{i}")
            if i == jobs:
                m.d.comb += [takes.eq(self.take & self.of_prompt), ends.eq(self.prompt_done)]
            else:
                m.d.comb += [
                    takes.eq(self.take & ~self.of_prompt & (newest == i)),
                    ends.eq(self.done & (oldest == i)),
                ]
            with m.If(takes):
                m.d.sync += [taken[i].eq(1), sequence[i].eq(self.sequence)]
            with m.If(self.grant & (self.slot == i)):
                m.d.sync += [limits[i][r].eq(self.wanted[r]) for r in Region]
            with m.If(ends):
                m.d.sync += taken[i].eq(0)
                m.d.sync += [limits[i][r].eq(0) for r in Region]
            if config.writes:
                self._hold(m, i, ends)
        return m

    def _hold(self, m: Module, slot: int, ends: Signal) -> None:
        """Remember the cache of a slot, and whether it lies in the slot area."""
        held, cache = Signal(name=f"held_{slot}"), Signal.like(self.cache, name=f"cache_{slot}")
        with m.If(held & (cache == self.cache)):
            m.d.comb += self.same.eq(1)
        with m.If(self.hold & (self.slot == slot)):
            m.d.sync += [held.eq(1), cache.eq(self.cache)]
        with m.If(ends):
            m.d.sync += held.eq(0)
        if self._config.has_slot_area:
            direct = Signal(name=f"direct_{slot}")
            with m.If(self.grant & (self.slot == slot)):
                m.d.sync += direct.eq(self.direct)
            m.d.comb += [
                self.slots[slot].direct.eq(direct),
                self.slots[slot].cache.eq(cache[: self._config.cache_bits]),
            ]
