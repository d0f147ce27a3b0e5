"""Segments through the core's fetch unit, the DRAM controller and the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import BEAT_BYTES, BURST_BYTES, AttentionConfig
from hw.memory.dram import load_standard
from hw.memory.dram.controller import ControllerConfig, DramController
from hw.memory.fetch import SEGMENT_LAYOUT, Fetch
from hw.memory.port import REQUEST_BURSTS, tag_bits
from tb.bench.layouts.layouts import Segment
from tb.harness import pack, simulate
from tb.memory.dram.controller.bench import DEVICE_SOURCES, add_device
from tb.memory.dram.device import COUNTERS

#: Where what is read before the jobs lies; no cache reaches so far.
WARM_ADDRESS = 1 << 28
_REQUEST_BYTES = REQUEST_BURSTS * BURST_BYTES


class WrongTraffic(AssertionError):
    """The device moved other bytes than were asked for."""


@dataclass(frozen=True)
class Replayed:
    """DRAM clocks from the last beat ahead of the jobs to their last one; what the device did."""

    cycles: int
    bytes_moved: int
    activations: int


class ReplayBench(wiring.Component):
    """Fetch unit, controller, first pseudo-channel; counts clocks behind the first ``warm`` beats.

    ``finished`` comes after ``wanted`` beats: whether all were without error.
    """

    def __init__(self, config: AttentionConfig, controller: ControllerConfig) -> None:
        self._config = config
        self._controller = controller
        super().__init__(
            {
                "segments": In(stream.Signature(SEGMENT_LAYOUT)),
                "finished": Out(stream.Signature(1)),
                "warm": In(32),
                "wanted": In(32),
                "cycles": Out(32),
                "errors": Out(32),
                **{name: Out(64 if name == "bytes_moved" else 32) for name in COUNTERS},
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Connect fetch unit, controller and device."""
        m = Module()
        m.submodules.fetch = fetch = Fetch(self._config)
        m.submodules.controller = controller = DramController(self._controller)
        channel = controller.channel[0]
        request, response = fetch.memory.request, fetch.memory.response
        wiring.connect(m, wiring.flipped(self.segments), fetch.segments)
        m.d.comb += [
            channel.request.valid.eq(request.valid),
            channel.request.payload.address.eq(request.payload.address),
            channel.request.payload.bursts_less_one.eq(request.payload.bursts_less_one),
            channel.request.payload.id.eq(request.payload.tag),
            request.ready.eq(channel.request.ready),
            response.valid.eq(channel.response.valid),
            response.payload.data.eq(channel.response.payload.data),
            response.payload.tag.eq(channel.response.payload.id),
            response.payload.beat.eq(channel.response.payload.beat),
            response.payload.error.eq(channel.response.payload.error),
            channel.response.ready.eq(response.ready),
            fetch.beats.ready.eq(1),
        ]
        beats = Signal(32)
        running, told = Signal(), Signal()
        m.d.comb += [
            running.eq((beats >= self.warm) & (beats != self.wanted)),
            self.finished.valid.eq((beats == self.wanted) & ~told),
            self.finished.payload.eq(self.errors == 0),
        ]
        with m.If(self.finished.valid & self.finished.ready):
            m.d.sync += told.eq(1)
        m.d.sync += self.cycles.eq(self.cycles + running)
        with m.If(fetch.beats.valid):
            m.d.sync += beats.eq(beats + 1)
            m.d.sync += self.errors.eq(self.errors + fetch.beats.payload.error)
        counters = {name: getattr(self, name) for name in COUNTERS}
        add_device(m, self._controller, controller.dram, counters)
        return m


@cache
def _bench(config: AttentionConfig, standard: str) -> ReplayBench:
    """One object for all runs: what the harness elaborates of it is kept."""
    return ReplayBench(config, _controller(config, standard))


def _controller(config: AttentionConfig, standard: str) -> ControllerConfig:
    return ControllerConfig(standard=load_standard(standard), id_bits=tag_bits(config))


def replay(config: AttentionConfig, standard: str, segments: Sequence[Segment]) -> Replayed:
    """Read ``segments`` in their order, as soon as the core's reorder buffer has room.

    Before them so much is read that the controller cannot put off its refreshes any longer.

    Raises
    ------
    WrongTraffic
        The device moved other bytes, or a beat has an error.
    HarnessError
        A rule of the standard is broken, or not every beat has come.
    """
    controller = _controller(config, standard)
    clocks = (controller.refresh_debt + 1) * controller.standard["tREFI"]
    requests = clocks * controller.standard.peak_bytes_per_cycle // _REQUEST_BYTES
    ahead = [Segment(WARM_ADDRESS + i * _REQUEST_BYTES, _REQUEST_BYTES) for i in range(requests)]
    every = [*ahead, *segments]
    size = sum(segment.size for segment in every)
    run = simulate(
        _bench(config, standard),
        name=f"layouts_{standard.replace('-', '_')}",
        inputs={
            "segments": [
                pack(SEGMENT_LAYOUT, {"address": s.address, "bursts": s.size // BURST_BYTES})
                for s in every
            ]
        },
        outputs={"finished": 1},
        settings={"warm": requests * _REQUEST_BYTES // BEAT_BYTES, "wanted": size // BEAT_BYTES},
        observe=["cycles", "errors", *COUNTERS],
        max_cycles=4 * size // BEAT_BYTES + 10_000,
        sources=DEVICE_SOURCES,
        arguments=["--unroll-count", "2"],
        driver="native",
    )
    moved, errors = run.observed["bytes_moved"], run.observed["errors"]
    if moved != size or errors:
        raise WrongTraffic(f"{moved} bytes with {errors} errors, not {size}")
    return Replayed(
        cycles=run.observed["cycles"],
        bytes_moved=moved - requests * _REQUEST_BYTES,
        activations=run.observed["activations"],
    )
