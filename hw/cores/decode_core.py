"""An attention core that writes its caches: tokens in, attention out, windows closed."""

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.config import BEAT_BITS, AttentionConfig
from hw.cores.attention_core import AttentionCore
from hw.cores.compressor.block_gather import BlockGather
from hw.cores.compressor.burst_builder import BurstBuilder
from hw.cores.compressor.record_writer import RecordWriter
from hw.cores.compressor.sharing import JOBS, PROMPTS, AppenderShare, CloserShare
from hw.cores.compressor.tail_appender import TailAppender
from hw.cores.compressor.window_closer import WindowCloser, reading_config
from hw.cores.job_admission import JobAdmission, started_layout
from hw.cores.job_finish import JobFinish, finished_layout
from hw.cores.prompt_import import IMPORTED, PROMPT, PromptImport
from hw.cores.slot_map import SlotMap
from hw.counters import Counter
from hw.memory.port import read_port, tag_bits, write_port
from hw.memory.read_merge import ReadMerge
from hw.memory.write_merge import WriteMerge
from hw.streams import StreamFIFO

#: Numbers that the quantisers take in a cycle, unless said otherwise.
DEFAULT_LANES = 4
#: Most bursts of a tail block, and of saliencies, that are written with one request.
_TOKEN_RUN, _SALIENCY_RUN = 8, 4
#: Core, closer of windows, import of prompts.
_READERS = 3
#: Of each writer, unless said otherwise: a token has a dozen writes, and waits for none of the
#: token before.
DEFAULT_WRITE_TAG_BITS = 4
#: Appender, saliencies, closer of windows.
_WRITERS = 3


