"""Jobs of a core that writes its caches wait here until their token is in the tail."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import BEAT_BITS, AttentionConfig
from hw.cores.compressor.tail_appender import token_layout
from hw.cores.payloads import planned_job
from hw.cores.slot_map import asked_layout
from hw.counters import Counter
from hw.formats import FP16_BITS, KVFormat, Mode, Status, modes


def announced_layout(config: AttentionConfig) -> data.StructLayout:
    """Every job of the core, in order: one that is refused has no other meaning than its mode."""
    return data.StructLayout(
        {"refused": 1, "mode": 8, "job": planned_job(config), "value_scale": FP16_BITS}
    )


def started_layout(config: AttentionConfig) -> data.StructLayout:
    """A job on its way through the core, and how its token was appended."""
    return data.StructLayout({"job": planned_job(config), "status": Status})


class JobAdmission(wiring.Component):
    """Lets a job into the core once its token is written and no other job uses its cache.

    A job of mode `KVO` or `SLOTS` brings the key and the value of its newest token. Latency beside
    the appending itself: 5 cycles, with ``slots`` 2 more. A job whose cache a job under way has,
    waits until that has finished, and those behind it wait with it. The beats of a refused job are
    dropped.

    Parameters
    ----------
    config : AttentionConfig

    Members
    -------
    jobs : In(stream of `announced_layout`)
    beats : In(stream of 16 bytes)
        Keys and values as of `TailAppender`, those of each job of mode `KVO` or `SLOTS`.
    token : Out(stream of `token_layout`), token_beats : Out(stream of 16 bytes)
        To the appender.
    appended : In(1)
        For a cycle: all of the token is written.
    not_finite, failed : In(1)
        For a cycle, not after ``appended``: as of `TailAppender`; a write of the token failed.
    admitted : Out(stream of ``planned_job``)
        To the core's sequencer.
    started : Out(stream of `started_layout`)
        The same jobs. ``status`` is OK, MEMORY_ERROR or SCALE_NOT_FINITE.
    finished : In(1)
        For a cycle: the oldest of the jobs that started has ended.
    asked : Out(stream of `asked_layout`), place : In(range(slots)), only with ``slots``
        To the `SlotMap` and back: every job that is not refused.
    counters
        Tokens appended, and cycles in which a job waited for one of the same cache.
    """

    def __init__(self, config: AttentionConfig) -> None:
        self._config = config
        self.tokens = Counter("tokens_appended", "tokens appended to caches", unit="tokens")
        self.same_cache = Counter(
            "same_cache_wait", "cycles in which a job waited for another one of its cache"
        )
        self.counters = [self.tokens, self.same_cache]
        beat = stream.Signature(BEAT_BITS)
        of_slots = {
            "asked": Out(stream.Signature(asked_layout(config))),
            "place": In(range(config.slots)),
        }
        super().__init__(
            {
                "jobs": In(stream.Signature(announced_layout(config))),
                "beats": In(beat),
                "token": Out(stream.Signature(token_layout(config))),
                "token_beats": Out(beat),
                "appended": In(1),
                "not_finite": In(1),
                "failed": In(1),
                "admitted": Out(stream.Signature(planned_job(config))),
                "started": Out(stream.Signature(started_layout(config))),
                "finished": In(1),
                **(of_slots if config.slots else {}),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, jobs = self._config, self.jobs
        job = jobs.payload.job
        # Caches in use, the oldest first; and job slots, since the core gives one back earlier.
        room = config.jobs_in_flight
        own = Cat(job.tail_address, job.slot if config.slots else Const(0, 0))
        caches = [Signal(len(own), name=f"cache_{i}") for i in range(room)]
        used = Signal(range(room + 1))
        address_bits = len(job.tail_address)
        same = Cat(
            (used > i) & self._meet(cache, own, address_bits) for i, cache in enumerate(caches)
        ).any()
        start = Signal()
        place = Signal.like(used)
        m.d.comb += place.eq(used - self.finished)
        m.d.sync += used.eq(place + start)
        for i, cache in enumerate(caches):
            behind = caches[i + 1] if i + 1 < room else cache
            with m.If(start & (place == i)):
                m.d.sync += cache.eq(own)
            with m.Elif(self.finished):
                m.d.sync += cache.eq(behind)

        # The newest token has the last place of the tail, which begins in one half of the ring.
        chunks_of_window = (config.window // config.chunk - 1).bit_length()
        half = job.chunks[chunks_of_window] << config.window.bit_length() - 1
        ring_bits = config.window.bit_length()  # two windows, of a power of two
        beats_of_token = KVFormat(config).token_beats
        beat = Signal(range(beats_of_token))
        last_beat = beat == beats_of_token - 1
        passes, drops, moved = Signal(), Signal(), Signal()
        status = Signal(Status)
        # The ring may have fewer places than there are slots.
        place_of_ring = (half + job.tail - 1)[:ring_bits]
        token_place = Signal(range(config.tail_tokens))
        if config.slots:
            in_slots = jobs.payload.mode == Mode.SLOTS
            slot = Signal.like(self.place)
            with m.If(self.asked.valid & self.asked.ready):
                m.d.sync += slot.eq(self.place)
            m.d.comb += [
                self.asked.payload.in_slots.eq(in_slots),
                self.asked.payload.slot.eq(job.slot),
                self.asked.payload.cache.eq(job.chunk_address),
                self.asked.payload.context.eq(job.tail),
                token_place.eq(Mux(in_slots, slot, place_of_ring)),
            ]
        else:
            m.d.comb += token_place.eq(place_of_ring)
        m.d.comb += [
            self.token.payload.tail_address.eq(job.tail_address),
            self.token.payload.place.eq(token_place),
            self.token.payload.value_scale.eq(jobs.payload.value_scale),
            self.token.payload.of_prompt.eq(0),
            self.token_beats.payload.eq(self.beats.payload),
            self.token_beats.valid.eq(self.beats.valid & passes),
            self.beats.ready.eq(Mux(passes, self.token_beats.ready, drops)),
            moved.eq(self.beats.valid & self.beats.ready),
            self.admitted.payload.eq(job),
            self.started.payload.job.eq(job),
            self.started.payload.status.eq(status),
            self.tokens.event.eq(self.appended),
        ]
        with m.If(moved):
            m.d.sync += beat.eq(Mux(last_beat, 0, beat + 1))
        with m.If(self.failed):
            m.d.sync += status.eq(Status.MEMORY_ERROR)
        with m.Elif(self.not_finite & (status == Status.OK)):
            m.d.sync += status.eq(Status.SCALE_NOT_FINITE)

        appends = Cat(jobs.payload.mode == mode for mode in modes(config) if not mode.dense).any()
        with m.FSM():
            with m.State("JOB"):
                with m.If(jobs.valid & jobs.payload.refused):
                    with m.If(appends):
                        m.next = "DROP"
                    with m.Else():
                        m.d.comb += jobs.ready.eq(1)
                with m.Elif(jobs.valid):
                    m.d.comb += self.same_cache.event.eq(same)
                    with m.If(~same & (used != room)):
                        m.d.sync += status.eq(Status.OK)
                        m.next = "PLACE" if config.slots else "START"
            if config.slots:
                with m.State("PLACE"):
                    m.d.comb += self.asked.valid.eq(1)
                    with m.If(self.asked.ready):
                        m.next = "START"
            with m.State("DROP"):
                m.d.comb += drops.eq(1)
                with m.If(moved & last_beat):
                    m.d.comb += jobs.ready.eq(1)
                    m.next = "JOB"
            with m.State("START"):
                m.d.comb += self.token.valid.eq(appends)
                with m.If(~appends):
                    m.next = "ADMIT"
                with m.Elif(self.token.ready):
                    m.next = "BEATS"
            with m.State("BEATS"):
                m.d.comb += passes.eq(1)
                with m.If(moved & last_beat):
                    m.next = "WRITES"
            with m.State("WRITES"):
                with m.If(self.appended):
                    m.next = "ADMIT"
            with m.State("ADMIT"):
                m.d.comb += self.admitted.valid.eq(1)
                with m.If(self.admitted.ready):
                    m.next = "STARTED"
            with m.State("STARTED"):
                m.d.comb += self.started.valid.eq(1)
                with m.If(self.started.ready):
                    m.d.comb += [start.eq(1), jobs.ready.eq(1)]
                    m.next = "JOB"
        return m

    @staticmethod
    def _meet(one: Value, other: Value, address_bits: int) -> Value:
        """Whether two jobs have the same cache, or the same job slot."""
        cache = one[:address_bits] == other[:address_bits]
        if len(one) == address_bits:
            return cache
        return cache | (one[address_bits:] == other[address_bits:])
