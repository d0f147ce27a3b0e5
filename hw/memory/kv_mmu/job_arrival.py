"""Which job or prompt is next, and whether it may run."""

from amaranth.hdl import Elaboratable, Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.formats import Status
from hw.memory.kv_mmu.config import MmuConfig
from hw.memory.kv_mmu.legality import legal_job, legal_prompt, prompt_faults
from hw.memory.kv_mmu.ports import SYSTEM_PROMPT, system_job_layout


class JobArrival(wiring.Component):
    """Takes one job or prompt at a time, a prompt first; says in the next cycle what it is.

    Parameters
    ----------
    config

    Members
    -------
    job : In(stream of system_job_layout)
    prompt : In(stream of SYSTEM_PROMPT), only if the core writes
    take : In(1)
        The next one may come.
    room, prompt_room : In(1)
        Whether there is a slot for a job, or for a prompt.
    taken : Out(1), sequence, taken_prompt : Out
        For a cycle: one came, of that sequence; whether it is a prompt.
    live : In
        Per sequence, whether it lives.
    current : Out(system_job_layout)
        The one that was taken last; of a prompt what it has in common with a job, its context with
        all its tokens.
    is_prompt : Out(1), current_prompt : Out(SYSTEM_PROMPT)
    known, legal : Out(1)
        Whether the sequence of the current one lives, and whether it needs pages or a place: what
        is not legal is refused by the core, or has a ``fault``.
    fault : Out(Status)
        Why a prompt is not legal that the core would not refuse, else OK.
    """

    def __init__(self, config: MmuConfig) -> None:
        self._config = config
        of_prompts = {"prompt": In(stream.Signature(SYSTEM_PROMPT))}
        super().__init__(
            {
                "job": In(stream.Signature(system_job_layout(config))),
                **(of_prompts if config.writes else {}),
                "take": In(1),
                "room": In(1),
                "prompt_room": In(1),
                "taken": Out(1),
                "sequence": Out(config.sequence_bits),
                "taken_prompt": Out(1),
                "live": In(config.sequences),
                "current": Out(system_job_layout(config)),
                "is_prompt": Out(1),
                "current_prompt": Out(SYSTEM_PROMPT),
                "known": Out(1),
                "legal": Out(1),
                "fault": Out(Status),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        config, current = self._config, self.current
        job = self.job
        m.d.comb += [
            job.ready.eq(self.take & self.room & ~self.taken_prompt),
            self.taken.eq(self.take & (self.taken_prompt | (job.valid & self.room))),
            self.sequence.eq(job.payload.sequence),
            self.known.eq(
                (current.sequence < config.sequences)
                & self.live.bit_select(current.sequence[: config.sequence_bits], 1)
            ),
            self.legal.eq(legal_job(current, config.attention)),
        ]
        with m.If(self.taken):
            m.d.sync += [current.eq(job.payload), self.is_prompt.eq(self.taken_prompt)]
        if config.writes:
            self._prompts(m)
        return m

    def _prompts(self, m: Module) -> None:
        """Prompts come before jobs."""
        prompt, current, kept = self.prompt, self.current, self.current_prompt
        came = prompt.payload
        m.d.comb += [
            self.taken_prompt.eq(prompt.valid & self.prompt_room),
            prompt.ready.eq(self.take & self.prompt_room),
        ]
        with m.If(self.taken_prompt):
            m.d.comb += self.sequence.eq(came.sequence)
            with m.If(self.taken):
                m.d.sync += [
                    kept.eq(came),
                    current.sequence.eq(came.sequence),
                    current.layer.eq(came.layer),
                    current.kv_head.eq(came.kv_head),
                    current.mode.eq(came.mode),
                    current.context.eq(came.first + came.tokens),
                ]
        with m.If(self.is_prompt):
            m.d.comb += self.legal.eq(legal_prompt(kept, self._config.attention))
            for wrong, code in reversed(prompt_faults(kept, self._config)):
                with m.If(wrong):
                    m.d.comb += [self.legal.eq(0), self.fault.eq(code)]
