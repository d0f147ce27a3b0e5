"""Slices of emitted attention cores behind the distributor, each with a memory."""

from __future__ import annotations

from functools import partial

from amaranth.hdl import ClockSignal, Instance, Module, ResetSignal, Signal
from amaranth.lib import wiring

from hw.config import AttentionConfig
from hw.cores.payloads import job_layout
from hw.distributor import JobDistributor
from hw.distributor.attention import attention_streams, selects
from hw.memory.port import request_layout, response_layout, tag_bits


class SlicesBench(wiring.Component):
    """The streams of one core, and ``slices`` cores behind them. All memories have one content."""

    def __init__(self, config: AttentionConfig, slices: int) -> None:
        self._config = config
        self._slices = slices
        self.streams = attention_streams(config)
        super().__init__({**self.streams.signature.flip().members})

    def elaborate(self, platform: object) -> Module:
        """Connect cores and memories."""
        m = Module()
        config = self._config
        m.submodules.distributor = distributor = JobDistributor(
            self.streams, slices=self._slices, selects=partial(selects, config)
        )
        for name in self.streams.signature.members:
            wiring.connect(m, wiring.flipped(getattr(self, name)), getattr(distributor, name))
        for i in range(self._slices):
            port = distributor.slice[i]
            request = Signal(request_layout(config), name=f"request_{i}")
            response = Signal(response_layout(config), name=f"response_{i}")
            handshake = {
                name: Signal(name=f"{name.replace('__', '_')}_{i}")
                for name in (
                    "request__valid",
                    "request__ready",
                    "response__valid",
                    "response__ready",
                )
            }
            ports: dict[str, object] = {
                "i_clk": ClockSignal(),
                "i_rst": ResetSignal(),
                "o_memory__request__valid": handshake["request__valid"],
                "o_memory__request__payload": request,
                "i_memory__request__ready": handshake["request__ready"],
                "i_memory__response__valid": handshake["response__valid"],
                "i_memory__response__payload": response,
                "o_memory__response__ready": handshake["response__ready"],
                "i_counter_address": 0,
                "i_counter_clear": 0,
            }
            for name in self.streams.signature.members:
                stream = getattr(port, name)
                sent, taken = ("i", "o") if name in ("job", "query") else ("o", "i")
                payload = stream.payload.as_value()
                if name == "job":
                    # The core's descriptor is what lies below the sequence.
                    payload = payload[: job_layout(config).size]
                ports[f"{sent}_{name}__valid"] = stream.valid
                ports[f"{sent}_{name}__payload"] = payload
                ports[f"{taken}_{name}__ready"] = stream.ready
            m.submodules[f"core_{i}"] = Instance("attention_core", **ports)
            m.submodules[f"memory_{i}"] = Instance(
                "ideal_memory",
                p_BYTES=config.memory_bytes,
                p_TAG_BITS=tag_bits(config),
                i_clk=ClockSignal(),
                i_rst=ResetSignal(),
                i_request__valid=handshake["request__valid"],
                i_request__payload=request,
                o_request__ready=handshake["request__ready"],
                o_response__valid=handshake["response__valid"],
                o_response__payload=response,
                i_response__ready=handshake["response__ready"],
            )
        return m
