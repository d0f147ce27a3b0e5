"""Two readers and a writer behind an arbiter at every pseudo-channel of a controller."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.memory.arbiter import ChannelArbiter
from hw.memory.channel_port import channel_response, channel_written
from hw.memory.dram.controller import ControllerConfig, DramController
from hw.memory.port import write_data
from tb.bench.dram.clients import READERS, READS_PER_WRITE, WRITER, clients
from tb.bench.dram.traffic import BYTES
from tb.harness import simulate
from tb.harness.files import BUILD_ROOT
from tb.memory.dram.controller.bench import (
    DEVICE_SOURCES,
    Request,
    Result,
    add_device,
)
from tb.memory.dram.controller.requester import REQUEST_LAYOUT, Requester
from tb.memory.dram.device import COUNTERS
from tb.memory.dram.trace import read_traces

_run_numbers = itertools.count()


class MixedBench(wiring.Component):
    """Streams of requests per client and pseudo-channel, what comes back, the device's counters.

    Parameters
    ----------
    config : ControllerConfig
        ``id_bits`` are those of the arbiter's channel.
    window : int
        Requests of a client under way at most.
    """

    def __init__(self, config: ControllerConfig, window: int) -> None:
        self._config = config
        self._window = window
        channels, gear = config.standard.pseudo_channels, config.gear
        self._clients = replace(config, id_bits=(window - 1).bit_length())
        self._may_write = [Signal(name=f"may_write_{i}") for i in range(channels)]
        bits = self._clients.id_bits
        response = stream.Signature(channel_response(bits, gear))
        super().__init__(
            {
                **{
                    f"{name}_request": In(stream.Signature(REQUEST_LAYOUT)).array(channels)
                    for name in (*READERS, WRITER)
                },
                **{f"{name}_response": Out(response).array(channels) for name in READERS},
                "write_data": In(stream.Signature(write_data(gear))).array(channels),
                "written": Out(stream.Signature(channel_written(bits))).array(channels),
                **{name: Out(64 if name == "bytes_moved" else 32) for name in COUNTERS},
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Connect requesters, arbiters, controller and device."""
        m = Module()
        config = self._config
        m.submodules.controller = controller = DramController(config)
        for i in range(config.standard.pseudo_channels):
            arbiter = ChannelArbiter(clients(self._window), gear=config.gear)
            m.submodules[f"arbiter_{i}"] = arbiter
            connect(m, arbiter.channel, controller.channel[i])
            for name in (*READERS, WRITER):
                requester = Requester(self._clients, self._window)
                m.submodules[f"{name}_{i}"] = requester
                self._connect(m, name, i, requester, arbiter)
            self._pace(m, i)
        add_device(m, config, controller.dram, {name: getattr(self, name) for name in COUNTERS})
        return m

    def _connect(
        self, m: Module, name: str, i: int, requester: Requester, arbiter: ChannelArbiter
    ) -> None:
        """Put a requester between the bench's streams and the client's port of the arbiter."""
        port, channel = getattr(arbiter, name), requester.channel
        if name in READERS:
            connect(m, flipped(getattr(self, f"{name}_request")[i]), requester.request)
        else:
            given, paced = self.write_request[i], requester.request
            m.d.comb += [
                paced.valid.eq(given.valid & self._may_write[i]),
                paced.payload.eq(given.payload),
                given.ready.eq(paced.ready & self._may_write[i]),
            ]
        asked, offered = channel.request, port.request
        m.d.comb += [
            offered.valid.eq(asked.valid),
            offered.payload.address.eq(asked.payload.address),
            offered.payload.bursts_less_one.eq(asked.payload.bursts_less_one),
            offered.payload.tag.eq(asked.payload.id),
            asked.ready.eq(offered.ready),
        ]
        if name in READERS:
            answer, came = port.response, channel.response
            m.d.comb += [
                came.payload.data.eq(answer.payload.data),
                came.payload.beat.eq(answer.payload.beat),
            ]
            connect(m, requester.response, flipped(getattr(self, f"{name}_response")[i]))
        else:
            answer, came = port.written, channel.written
            connect(m, flipped(self.write_data[i]), requester.data)
            connect(m, channel.write_data, port.data)
            connect(m, requester.written, flipped(self.written[i]))
        m.d.comb += [
            came.valid.eq(answer.valid),
            came.payload.id.eq(answer.payload.tag),
            came.payload.error.eq(answer.payload.error),
            answer.ready.eq(came.ready),
        ]

    def _pace(self, m: Module, i: int) -> None:
        """Let a write go for every `READS_PER_WRITE` requests that the readers sent."""
        reads = Signal(range(READS_PER_WRITE), name=f"reads_{i}")
        credit = Signal(16, name=f"credit_{i}")
        ports = [getattr(self, f"{name}_request")[i] for name in READERS]
        sent = Signal(range(len(READERS) + 1), name=f"sent_{i}")
        enough = Signal(name=f"enough_{i}")
        write = self.write_request[i]
        m.d.comb += [
            sent.eq(sum(port.valid & port.ready for port in ports)),
            enough.eq(reads + sent >= READS_PER_WRITE),
            self._may_write[i].eq(credit != 0),
        ]
        m.d.sync += [
            reads.eq(reads + sent - Mux(enough, READS_PER_WRITE, 0)),
            credit.eq(credit + enough - (write.valid & write.ready)),
        ]


def run_mixed(
    config: ControllerConfig,
    requests: Mapping[str, Sequence[Sequence[Request]]],
    *,
    window: int,
    seed: int,
    images: Sequence[str],
    max_cycles: int,
    fast: bool = False,
) -> Result:
    """Run requests, per client a list for each pseudo-channel, with a trace.

    Of requests to write there have to be no more than the others allow, see `READS_PER_WRITE`. The
    outputs are ``<reader>_response__<i>`` and ``written__<i>``. The device stops the run at a
    broken rule.
    """
    standard, gear = config.standard, config.gear
    name = f"mixed_{standard.name.replace('-', '_')}_{gear}"
    words = BYTES // (16 * gear)
    inputs: dict[str, list[int]] = {}
    outputs: dict[str, int] = {}
    for client, lists in requests.items():
        for i, own in enumerate(lists):
            inputs[f"{client}_request__{i}"] = [request.packed for request in own]
            if client in READERS:
                outputs[f"{client}_response__{i}"] = words * len(own)
            else:
                outputs[f"written__{i}"] = len(own)
                inputs[f"write_data__{i}"] = [
                    data | enable << 128 * gear for request in own for data, enable in request.words
                ]
    path = BUILD_ROOT / "runs" / f"{name}-{os.getpid()}-{next(_run_numbers)}.trace"
    path.parent.mkdir(parents=True, exist_ok=True)
    run = simulate(
        MixedBench(config, window),
        name=name,
        inputs=inputs,
        outputs=outputs,
        observe=COUNTERS,
        seed=seed,
        max_cycles=max_cycles,
        sources=DEVICE_SOURCES,
        plusargs=[
            f"+dram_trace={path}",
            *(f"+dram_image{i}={image}" for i, image in enumerate(images)),
        ],
        arguments=["--unroll-count", "2"],
        fast=fast,
        driver="native",  # no Python per clock
    )
    traces = read_traces(path)
    path.unlink()
    return Result(run, traces)
