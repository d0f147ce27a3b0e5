"""Closes windows: reads the tail blocks of one, writes its base keys and group records."""

from dataclasses import replace

from amaranth.hdl import Const, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.config import AttentionConfig
from hw.cores.compressor.chunk_order import ChunkOrder
from hw.cores.compressor.header_reader import HeaderReader
from hw.cores.compressor.key_closer import KeyCloser
from hw.cores.compressor.payloads import ANSWER, window_count, window_layout
from hw.cores.compressor.read_plan import ReadPlan, Section
from hw.cores.compressor.record_writer import RecordWriter
from hw.cores.compressor.value_closer import ValueCloser
from hw.cores.compressor.window_places import BURST_SHIFT, WindowPlaces
from hw.counters import Counter
from hw.formats import Status
from hw.memory.fetch import Fetch
from hw.memory.port import memory_port, write_port
from hw.streams import StreamFIFO, fork

LANES = (4, 8)
WRITE_TAG_BITS = (2, 3, 4, 5, 6)
#: Requests under way and beats of the reorder buffer of the reading side.
_TAGS, _REORDER_BEATS = 8, 128
#: Segments that are asked for and not yet read.
_SEGMENTS = 16
#: Bursts of a run of written bursts, and of all runs of a value group that grow.
_RUN, _RUNS = 8, 32


def reading_config(config: AttentionConfig) -> AttentionConfig:
    """``config`` with the tags and the reorder buffer of a `WindowCloser`."""
    return replace(config, memory_tags=_TAGS, reorder_beats=_REORDER_BEATS)


