"""A decode core and its memory, as one component that the harness can run."""

from amaranth.hdl import ClockSignal, Instance, Module, Mux, ResetSignal, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.config import AttentionConfig
from hw.cores.compressor.window_closer import reading_config
from hw.cores.decode_core import DecodeCore
from hw.counters import Counter
from hw.streams import StreamFIFO

_INPUTS = ("job", "query", "token", "prompt")
_OUTPUTS = ("selection", "output", "completion", "imported")


class GenerationBench(wiring.Component):
    """`DecodeCore` behind the model ``writable_memory``, whose log is marked with completions.

    Parameters
    ----------
    config : AttentionConfig

    Members
    -------
    job, query, token, prompt : In(stream), selection, output, completion, imported : Out(stream)
        Those of the core.
    prompts : In(16)
        Jobs begin when so many are imported.
    shared : In(1)
        Reads and writes share one port: in a cycle with a beat that is written none is answered.
    beats_read, beats_written : Out(32)
        Counts of the memory model.
    events : Out(32) for each of the core's ``events``, by name.
    """

    def __init__(self, config: AttentionConfig) -> None:
        self._config = config
        self._core = DecodeCore(config)
        members = self._core.signature.members
        super().__init__(
            {
                **{name: members[name] for name in (*_INPUTS, *_OUTPUTS)},
                "prompts": In(16),
                "shared": In(1),
                "beats_read": Out(32),
                "beats_written": Out(32),
                **{counter.name: Out(32) for counter in self._core.events},
            }
        )

    @property
    def events(self) -> list[Counter]:
        """Events of the core that are counted."""
        return self._core.events

    def elaborate(self, platform: object) -> Module:
        """Connect core and memory, and count the events."""
        m = Module()
        m.submodules.core = core = self._core
        for name in _INPUTS[1:]:
            connect(m, flipped(getattr(self, name)), getattr(core, name))
        imported, go = Signal(16), Signal()
        with m.If(self.imported.valid & self.imported.ready):
            m.d.sync += imported.eq(imported + 1)
        m.d.comb += [
            go.eq(imported >= self.prompts),
            core.job.payload.eq(self.job.payload),
            core.job.valid.eq(self.job.valid & go),
            self.job.ready.eq(core.job.ready & go),
        ]
        for name in _OUTPUTS:
            connect(m, getattr(core, name), flipped(getattr(self, name)))
        completed = Signal(32)
        with m.If(self.completion.valid & self.completion.ready):
            m.d.sync += completed.eq(completed + 1)
        for counter in core.events:
            count = getattr(self, counter.name)
            m.d.sync += count.eq(count + counter.event)
        ports: dict[str, object] = {}
        read, write = core.memory, core.memory_write
        answers = stream.Signature(read.response.payload.shape()).create()
        self._connect_answers(m, answers)
        for prefix, port, out in (
            ("request", read.request, True),
            ("response", answers, False),
            ("write__request", write.request, True),
            ("write__data", write.data, True),
            ("write__written", write.written, False),
        ):
            given, taken = ("i", "o") if out else ("o", "i")
            ports[f"{given}_{prefix}__valid"] = port.valid
            ports[f"{given}_{prefix}__payload"] = port.payload
            ports[f"{taken}_{prefix}__ready"] = port.ready
        m.submodules.memory = Instance(
            "writable_memory",
            p_BYTES=self._config.memory_bytes,
            p_TAG_BITS=len(read.request.payload.tag),
            p_WRITE_TAG_BITS=len(write.request.payload.tag),
            i_clk=ClockSignal(),
            i_rst=ResetSignal(),
            i_mark=completed,
            o_beats=self.beats_read,
            o_written=self.beats_written,
            **ports,
        )
        return m

    def _connect_answers(self, m: Module, answers: stream.Interface) -> None:
        """Those of the memory go to the core, or wait for cycles in which nothing is written."""
        response, written = self._core.memory.response, self._core.memory_write.data
        # All that may be asked for, by the attention core, the closer and the import.
        room = self._config.reorder_beats + 2 * reading_config(self._config).reorder_beats
        m.submodules.answers = waiting = StreamFIFO(response.payload.shape(), depth=room)
        free = ~(written.valid & written.ready)
        m.d.comb += [
            answers.ready.eq(1),
            waiting.input.payload.eq(answers.payload),
            waiting.input.valid.eq(answers.valid & self.shared),
            waiting.output.ready.eq(free),
            response.payload.eq(Mux(self.shared, waiting.output.payload, answers.payload)),
            response.valid.eq(Mux(self.shared, waiting.output.valid & free, answers.valid)),
        ]
