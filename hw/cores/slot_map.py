"""Where the tokens of the caches of constant size go (docs/contracts.md, section 11)."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.config import AttentionConfig
from hw.cores.payloads import POSITION_BITS, slot_bits, slot_uses
from hw.cores.victim_select import victim_layout


def asked_layout(config: AttentionConfig) -> data.StructLayout:
    """A job before its token is appended; of other modes than `SLOTS` only the job slot counts."""
    return data.StructLayout(
        {
            "in_slots": 1,
            "slot": slot_bits(config),
            "cache": range(max(2, config.slot_caches)),
            #: Live tokens, the newest included.
            "context": range(config.max_context + 1),
        }
    )


def placed_layout(config: AttentionConfig) -> data.StructLayout:
    """Of a job's newest token the position and the slot, and the slot of the one behind it.

    Two counters: the position goes on for good (modulo 2**32), a slot is taken again and again.
    """
    place = range(config.slots)
    return data.StructLayout({"position": POSITION_BITS, "slot": place, "next_slot": place})


def kept_layout(config: AttentionConfig) -> data.StructLayout:
    """A job that has ended well, for a cycle: its cache has the token now."""
    caches = range(max(2, config.slot_caches))
    return data.StructLayout({"valid": 1, "slot": slot_bits(config), "cache": caches})


class SlotMap(wiring.Component):
    """Next slot, position and newest slots of each cache: 2 cycles for a job's answer.

    While a cache fills, all of that follows from its context, whatever the map holds. A full one is
    continued from what its last job left: until a job is kept nothing changes, so that a job that
    failed may come again, with the same slot.

    Parameters
    ----------
    config : AttentionConfig
        With ``slots``.

    Members
    -------
    asked : In(stream of `asked_layout`)
        Every job of a core, one of a cache at a time; taken together with the answer.
    place : Out(range(slots))
        The slot of its token, in the cycle in which ``asked`` is ready.
    uses : Out(`slot_uses`)
        Of each job in flight, from its answer on.
    victim : In(`victim_layout`)
        Of each job that runs, before it is kept.
    kept : In(`kept_layout`)
    placed : Out(array of `placed_layout`)
        Of each job in flight, once its victim is there.
    """

    def __init__(self, config: AttentionConfig) -> None:
        self._config = config
        self._entry = data.StructLayout(
            {
                "full": 1,
                "position": POSITION_BITS,
                "next_slot": range(config.slots),
                "recent": data.ArrayLayout(range(config.slots), config.slot_recent),
            }
        )
        placed = data.ArrayLayout(placed_layout(config), config.jobs_in_flight)
        super().__init__(
            {
                "asked": In(stream.Signature(asked_layout(config))),
                "place": Out(range(config.slots)),
                "uses": Out(slot_uses(config)),
                "victim": In(victim_layout(config)),
                "kept": In(kept_layout(config)),
                "placed": Out(placed),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, asked = self._config, self.asked.payload
        slots, jobs = config.slots, config.jobs_in_flight
        m.submodules.table = table = Memory(shape=self._entry, depth=config.slot_caches, init=[])
        write, read = table.write_port(), table.read_port(domain="sync")

        # What the last job of the cache left counts once the cache was full before this job.
        entry = read.data
        fills, goes_on = Signal(), Signal()
        slot, position = Signal(range(slots)), Signal(POSITION_BITS)
        legal = entry.next_slot < slots  # a memory that was never written may hold anything
        m.d.comb += [
            read.addr.eq(asked.cache),
            read.en.eq(1),
            fills.eq(asked.context != slots),
            goes_on.eq(~fills & entry.full),
            slot.eq(Mux(goes_on, Mux(legal, entry.next_slot, 0), asked.context - 1)),
            position.eq(Mux(goes_on, entry.position + 1, asked.context - 1)),
            self.place.eq(slot),
        ]
        first_full = list(range(slots - 2, slots - 1 - config.slot_recent, -1))
        older = (Mux(goes_on, entry.recent[i], first) for i, first in enumerate(first_full))
        recent = Cat(slot, *(number[: len(slot)] for number in older))

        positions = [Signal(POSITION_BITS, name=f"position_{i}") for i in range(jobs)]
        filling = Signal(jobs)
        victims = [Signal(range(slots), name=f"victim_{i}") for i in range(jobs)]
        answer = Signal()
        m.d.sync += answer.eq(self.asked.valid & ~answer)
        m.d.comb += self.asked.ready.eq(answer)
        for i in range(jobs):
            with m.If(answer & (asked.slot == i)):
                m.d.sync += [
                    self.uses[i].in_slots.eq(asked.in_slots),
                    self.uses[i].place.eq(slot),
                    self.uses[i].recent.eq(recent),
                    positions[i].eq(position),
                    filling[i].eq(fills),
                ]
            with m.If(self.victim.valid & (self.victim.slot == i)):
                m.d.sync += victims[i].eq(self.victim.victim)
            m.d.comb += [
                self.placed[i].position.eq(positions[i]),
                self.placed[i].slot.eq(self.uses[i].place),
                self.placed[i].next_slot.eq(Mux(filling[i], self.uses[i].place + 1, victims[i])),
            ]

        kept = self.kept
        of_job = Array(self.placed[i] for i in range(jobs))[kept.slot]
        use = Array(self.uses[i] for i in range(jobs))[kept.slot]
        m.d.comb += [
            write.en.eq(kept.valid),
            write.addr.eq(kept.cache),
            write.data.full.eq(~filling.bit_select(kept.slot, 1)),
            write.data.position.eq(of_job.position),
            write.data.next_slot.eq(of_job.next_slot),
            write.data.recent.eq(use.recent),
        ]
        return m
