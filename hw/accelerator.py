"""The accelerator: slices behind a job distributor, DRAM controllers behind the slices."""

from dataclasses import dataclass
from functools import partial
from typing import Any

from amaranth.hdl import Elaboratable, Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.attention_slice import AttentionSlice, slice_streams
from hw.config import AttentionConfig, ConfigError
from hw.distributor import JobDistributor
from hw.distributor.attention import selects
from hw.memory.dram import load_standard
from hw.memory.dram.controller import ControllerConfig, DramController
from hw.memory.dram.port import dram_port
from hw.memory.kv_mmu.config import MmuConfig
from hw.memory.kv_mmu.ports import COMMAND, REPLY
from hw.placement import SLICES


@dataclass(frozen=True, kw_only=True)
class AcceleratorConfig:
    """Parameters of an accelerator.

    Raises
    ------
    ConfigError, StandardError
        A field has an illegal value.
    """

    #: The MMU of each slice, and with it the core.
    mmu: MmuConfig
    #: Slices, each a core and a channel: 1, 2 or 4.
    slices: int = 1
    #: Name of the DRAM standard.
    standard: str = "hbm2-2000"
    #: ``per_bank``, ``all_bank``, or None for the first that the standard has.
    refresh: str | None = None

    def __post_init__(self) -> None:
        if self.slices not in SLICES or isinstance(self.slices, bool):
            raise ConfigError(f"slices must be one of {SLICES}, not {self.slices!r}")
        standard = self.controller(1).standard
        if self.mmu.channel_bytes > standard.bytes:
            raise ConfigError(
                f"channel_bytes must be at most the {standard.bytes} bytes of a channel of "
                f"{standard.name}, not {self.mmu.channel_bytes}"
            )

    def controller(self, id_bits: int) -> ControllerConfig:
        """The configuration of each controller."""
        return ControllerConfig(
            standard=load_standard(self.standard), refresh=self.refresh, id_bits=id_bits
        )

    @property
    def channels_per_controller(self) -> int:
        """Channels behind one controller: the pseudo-channels of the standard."""
        return load_standard(self.standard).pseudo_channels

    @property
    def controllers(self) -> int:
        """DRAM controllers, each with a port of its own."""
        return -(-self.slices // self.channels_per_controller)


class Accelerator(wiring.Component):
    """Attention over caches in DRAM; each slice reads up to 16 bytes per DRAM clock.

    Slice i uses channel i, which is pseudo-channel ``i % channels_per_controller`` of controller
    ``i // channels_per_controller``.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    job, query, selection, output, completion : stream
        See `slice_streams`. Results come in the order of the jobs.
    command, reply : stream, an array over the slices
        Of the host, to the MMU of each slice. A KV head lives in the slice `home_slice`.
    writer : In(write_port), an array over the slices
        Writes to pages, see `AttentionSlice`.
    dram : Out(dram_port), an array over the controllers
    counter_address, counter_data, counter_clear : an array over the slices
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        slices = config.slices
        self._slices = [AttentionSlice(config.mmu) for _ in range(slices)]
        self._controller = config.controller(self._slices[0].id_bits)
        counter = self._slices[0].counter_address.shape()
        standard = self._controller.standard
        super().__init__(
            {
                **slice_streams(config.mmu).signature.flip().members,
                "command": In(stream.Signature(COMMAND)).array(slices),
                "reply": Out(stream.Signature(REPLY)).array(slices),
                "writer": In(self._slices[0].writer.signature.flip()).array(slices),
                "dram": Out(dram_port(standard, 1)).array(config.controllers),
                "counter_address": In(counter).array(slices),
                "counter_data": Out(32).array(slices),
                "counter_clear": In(1),
            }
        )

    @property
    def config(self) -> AttentionConfig:
        """The configuration of the cores."""
        return self._config.mmu.attention

    @property
    def counters(self) -> list[dict[str, Any]]:
        """The registers of each slice, in address order."""
        return self._slices[0].counters

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        config = self._config
        streams = slice_streams(config.mmu)
        m.submodules.distributor = distributor = JobDistributor(
            streams, slices=config.slices, selects=partial(selects, self.config)
        )
        for name in streams.signature.members:
            connect(m, flipped(getattr(self, name)), getattr(distributor, name))
        controllers = []
        for i in range(config.controllers):
            m.submodules[f"controller_{i}"] = controller = DramController(self._controller)
            connect(m, controller.dram, flipped(self.dram[i]))
            controllers.append(controller)
        for i, part in enumerate(self._slices):
            m.submodules[f"slice_{i}"] = part
            for name in streams.signature.members:
                connect(m, getattr(distributor.slice[i], name), getattr(part, name))
            connect(m, flipped(self.command[i]), part.command)
            connect(m, part.reply, flipped(self.reply[i]))
            connect(m, flipped(self.writer[i]), part.writer)
            unit, channel = divmod(i, config.channels_per_controller)
            connect(m, part.channel, controllers[unit].channel[channel])
            m.d.comb += [
                part.counter_address.eq(self.counter_address[i]),
                self.counter_data[i].eq(part.counter_data),
                part.counter_clear.eq(self.counter_clear),
            ]
        return m
