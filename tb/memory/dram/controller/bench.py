"""The controller with the device model behind it and windows of requests in front of it."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from amaranth.hdl import ClockSignal, Instance, Module, ResetSignal, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.memory.channel_port import channel_response, channel_written
from hw.memory.dram.controller import ControllerConfig, DramController
from hw.memory.port import write_data
from tb.harness import Run, simulate
from tb.harness.files import BUILD_ROOT
from tb.memory.dram.controller.requester import REQUEST_LAYOUT, WAIT_BITS, Requester
from tb.memory.dram.device import COUNTERS, SOURCES, instance_parameters
from tb.memory.dram.trace import Trace, read_traces

DEVICE_SOURCES = [source for source in SOURCES if source.stem != "dram_player"]
_trace_numbers = itertools.count()


class ControllerBench(wiring.Component):
    """Streams of requests per pseudo-channel, what comes back, counters of device and bench.

    ``most_debt`` is the most refreshes that a pseudo-channel owed at a time, ``longest_wait`` is
    the first pseudo-channel's `Requester.longest_wait`.
    """

    def __init__(self, config: ControllerConfig, window: int) -> None:
        self._config = config
        self._window = window
        channels = config.standard.pseudo_channels
        bits, gear = config.id_bits, config.gear
        super().__init__(
            {
                "request": In(stream.Signature(REQUEST_LAYOUT)).array(channels),
                "data": In(stream.Signature(write_data(gear))).array(channels),
                "response": Out(stream.Signature(channel_response(bits, gear))).array(channels),
                "written": Out(stream.Signature(channel_written(bits))).array(channels),
                **{name: Out(64 if name == "bytes_moved" else 32) for name in COUNTERS},
                "most_debt": Out(16),
                **{f"longest_wait_{i}": Out(WAIT_BITS) for i in range(window)},
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Connect requesters, controller and device."""
        m = Module()
        config = self._config
        m.submodules.controller = controller = DramController(config)
        dram = controller.dram
        for i in range(config.standard.pseudo_channels):
            m.submodules[f"requester_{i}"] = requester = Requester(config, self._window)
            connect(m, flipped(self.request[i]), requester.request)
            connect(m, flipped(self.data[i]), requester.data)
            connect(m, requester.channel, controller.channel[i])
            connect(m, requester.response, flipped(self.response[i]))
            connect(m, requester.written, flipped(self.written[i]))
            with m.If(controller.refresh_debt[i] > self.most_debt):
                m.d.sync += self.most_debt.eq(controller.refresh_debt[i])
            if i == 0:
                m.d.comb += [
                    getattr(self, f"longest_wait_{slot}").eq(requester.longest_wait[slot])
                    for slot in range(self._window)
                ]
        add_device(m, config, dram, {name: getattr(self, name) for name in COUNTERS})
        return m


def add_device(
    m: Module, config: ControllerConfig, dram: wiring.PureInterface, counters: Mapping[str, Signal]
) -> None:
    """Put the device model behind a controller's DRAM port, its counters on signals by name."""
    read_data = Signal.like(dram.read_data.as_value())
    m.d.comb += dram.read_data.eq(read_data)
    m.submodules.device = Instance(
        "dram_device",
        **instance_parameters(config.standard, config.gear),
        p_STANDARD=config.standard.name,
        i_clk=ClockSignal(),
        i_rst=ResetSignal(),
        i_command=dram.command,
        i_write_data=dram.write_data,
        i_write_mask=dram.write_mask,
        o_read_data=read_data,
        o_read_valid=dram.read_valid,
        **{f"o_{name}": signal for name, signal in counters.items()},
    )


@dataclass(frozen=True)
class Request:
    """A request of a test: byte address, bursts of 32 bytes, slot, the words if it writes."""

    address: int
    bursts: int
    slot: int = 0
    words: tuple[tuple[int, int], ...] = ()
    """Data and enable per word of 16 bytes times the gear."""

    @property
    def packed(self) -> int:
        """The request as a payload."""
        write = int(bool(self.words))
        return self.address | (self.bursts - 1) << 32 | write << 36 | self.slot << 37


@dataclass(frozen=True)
class Result:
    """What a run gave: the harness's result, the command trace of each run between resets."""

    run: Run
    traces: list[Trace]

    def counter(self, name: str) -> int:
        """A counter of the device or the bench."""
        return self.run.observed[name]


@cache
def _bench(config: ControllerConfig, window: int) -> ControllerBench:
    """One object for all runs: what the harness elaborates of it is kept."""
    return ControllerBench(config, window)


def run_requests(
    config: ControllerConfig,
    requests: Sequence[Sequence[Request]],
    *,
    window: int = 8,
    stall: float = 0.0,
    seed: int = 1,
    reset_at: int | None = None,
    trace: bool = False,
    images: Sequence[Path] = (),
    plusargs: Sequence[str] = (),
    drain: int = 64,
    max_cycles: int = 200_000,
    fast: bool = False,
) -> Result:
    """Run requests, a list per pseudo-channel; the device stops the run at a broken rule."""
    standard, gear = config.standard, config.gear
    name = f"controller_{standard.name.replace('-', '_')}_{gear}"
    words = 2 // gear
    inputs: dict[str, list[int]] = {}
    outputs: dict[str, int] = {}
    stalls: dict[str, float] = {}
    for i, own in enumerate(requests):
        inputs[f"request__{i}"] = [request.packed for request in own]
        inputs[f"data__{i}"] = [
            data | enable << 128 * gear for request in own for data, enable in request.words
        ]
        outputs[f"response__{i}"] = sum(words * r.bursts for r in own if not r.words)
        outputs[f"written__{i}"] = sum(bool(r.words) for r in own)
        stalls |= {f"request__{i}": stall, f"data__{i}": stall}
    arguments = [*plusargs]
    arguments += [f"+dram_image{i}={image}" for i, image in enumerate(images)]
    path = BUILD_ROOT / "runs" / f"{name}-{os.getpid()}-{next(_trace_numbers)}.trace"
    if trace:
        path.parent.mkdir(parents=True, exist_ok=True)
        arguments.append(f"+dram_trace={path}")
    run = simulate(
        _bench(config, window),
        name=name,
        inputs=inputs,
        outputs=outputs,
        observe=[*COUNTERS, "most_debt", *(f"longest_wait_{i}" for i in range(window))],
        stall=stalls,
        seed=seed,
        reset_at=reset_at,
        drain=drain,
        max_cycles=max_cycles,
        sources=DEVICE_SOURCES,
        plusargs=arguments,
        arguments=["--unroll-count", "2"],
        fast=fast,
        driver="native",  # no Python per clock
    )
    traces = read_traces(path) if trace else []
    path.unlink(missing_ok=True)
    return Result(run, traces)