class WindowCloser(wiring.Component):
    """Closes one window after the other (docs/contracts.md, section 9).

    The pace is set by the slowest of three: a beat a cycle of what is read; for each token but the
    base and each key group ``max(6, group / lanes)`` cycles; for each channel of a value group
    ``max(6, value_group / lanes)``. Codes of 4 bits make the pruning slower, up to 18 cycles in the
    place of 6. Before that come the headers, after it a few dozen cycles until the last burst is
    written. Nothing else may use the regions meanwhile.

    Parameters
    ----------
    config
        ``mask_scope`` must be ``token``.
    lanes : int
        Numbers that keys and values each quantise in a cycle: 4 or 8.
    page_bytes
        As of `Fetch`. Requests to write may cross pages.
    write_tag_bits : int
        2 to this power requests to write are under way at most, each of up to 8 bursts: 2 to 6.

    Members
    -------
    window : In(stream)
        ``base_address``, ``chunk_address``, ``tail_address`` of a cache, burst-aligned, and
        ``window``, how many of its windows are closed already.
    answer : Out(stream)
        ``status`` once the window is written: ``OK``; ``MEMORY_ERROR`` or ``SCALE_NOT_FINITE``, and
        what was written must not be used; or ``CONTEXT_RANGE``, ``ADDRESS_RANGE``, and the memory
        was not accessed.
    memory : Out(memory_port)
        The reading side, with 8 tags.
    memory_write : Out(write_port)
        The writing side.
    counters
        Windows, cycles, beats read, bursts written, windows that failed.

    Raises
    ------
    ValueError
        ``mask_scope``, ``lanes``, ``page_bytes`` or ``write_tag_bits`` is not legal.
    """

    def __init__(
        self,
        config: AttentionConfig,
        *,
        lanes: int,
        page_bytes: int | None = None,
        write_tag_bits: int = 2,
    ) -> None:
        if lanes not in LANES:
            raise ValueError(f"lanes must be one of {LANES}, not {lanes!r}")
        if write_tag_bits not in WRITE_TAG_BITS:
            raise ValueError(
                f"write_tag_bits must be one of {WRITE_TAG_BITS}, not {write_tag_bits!r}"
            )
        self._config = config
        reading = reading_config(config)
        self._fetch = Fetch(reading, page_bytes)
        self._keys = KeyCloser(config, lanes=lanes)
        self._values = ValueCloser(config, lanes=lanes)
        self._plan = ReadPlan(config)
        records = (1, 1, 1, config.group_chunks)
        run = max(2, min(_RUN, _RUNS // config.group_chunks))
        self._writer = RecordWriter(records=records, run=run, tag_bits=write_tag_bits)
        self.counters = (
            Counter("windows", "windows that were closed", unit="windows"),
            Counter("failed", "windows that ended with another status than OK", unit="windows"),
            Counter("busy", "cycles from a window to its answer"),
            Counter("beats", "beats of tail blocks read", unit="beats"),
            Counter("bursts", "bursts of records written", unit="bursts"),
        )
        super().__init__(
            {
                "window": In(stream.Signature(window_layout(config))),
                "answer": Out(stream.Signature(ANSWER)),
                "memory": Out(memory_port(reading)),
                "memory_write": Out(write_port(write_tag_bits)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.fetch = fetch = self._fetch
        m.submodules.headers = headers = HeaderReader(self._config)
        m.submodules.chunk_order = order = ChunkOrder(self._config)
        m.submodules.keys = keys = self._keys
        m.submodules.values = values = self._values
        m.submodules.plan = plan = self._plan
        m.submodules.writer = writer = self._writer
        m.submodules.sections = sections = StreamFIFO(Section, depth=_SEGMENTS)
        connect(m, fetch.memory, flipped(self.memory))
        connect(m, writer.memory, flipped(self.memory_write))

        # A segment is asked for, and what it is goes ahead of its beats.
        planned = plan.segments
        fork(m, planned, fetch.segments, sections.input)
        m.d.comb += [
            fetch.segments.payload.eq(planned.p.segment),
            sections.input.payload.eq(planned.p.section),
        ]
        beats, section = fetch.beats, sections.output
        ready: Value = Const(0, 1)
        sinks = {
            Section.HEADER: headers.beats,
            Section.KEYS: keys.codes,
            Section.VALUES: values.codes,
        }
        for kind, sink in sinks.items():
            here = section.valid & (section.payload == kind)
            m.d.comb += [sink.payload.eq(beats.payload), sink.valid.eq(beats.valid & here)]
            ready = Mux(here, sink.ready, ready)
        moves = beats.valid & beats.ready
        m.d.comb += [beats.ready.eq(ready), section.ready.eq(moves & beats.p.last)]

        connect(m, headers.saliencies, order.saliencies)
        connect(m, headers.pairs, keys.pairs)
        connect(m, headers.value_scales, values.scales)
        # Both take it at any time.
        m.d.comb += order.order.ready.eq(1)
        for unit in (keys, values):
            m.d.comb += [
                unit.order.valid.eq(order.order.valid),
                unit.order.payload.eq(order.order.payload),
            ]
        sources = (
            keys.base_bursts,
            keys.delta_bursts,
            values.scale_bursts,
            values.record_bursts,
        )
        for i, source in enumerate(sources):
            connect(m, source, writer.bursts[i])
        self._control(m, moves & beats.p.error, headers.not_finite)

        windows, failed, busy, beat_count, bursts = (counter.event for counter in self.counters)
        answered = self.answer.valid & self.answer.ready
        taken = [source.valid & source.ready for source in sources]
        m.d.comb += [
            windows.eq(answered & (self.answer.p.status == Status.OK)),
            failed.eq(answered & (self.answer.p.status != Status.OK)),
            busy.eq(~self.window.ready),
            beat_count.eq(moves),
            bursts.eq(taken[0] | taken[1] | taken[2] | taken[3]),
        ]
        return m

    def _control(self, m: Module, read_error: Value, scale_error: Value) -> None:
        """From a window to its answer."""
        keys, values, writer = self._keys, self._values, self._writer
        window = Signal.like(self.window.payload)
        status = Signal(Status)
        memory_error, not_finite = Signal(), Signal()
        sources = (keys.base_bursts, keys.delta_bursts, values.scale_bursts, values.record_bursts)
        written = Signal(len(sources))
        start = Signal()
        m.submodules.places = places = WindowPlaces(self._config)
        m.d.comb += [
            places.window.eq(window),
            self._plan.address.eq(places.tail),
            keys.base_pairs.eq(places.base_pairs),
            keys.base_codes.eq(places.base_codes),
            keys.deltas.eq(places.deltas),
            values.scale_address.eq(places.scales),
            values.records.eq(places.records),
        ]
        m.d.comb += [unit.start.eq(start) for unit in (self._plan, keys, values)]
        for i, source in enumerate(sources):
            with m.If(source.valid & source.ready & source.p.last):
                m.d.sync += written[i].eq(1)
        with m.If(read_error | writer.failed):
            m.d.sync += memory_error.eq(1)
        with m.If(scale_error):
            m.d.sync += not_finite.eq(1)

        aligned = ~(window.base_address | window.chunk_address | window.tail_address)[
            :BURST_SHIFT
        ].any()
        m.d.comb += self.answer.p.status.eq(status)
        with m.FSM():
            with m.State("WINDOW"):
                m.d.comb += self.window.ready.eq(1)
                m.d.sync += [
                    window.eq(self.window.payload),
                    memory_error.eq(0),
                    not_finite.eq(0),
                    written.eq(0),
                ]
                with m.If(self.window.valid):
                    m.next = "CHECK"
            with m.State("CHECK"):
                with m.If(window.window >= window_count(self._config)):
                    m.d.sync += status.eq(Status.CONTEXT_RANGE)
                    m.next = "ANSWER"
                with m.Elif(~aligned):
                    m.d.sync += status.eq(Status.ADDRESS_RANGE)
                    m.next = "ANSWER"
                with m.Else():
                    m.next = "START"
            with m.State("START"):
                m.d.comb += start.eq(1)
                m.next = "CLOSE"
            with m.State("CLOSE"):
                with m.If(memory_error):
                    m.d.sync += status.eq(Status.MEMORY_ERROR)
                with m.Elif(not_finite):
                    m.d.sync += status.eq(Status.SCALE_NOT_FINITE)
                with m.Else():
                    m.d.sync += status.eq(Status.OK)
                with m.If(written.all() & writer.idle):
                    m.next = "ANSWER"
            with m.State("ANSWER"):
                m.d.comb += self.answer.valid.eq(1)
                with m.If(self.answer.ready):
                    m.next = "WINDOW"
