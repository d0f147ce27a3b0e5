"""A prompt becomes a cache: its tokens are read, appended, and compressed window by window."""

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.config import BEAT_BITS, BURST_BYTES, AttentionConfig
from hw.cores.compressor.payloads import ANSWER, window_count, window_layout
from hw.cores.compressor.tail_appender import token_layout
from hw.cores.compressor.window_closer import reading_config
from hw.counters import Counter
from hw.formats import FP16_BITS, SALIENCY_BITS, KVFormat, Mode, Status
from hw.memory.fetch import Fetch
from hw.memory.port import ADDRESS_BITS, memory_port

#: What comes first of a token's record; the rest of the beat is not looked at.
_HEADER = data.StructLayout({"value_scale": FP16_BITS, "zero": 16, "saliency": SALIENCY_BITS})
_COUNT_BITS = 16
#: Tokens that have left the appender; of those, what a fence is behind, and what is written.
_PROGRESS = ("appended_tokens", "fenced_tokens", "written_tokens")


#: A prompt, or a part of one.
PROMPT = data.StructLayout(
    {
        #: Records of the tokens, see `KVFormat.prompt_record_bytes`.
        "source_address": ADDRESS_BITS,
        "base_address": ADDRESS_BITS,
        "chunk_address": ADDRESS_BITS,
        "tail_address": ADDRESS_BITS,
        #: Tokens that the cache has already, and tokens to come.
        "first": _COUNT_BITS,
        "tokens": _COUNT_BITS,
        #: `KVO` or `SLOTS`.
        "mode": 8,
    }
)


#: How an import ended, and how many of its tokens are in the cache.
IMPORTED = data.StructLayout({"status": Status, "tokens": _COUNT_BITS})


