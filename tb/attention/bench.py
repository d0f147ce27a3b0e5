"""The emitted attention core and its memory, as one component that the harness can run."""

from amaranth.hdl import ClockSignal, Instance, Module, ResetSignal, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import AttentionConfig
from hw.cores.job_retire import completion_layout
from hw.cores.normaliser import OUTPUT_LAYOUT
from hw.cores.payloads import chunk_bits, job_layout
from hw.cores.query_store import QUERY_BEAT
from hw.memory.port import request_layout, response_layout, tag_bits

#: Job and query reach the core unchanged; the other streams leave it unchanged.
_STREAMS_IN = ("job", "query")
_STREAMS_OUT = ("selection", "output", "completion")


class AttentionBench(wiring.Component):
    """The module ``attention_core`` of an emitted Verilog file behind the model ``ideal_memory``.

    When ``jobs`` completions have come, every register of the counter bank is read and sent to
    ``counter``, so that the counts stand for exactly these jobs.

    Parameters
    ----------
    config : AttentionConfig
        The one that the Verilog file was emitted for.
    registers : int
        Registers of the core's counter bank.

    Members
    -------
    job, query : In(stream), selection, output, completion : Out(stream)
        The streams of the core.
    counter : Out(stream)
        The registers in address order.
    jobs : In(16)
    memory_beats, memory_requests, memory_busy : Out(32)
        Counts of the memory model.
    """

    def __init__(self, config: AttentionConfig, *, registers: int) -> None:
        self._config = config
        self._registers = registers
        selection = data.StructLayout({"chunk": chunk_bits(config), "last": 1})
        super().__init__(
            {
                "job": In(stream.Signature(job_layout(config))),
                "query": In(stream.Signature(QUERY_BEAT)),
                "selection": Out(stream.Signature(selection)),
                "output": Out(stream.Signature(OUTPUT_LAYOUT)),
                "completion": Out(stream.Signature(completion_layout(config))),
                "counter": Out(stream.Signature(32)),
                "jobs": In(16),
                "memory_beats": Out(32),
                "memory_requests": Out(32),
                "memory_busy": Out(32),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Connect core and memory, and read the counters out at the end."""
        m = Module()
        config = self._config
        request = Signal(request_layout(config))
        response = Signal(response_layout(config))
        request_valid, request_ready = Signal(), Signal()
        response_valid, response_ready = Signal(), Signal()
        address = Signal(range(self._registers))
        read_data = Signal(32)

        ports: dict[str, object] = {
            "i_clk": ClockSignal(),
            "i_rst": ResetSignal(),
            "o_memory__request__valid": request_valid,
            "o_memory__request__payload": request,
            "i_memory__request__ready": request_ready,
            "i_memory__response__valid": response_valid,
            "i_memory__response__payload": response,
            "o_memory__response__ready": response_ready,
            "i_counter_address": address,
            "o_counter_data": read_data,
            "i_counter_clear": 0,
        }
        for names, sent, taken in ((_STREAMS_IN, "i", "o"), (_STREAMS_OUT, "o", "i")):
            for name in names:
                port = getattr(self, name)
                ports[f"{sent}_{name}__valid"] = port.valid
                ports[f"{sent}_{name}__payload"] = port.payload
                ports[f"{taken}_{name}__ready"] = port.ready
        m.submodules.core = Instance("attention_core", **ports)
        m.submodules.memory = Instance(
            "ideal_memory",
            p_BYTES=config.memory_bytes,
            p_TAG_BITS=tag_bits(config),
            i_clk=ClockSignal(),
            i_rst=ResetSignal(),
            i_request__valid=request_valid,
            i_request__payload=request,
            o_request__ready=request_ready,
            o_response__valid=response_valid,
            o_response__payload=response,
            i_response__ready=response_ready,
            o_requests=self.memory_requests,
            o_beats=self.memory_beats,
            o_busy=self.memory_busy,
        )

        # Read the counters out once all jobs are through.
        completed = Signal(16)
        with m.If(self.completion.valid & self.completion.ready):
            m.d.sync += completed.eq(completed + 1)
        with m.FSM():
            with m.State("RUN"):
                with m.If(completed == self.jobs):
                    m.next = "READ"
            with m.State("READ"):
                m.next = "TAKE"
            with m.State("TAKE"):
                m.d.sync += self.counter.payload.eq(read_data)
                m.d.sync += self.counter.valid.eq(1)
                m.next = "SEND"
            with m.State("SEND"):
                with m.If(self.counter.ready):
                    m.d.sync += [self.counter.valid.eq(0), address.eq(address + 1)]
                    with m.If(address == self._registers - 1):
                        m.next = "END"
                    with m.Else():
                        m.next = "READ"
            with m.State("END"):
                pass
        return m