class DecodeCore(wiring.Component):
    """`AttentionCore` with all that makes its caches: docs/contracts.md, section 10.

    A job of mode `KVO` brings its newest token, which is appended before the job is admitted, while
    the jobs before it run. When it has run, the saliencies of its tail are written, and if its tail
    is two windows the older one closes; then it completes. With ``slots`` jobs of mode `SLOTS` do
    the same in caches of constant size, of which nothing closes: docs/contracts.md, section 11.
    Jobs of one cache may follow each other: the next one waits for the end of the one before.

    Parameters
    ----------
    config : AttentionConfig
    page_bytes : int or None
        No memory request crosses a multiple of this, see `Fetch`.
    lanes : int
        Numbers that the quantisers take in a cycle: 4 or 8.
    write_tag_bits : int
        Two to this power writes of tokens, of saliencies and of closed windows may be under way,
        see `WindowCloser`. Prompts are imported at the pace of their beats if so many cover the
        latency of a write.
    staging : bool
        Whether prompts are read through a port of their own.

    Members
    -------
    job, query, selection, output, completion : stream
        As of `AttentionCore`; ``value_scale`` of a job of mode `KVO` or `SLOTS` is that of its
        token's value. A completion is a `finished_layout`.
    token : In(stream of 16 bytes)
        Key and value of each job of mode `KVO` or `SLOTS`, see `TailAppender`; of refused ones,
        too.
    prompt, imported : stream
        Prompts that become caches beside the jobs, see `PromptImport`. No job of the cache may be
        under way.
    memory : Out(read_port), memory_write : Out(write_port)
    prompt_memory : Out(memory_port), only with ``staging``
    counter_address, counter_data, counter_clear
        As of `AttentionCore`.
    """

    def __init__(
        self,
        config: AttentionConfig,
        page_bytes: int | None = None,
        *,
        lanes: int = DEFAULT_LANES,
        write_tag_bits: int = DEFAULT_WRITE_TAG_BITS,
        staging: bool = False,
    ) -> None:
        self._config = config
        self._core = AttentionCore(config, page_bytes, writes=True)
        self._write_tag_bits = write_tag_bits
        self._closer = WindowCloser(
            config, lanes=lanes, page_bytes=page_bytes, write_tag_bits=write_tag_bits
        )
        self._appender = TailAppender(config, lanes=lanes)
        self._admission = JobAdmission(config)
        self._finish = JobFinish(config)
        self._share = AppenderShare(config)
        self._prompts = PromptImport(config, page_bytes)
        self._staging = staging
        self._readers = _READERS - staging
        self._read_tags = max(tag_bits(config), tag_bits(reading_config(config)))
        names = ("job", "query", "selection", "output", "completion")
        streams = {name: self._core.signature.members[name] for name in names}
        prompt_memory = self._prompts.signature.members["memory"]
        counter_names = ("counter_address", "counter_data", "counter_clear")
        super().__init__(
            {
                **streams,
                "completion": Out(stream.Signature(finished_layout(config))),
                **{name: self._core.signature.members[name] for name in counter_names},
                "token": In(stream.Signature(BEAT_BITS)),
                "prompt": In(stream.Signature(PROMPT)),
                "imported": Out(stream.Signature(IMPORTED)),
                "memory": Out(read_port(self._read_tags + (self._readers - 1).bit_length())),
                **({"prompt_memory": prompt_memory} if staging else {}),
                "memory_write": Out(write_port(write_tag_bits + (_WRITERS - 1).bit_length())),
            }
        )

    @property
    def config(self) -> AttentionConfig:
        """The configuration it was built for."""
        return self._config

    @property
    def counters(self) -> list[dict[str, object]]:
        """The registers behind ``counter_address``, in address order."""
        return self._core.counters

    @property
    def events(self) -> list[Counter]:
        """Counters of the writing side, to be put into a bank."""
        units = (self._admission, self._finish, self._prompts, self._closer)
        return [counter for unit in units for counter in unit.counters]

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        m.submodules.core = core = self._core
        m.submodules.appender = appender = self._appender
        m.submodules.closer = closer = self._closer
        m.submodules.admission = admission = self._admission
        m.submodules.finish = finish = self._finish
        m.submodules.started = started = StreamFIFO(
            started_layout(config), depth=config.jobs_in_flight
        )
        for name in ("job", "query"):
            connect(m, flipped(getattr(self, name)), getattr(core, name))
        for name in ("selection", "output"):
            connect(m, getattr(core, name), flipped(getattr(self, name)))
        m.d.comb += [
            core.counter_address.eq(self.counter_address),
            self.counter_data.eq(core.counter_data),
            core.counter_clear.eq(self.counter_clear),
        ]

        # The way of a job: announced, appended, admitted; done, written, closed, completed.
        connect(m, core.announced, admission.jobs)
        connect(m, flipped(self.token), admission.beats)
        connect(m, admission.admitted, core.admitted)
        connect(m, admission.started, started.input)
        connect(m, started.output, finish.started)
        connect(m, core.completion, finish.done)
        connect(m, core.saliency, finish.saliency)
        connect(m, finish.completion, flipped(self.completion))
        m.d.comb += admission.finished.eq(finish.finished)
        prompts = self._connect_prompts(m)

        if config.slots:
            m.submodules.slot_map = slot_map = SlotMap(config)
            connect(m, admission.asked, slot_map.asked)
            m.d.comb += [
                admission.place.eq(slot_map.place),
                core.slot_uses.eq(slot_map.uses),
                slot_map.victim.eq(core.victim),
                finish.placed.eq(slot_map.placed),
                slot_map.kept.eq(finish.kept),
            ]

        # Memory: three units read; tokens, saliencies and closed windows are written.
        m.submodules.builder = builder = BurstBuilder()
        m.submodules.token_writer = tokens = RecordWriter(
            records=[1, 1], run=_TOKEN_RUN, tag_bits=self._write_tag_bits
        )
        m.submodules.saliency_writer = saliencies = RecordWriter(
            records=[1], run=_SALIENCY_RUN, tag_bits=self._write_tag_bits
        )
        connect(m, finish.pieces, builder.pieces)
        m.submodules.gather = gather = BlockGather(config)
        connect(m, appender.bursts, gather.bursts)
        m.d.comb += gather.origin.eq(appender.origin)
        connect(m, gather.passed, tokens.bursts[0])
        connect(m, gather.blocks, tokens.bursts[1])
        connect(m, builder.bursts, saliencies.bursts[0])
        # What was sent is written when the writer is idle; tokens of prompts follow each other, so
        # that it need not be, and the import asks by a fence.
        sent = [Signal(name=f"sent_{name}") for name in ("job", "saliency")]
        share = self._share
        appended = appender.bursts.valid & appender.bursts.ready & appender.bursts.payload.last
        saved = builder.bursts.valid & builder.bursts.ready & builder.bursts.payload.last
        for waits, event, writer, written in (
            (sent[0], appended & (share.of == JOBS), tokens, admission.appended),
            (sent[1], saved, saliencies, finish.written),
        ):
            m.d.comb += written.eq(waits & writer.idle)
            with m.If(event):
                m.d.sync += waits.eq(1)
            with m.Elif(written):
                m.d.sync += waits.eq(0)
        m.d.comb += [
            prompts.appended.eq(gather.left),
            tokens.fence.eq(prompts.fence),
            prompts.fenced.eq(tokens.fenced),
            share.ended.eq(appended),
            share.written.eq(admission.appended),
            finish.failed.eq(saliencies.failed),
            # A write of a token that fails spoils both that may be meant.
            admission.failed.eq(tokens.failed),
            prompts.failed.eq(tokens.failed),
            admission.not_finite.eq(appender.not_finite & (share.of == JOBS)),
            prompts.not_finite.eq(appender.not_finite & (share.of == PROMPTS)),
        ]
        m.submodules.reads = reads = ReadMerge(self._readers, tag_bits=self._read_tags)
        m.submodules.writes = writes = WriteMerge(_WRITERS, tag_bits=self._write_tag_bits)
        readers = [core.memory, closer.memory]
        if self._staging:
            connect(m, prompts.memory, flipped(self.prompt_memory))
        else:
            readers.append(prompts.memory)
        for i, reader in enumerate(readers):
            self._connect_reader(m, reader, reads.readers[i])
        for i, writer_port in enumerate((tokens.memory, saliencies.memory, closer.memory_write)):
            connect(m, writer_port, writes.writers[i])
        connect(m, reads.memory, flipped(self.memory))
        connect(m, writes.memory, flipped(self.memory_write))
        return m

    def _connect_prompts(self, m: Module) -> PromptImport:
        """Jobs and prompts share the appender and the closer of windows."""
        admission, finish = self._admission, self._finish
        m.submodules.prompts = prompts = self._prompts
        m.submodules.appender_share = share = self._share
        m.submodules.closer_share = windows = CloserShare(self._config)
        connect(m, flipped(self.prompt), prompts.prompt)
        connect(m, prompts.imported, flipped(self.imported))
        for i, unit in ((JOBS, admission), (PROMPTS, prompts)):
            connect(m, unit.token, share.tokens[i])
            connect(m, unit.token_beats, share.beats[i])
        for i, closing in ((JOBS, finish), (PROMPTS, prompts)):
            connect(m, closing.window, windows.windows[i])
            connect(m, windows.answers[i], closing.answer)
        connect(m, share.token, self._appender.token)
        connect(m, share.token_beats, self._appender.beats)
        connect(m, windows.window, self._closer.window)
        connect(m, self._closer.answer, windows.answer)
        return prompts

    @staticmethod
    def _connect_reader(
        m: Module, reader: wiring.PureInterface, port: wiring.PureInterface
    ) -> None:
        """Tags of a reader may have fewer bits than those of the port."""
        m.d.comb += [
            port.request.valid.eq(reader.request.valid),
            port.request.payload.address.eq(reader.request.payload.address),
            port.request.payload.bursts_less_one.eq(reader.request.payload.bursts_less_one),
            port.request.payload.tag.eq(reader.request.payload.tag),
            reader.request.ready.eq(port.request.ready),
            reader.response.valid.eq(port.response.valid),
            port.response.ready.eq(reader.response.ready),
            *(
                reader.response.payload[field].eq(port.response.payload[field])
                for field in ("data", "tag", "beat", "error")
            ),
        ]