class PromptImport(wiring.Component):
    """Appends the tokens of a prompt, and closes each window beside the tokens of the next one.

    The pace is that of the slowest: the appender, the closer of windows, and the memory, as records
    are read ahead: an appender that never waits gets a beat a cycle, less 1 cycle a token. A token
    waits only for the window whose place in the ring it takes, two windows before its own. In mode
    `SLOTS` tokens go to the slots of their positions, and no window closes.

    Parameters
    ----------
    config : AttentionConfig
    page_bytes
        As of `Fetch`.

    Members
    -------
    prompt : In(stream of PROMPT)
    imported : Out(stream of `IMPORTED`)
        ``OK``; ``MEMORY_ERROR`` of any token or window, else ``SCALE_NOT_FINITE``, after which the
        cache must not be used, though all tokens were appended and all windows closed;
        ``MODE_RANGE`` (the core imports no such caches), ``CONTEXT_RANGE`` (no token, or more than
        the cache can have, of slots all but one) or ``ADDRESS_RANGE`` (an address is not on a
        burst; of slots only the tail's counts), and nothing was accessed.
    memory : Out(memory_port)
        Reads the records.
    token, token_beats : Out(stream)
        To the appender.
    appended : In(range(chunk + 1))
        The last bursts of how many further tokens are on their way to the memory in this cycle.
    fence : Out(1), fenced : In(1)
        Of the writer of these bursts, as of `RecordWriter`.
    not_finite, failed : In(1)
        For a cycle, before ``appended``: a number of a token is not finite; for a cycle, before it
        is fenced: a write failed.
    window, answer : stream
        To the closer of windows and back.
    counters
        Tokens imported.
    """

    def __init__(self, config: AttentionConfig, page_bytes: int | None = None) -> None:
        self._config = config
        self._fetch = Fetch(reading_config(config), page_bytes)
        self.tokens = Counter("tokens_imported", "tokens of prompts appended", unit="tokens")
        self.counters = [self.tokens]
        super().__init__(
            {
                "prompt": In(stream.Signature(PROMPT)),
                "imported": Out(stream.Signature(IMPORTED)),
                "memory": Out(memory_port(reading_config(config))),
                "token": Out(stream.Signature(token_layout(config))),
                "token_beats": Out(stream.Signature(BEAT_BITS)),
                "appended": In(range(config.chunk + 1)),
                "fence": Out(1),
                "fenced": In(1),
                "not_finite": In(1),
                "failed": In(1),
                "window": Out(stream.Signature(window_layout(config))),
                "answer": In(stream.Signature(ANSWER)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        m.submodules.fetch = fetch = self._fetch
        connect(m, fetch.memory, flipped(self.memory))
        layout = KVFormat(config)
        record, record_beats = layout.prompt_record_bytes, layout.token_beats
        prompt, status = Signal(PROMPT), Signal(Status)
        #: Tokens that are asked for, and those that the appender has.
        asked, count = Signal(_COUNT_BITS), Signal(_COUNT_BITS)
        source = Signal(ADDRESS_BITS)
        active = Signal()
        segments, beats = fetch.segments, fetch.beats
        m.d.comb += [
            segments.payload.address.eq(source),
            segments.payload.bursts.eq(record // BURST_BYTES),
            segments.valid.eq(active & (asked != prompt.tokens)),
        ]
        with m.If(segments.valid & segments.ready):
            m.d.sync += [asked.eq(asked + 1), source.eq(source + record)]

        header = Signal(_HEADER)
        beat = Signal(range(record_beats + 1))
        position = prompt.first + count
        #: The first token of its block.
        block = position & ~(config.chunk - 1)
        window_shift = config.window.bit_length() - 1
        in_slots = (prompt.mode == Mode.SLOTS) & bool(config.slots)
        place: Value = position[: window_shift + 1]
        if config.slots:
            place = Mux(in_slots, position, place)
        #: Windows of the cache that are closed, and how many will be.
        closed = Signal.like(self.window.payload.window)
        target = Signal(range(window_count(config) + 1))
        written = self._written(m, active)
        m.d.comb += [
            self.token.payload.tail_address.eq(prompt.tail_address),
            self.token.payload.place.eq(place),
            self.token.payload.value_scale.eq(header.value_scale),
            self.token.payload.of_prompt.eq(1),
            self.token.payload.gathered.eq(
                (block >= prompt.first) & (block + config.chunk <= prompt.first + prompt.tokens)
            ),
            self.token.payload.saliency.eq(header.saliency),
            self.token_beats.payload.eq(beats.payload.data),
            self.window.payload.base_address.eq(prompt.base_address),
            self.window.payload.chunk_address.eq(prompt.chunk_address),
            self.window.payload.tail_address.eq(prompt.tail_address),
            self.window.payload.window.eq(closed),
            self.imported.payload.status.eq(status),
            self.imported.payload.tokens.eq(count),
        ]
        of_windows = Mux(in_slots, 0, prompt.base_address | prompt.chunk_address)
        addresses = prompt.source_address | of_windows | prompt.tail_address
        aligned = ~addresses[: (BURST_BYTES - 1).bit_length()].any()
        longest = Mux(in_slots, max(config.slots - 1, 0), config.max_context)
        taken = beats.valid & beats.ready
        spoilt = self.failed | (taken & beats.payload.error)
        answer = self.answer
        answered = answer.valid & answer.ready
        spoilt |= answered & (answer.payload.status == Status.MEMORY_ERROR)
        with m.If(spoilt):
            m.d.sync += status.eq(Status.MEMORY_ERROR)
        with m.Elif(status == Status.OK):
            with m.If(self.not_finite):
                m.d.sync += status.eq(Status.SCALE_NOT_FINITE)
            with m.Elif(answered):
                m.d.sync += status.eq(answer.payload.status)

        complete = (prompt.first + written) >> window_shift
        with m.FSM(name="windows"):
            with m.State("WAIT"):
                with m.If(active & (closed != target) & (complete > closed)):
                    m.next = "WINDOW"
            with m.State("WINDOW"):
                m.d.comb += self.window.valid.eq(1)
                with m.If(self.window.ready):
                    m.next = "ANSWER"
            with m.State("ANSWER"):
                m.d.comb += answer.ready.eq(1)
                with m.If(answer.valid):
                    m.d.sync += closed.eq(closed + 1)
                    m.next = "WAIT"

        def closable(tokens: Value) -> Value:
            """Windows that have another one behind them."""
            windows = tokens >> window_shift
            return Mux(windows == 0, 0, windows - 1)

        all_closable = closable(prompt.first + prompt.tokens)
        with m.FSM():
            with m.State("PROMPT"):
                m.d.comb += self.prompt.ready.eq(1)
                m.d.sync += [
                    prompt.eq(self.prompt.payload),
                    source.eq(self.prompt.payload.source_address),
                    asked.eq(0),
                    count.eq(0),
                    status.eq(Status.OK),
                ]
                with m.If(self.prompt.valid):
                    m.next = "CHECK"
            with m.State("CHECK"):
                m.next = "END"
                with m.If((prompt.mode != Mode.KVO) & ~in_slots):
                    m.d.sync += status.eq(Status.MODE_RANGE)
                with m.Elif((prompt.tokens == 0) | (prompt.first + prompt.tokens > longest)):
                    m.d.sync += status.eq(Status.CONTEXT_RANGE)
                with m.Elif(~aligned):
                    m.d.sync += status.eq(Status.ADDRESS_RANGE)
                with m.Else():
                    m.d.sync += [
                        active.eq(1),
                        closed.eq(closable(prompt.first)),
                        # The last window of all stays open.
                        target.eq(
                            Mux(
                                all_closable > window_count(config),
                                window_count(config),
                                all_closable,
                            )
                        ),
                    ]
                    with m.If(in_slots):
                        m.d.sync += [closed.eq(0), target.eq(0)]
                    m.next = "HEADER"
            with m.State("HEADER"):
                m.d.comb += beats.ready.eq(1)
                m.d.sync += [header.eq(beats.payload.data), beat.eq(record_beats)]
                with m.If(beats.valid):
                    m.next = "TOKEN"
            with m.State("TOKEN"):
                # Its place in the ring is free.
                free = (position >> window_shift) <= closed + 1
                m.d.comb += self.token.valid.eq(in_slots | free)
                with m.If(self.token.valid & self.token.ready):
                    m.next = "BEATS"
            with m.State("BEATS"):
                # Padding behind the last beat is dropped.
                m.d.comb += [
                    self.token_beats.valid.eq(beats.valid & (beat != 0)),
                    beats.ready.eq(Mux(beat == 0, 1, self.token_beats.ready)),
                ]
                with m.If(taken):
                    m.d.sync += beat.eq(beat - (beat != 0))
                    with m.If(beats.payload.last):
                        m.d.comb += self.tokens.event.eq(1)
                        m.d.sync += count.eq(count + 1)
                        m.next = "HEADER"
                        with m.If(count + 1 == prompt.tokens):
                            m.next = "WRITTEN"
            with m.State("WRITTEN"):
                with m.If((written == prompt.tokens) & (closed == target)):
                    m.d.sync += active.eq(0)
                    m.next = "END"
            with m.State("END"):
                m.d.comb += self.imported.valid.eq(1)
                with m.If(self.imported.ready):
                    m.next = "PROMPT"
        return m

    def _written(self, m: Module, active: Value) -> Signal:
        """Tokens of the prompt that are in the memory, found by one fence after the other."""
        appended, before_fence, written = (Signal(_COUNT_BITS, name=name) for name in _PROGRESS)
        m.d.comb += self.fence.eq(active & self.fenced & (appended != before_fence))
        with m.If(self.fenced):
            m.d.sync += written.eq(before_fence)
        with m.If(self.fence):
            m.d.sync += before_fence.eq(appended)
        with m.If(~active):
            m.d.sync += [x.eq(0) for x in (appended, before_fence, written)]
        with m.Else():
            m.d.sync += appended.eq(appended + self.appended)
        return written
